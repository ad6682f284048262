"""Single operators as ONNX files, one a file, for `imported.py`.

    python benches/peers/operators.py DIR
    python benches/peers/imported.py DIR --heading "Single operators" --append --threads 1

What a network has between its convolutions, at sizes that networks have. Each file has one input and one output, so that
an engine can neither fuse it with others nor choose a layout for its neighbours' sake. Weights are random numbers.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LARGE = (1, 64, 256, 256)
TOKENS = (1, 197, 768)


class Graph:
    """A graph under construction: `add` gives the name of what a node computes."""

    def __init__(self, shape):
        self.shape, self.nodes, self.weights = shape, [], []
        self.rng = np.random.default_rng(0)

    def weight(self, value):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def number(self, value):
        return self.weight(np.float32(value))

    def random(self, *shape, scale=1.0):
        return self.weight((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def add(self, op, *inputs, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def model(self, output, opset):
        """The whole, whose output is what the last node computes."""
        assert self.nodes[-1].output[0] == output
        # Inference leaves the shape of a norm open, which is the input's.
        shape = self.shape if self.nodes[-1].op_type == "GroupNormalization" else None
        ports = [("x", self.shape), (output, shape)]
        x, y = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ports]
        graph = helper.make_graph(self.nodes, "operator", [x], [y], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        onnx.checker.check_model(model)
        return model


def conv_transpose(inputs, outputs, size, kernel, stride, pad, output_pad):
    g = Graph((1, inputs, size, size))
    weight, bias = g.random(inputs, outputs, kernel, kernel, scale=0.05), g.random(outputs)
    attributes = dict(kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, output_padding=[output_pad] * 2)
    return g, g.add("ConvTranspose", "x", weight, bias, **attributes)


def instance_norm():
    g = Graph(LARGE)
    return g, g.add("InstanceNormalization", "x", g.random(64), g.random(64), epsilon=1e-5)


def group_norm():
    g = Graph(LARGE)
    return g, g.add("GroupNormalization", "x", g.random(64), g.random(64), num_groups=8, epsilon=1e-5)


def group_norm_as_exported():
    """As torch.onnx.export writes it: an instance norm of rows, then factors and terms of channels."""
    g = Graph(LARGE)
    rows = g.add("Reshape", "x", g.weight(np.array([0, 8, -1], np.int64)))
    ones, zeros = g.weight(np.ones(8, np.float32)), g.weight(np.zeros(8, np.float32))
    rows = g.add("InstanceNormalization", rows, ones, zeros, epsilon=1e-5)
    image = g.add("Reshape", rows, g.weight(np.array(LARGE, np.int64)))
    return g, g.add("Add", g.add("Mul", image, g.random(64, 1, 1)), g.random(64, 1, 1))


def resize(mode, factor, **attributes):
    g = Graph(LARGE)
    scales = g.weight(np.array([1, 1, factor, factor], np.float32))
    return g, g.add("Resize", "x", "", scales, mode=mode, **attributes)


def softmax():
    g = Graph((1, 12, 197, 197))
    return g, g.add("Softmax", "x", axis=-1)


def permuted_channels():
    g = Graph((1, 64, 128, 128))
    return g, g.add("Gather", "x", g.weight(g.rng.permutation(64).astype(np.int64)), axis=1)


def gelu_erf():
    g = Graph((1, 197, 3072))
    erf = g.add("Erf", g.add("Div", "x", g.number(2**0.5)))
    return g, g.add("Mul", g.add("Mul", "x", g.add("Add", erf, g.number(1))), g.number(0.5))


def gelu_tanh():
    g = Graph((1, 197, 3072))
    cube = g.add("Mul", g.add("Pow", "x", g.number(3)), g.number(0.044715))
    inner = g.add("Mul", g.add("Add", "x", cube), g.number((2 / np.pi) ** 0.5))
    return g, g.add("Mul", g.add("Mul", "x", g.number(0.5)), g.add("Add", g.add("Tanh", inner), g.number(1)))


def layer_norm():
    g = Graph(TOKENS)
    return g, g.add("LayerNormalization", "x", g.random(768), g.random(768), axis=-1, epsilon=1e-6)


def layer_norm_written_out():
    g = Graph(TOKENS)
    centred = g.add("Sub", "x", g.add("ReduceMean", "x", g.weight(np.array([-1], np.int64))))
    square = g.add("Pow", centred, g.number(2))
    variance = g.add("ReduceMean", square, g.weight(np.array([-1], np.int64)))
    deviation = g.add("Sqrt", g.add("Add", variance, g.number(1e-6)))
    return g, g.add("Add", g.add("Mul", g.add("Div", centred, deviation), g.random(768)), g.random(768))


def of_image(op, shape=LARGE, **attributes):
    g = Graph(shape)
    return g, g.add(op, "x", **attributes)


def pad_reflect():
    g = Graph(LARGE)
    return g, g.add("Pad", "x", g.weight(np.array([0, 0, 3, 3, 0, 0, 3, 3], np.int64)), mode="reflect")


OPERATORS = {
    "conv_transpose 9x9 /3, 56 to 1, 256x256": lambda: conv_transpose(56, 1, 256, 9, 3, 4, 2),
    "conv_transpose 4x4 /2, 64 to 3, 128x128": lambda: conv_transpose(64, 3, 128, 4, 2, 1, 0),
    "conv_transpose 3x3 /2, 128 to 64, 64x64": lambda: conv_transpose(128, 64, 64, 3, 2, 1, 1),
    "instance norm, 64x256x256": instance_norm,
    "group norm, 64x256x256": group_norm,
    "group norm as exported, 64x256x256": group_norm_as_exported,
    "resize nearest 2x, 64x256x256": lambda: resize(
        "nearest", 2, coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    ),
    "resize bilinear 2x, 64x256x256": lambda: resize("linear", 2, coordinate_transformation_mode="half_pixel"),
    "softmax, 12x197x197": softmax,
    "gather of channels, 64x128x128": permuted_channels,
    "gelu by erf, 197x3072": gelu_erf,
    "gelu by tanh, 197x3072": gelu_tanh,
    "layer norm, 197x768": layer_norm,
    "layer norm written out, 197x768": layer_norm_written_out,
    "lrn, 96x55x55": lambda: of_image("LRN", (1, 96, 55, 55), size=5, alpha=1e-4, beta=0.75),
    "global max pool, 64x256x256": lambda: of_image("GlobalMaxPool"),
    "global average pool, 64x256x256": lambda: of_image("GlobalAveragePool"),
    "max pool 3x3 /2, 64x112x112": lambda: of_image(
        "MaxPool", (1, 64, 112, 112), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]
    ),
    "transpose to channels last, 64x256x256": lambda: of_image("Transpose", perm=[0, 2, 3, 1]),
    "pixel shuffle 2x, 64x256x256": lambda: of_image("DepthToSpace", blocksize=2, mode="CRD"),
    "pad reflect 3, 64x256x256": pad_reflect,
    "sigmoid, 64x256x256": lambda: of_image("Sigmoid"),
}

# Operators that an earlier opset does not have, or that torch.onnx.export writes for a later one.
OPSETS = {"group norm, 64x256x256": 21}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dir", type=Path)
    args = parser.parse_args()
    args.dir.mkdir(parents=True, exist_ok=True)
    for name, make in OPERATORS.items():
        graph, output = make()
        file = name.replace("/", "s").replace(",", "").replace(" ", "_")
        onnx.save(graph.model(output, OPSETS.get(name, 18)), args.dir / f"{file}.onnx")


if __name__ == "__main__":
    main()
