"""ONNX models for the tests of importing.

    python tests/import/make.py    # needs torch, torchvision, onnx, onnxscript and numpy; writes beside itself

- `torchvision/NETWORK.EXPORTER.npz`: torchvision's classifiers as both of PyTorch's exporters write them: the same
  layers, labels and structure, with a fraction of the channels, so that they are small. Weights are drawn from few
  values, so that they compress.
- Small models for the command line: `small.onnx`, `external.onnx` with its data in `external.onnx.data`, `open.onnx`,
  which leaves its height and width open, and `unsupported.onnx`, which takes what netc does not have.
- `written_out.onnx`: functions of the language, each spelled in primitives as programs do it.
"""

import io
import logging
import pathlib
import warnings
import zlib

import numpy as np
import onnx
import torch
import torchvision
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

# By how much channels are divided, and the side of the images.
NETWORKS = {
    "resnet34": (32, 64),
    "resnet50": (32, 64),
    "googlenet": (8, 64),
    "squeezenet1_0": (8, 64),
    "densenet121": (16, 64),
    "mobilenet_v2": (8, 64),
    "vgg11_bn": (64, 224),
    "inception_v3": (16, 107),
}
CLASSES = 10


def coarse(tensor, generator):
    """Values of a normal distribution's width, of which there are few."""
    steps = torch.randint(-1, 2, tensor.shape, generator=generator).float()
    return steps * (1 / max(1, tensor[0].numel()) ** 0.5)


def thin(module, factor, generator):
    """Divides the channels of all layers, and the classes down to a few."""

    def less(channels):
        return channels if channels <= 3 else max(1, channels // factor)

    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d):
            depthwise = layer.groups > 1
            layer.in_channels, layer.out_channels = less(layer.in_channels), less(layer.out_channels)
            if layer.out_channels == 1000 // factor:
                layer.out_channels = CLASSES
            layer.groups = layer.in_channels if depthwise else 1
            shape = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)
            layer.weight = torch.nn.Parameter(coarse(torch.empty(shape), generator))
            if layer.bias is not None:
                layer.bias = torch.nn.Parameter(coarse(torch.empty(layer.out_channels, 1), generator)[:, 0])
        elif isinstance(layer, torch.nn.BatchNorm2d):
            size = layer.num_features = less(layer.num_features)
            step = torch.randint(2, 7, (4, size), generator=generator) / 4
            layer.weight, layer.bias = torch.nn.Parameter(step[0]), torch.nn.Parameter(step[1] - 1)
            layer.running_mean, layer.running_var = step[2] - 1, step[3]
        elif isinstance(layer, torch.nn.Linear):
            layer.in_features = less(layer.in_features)
            layer.out_features = CLASSES if layer.out_features == 1000 else less(layer.out_features)
            shape = (layer.out_features, layer.in_features)
            layer.weight = torch.nn.Parameter(coarse(torch.empty(shape), generator))
            layer.bias = torch.nn.Parameter(torch.zeros(layer.out_features))
    return module.eval()


def network(name, factor):
    generator = torch.Generator().manual_seed(0)
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return thin(getattr(torchvision.models, name)(weights=None, **options), factor, generator)


def torchscript(model, image):
    file = io.BytesIO()
    names = {"input_names": ["input"], "output_names": ["output"], "dynamic_axes": {"input": {0: "batch"}}}
    torch.onnx.export(model, (image,), file, dynamo=False, opset_version=17, **names)
    return file.getvalue()


def dynamo(model, image):
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.onnx.export(model, (image,), dynamo=True, dynamic_shapes=shapes, verbose=False)
    proto = program.model_proto
    # Of what is said about each node (many times the model's size), only which module it belongs to is kept.
    for node in proto.graph.node:
        scopes = [p for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"]
        del node.metadata_props[:]
        node.metadata_props.extend(scopes)
    del proto.graph.value_info[:]
    return proto.SerializeToString()


def torchvision_models():
    for name, (factor, side) in NETWORKS.items():
        image = torch.zeros(2, 3, side, side)
        for export in (torchscript, dynamo):
            yield f"{name}.{export.__name__}", export(network(name, factor), image)


def weight(name, *shape):
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    values = generator.integers(-4, 5, shape).astype(np.float32) / 8
    return numpy_helper.from_array(values, name)


def save(name, nodes, inputs, outputs, weights, **options):
    def info(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes, "main_graph", [info(*i) for i in inputs], [info(*o) for o in outputs], initializer=weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="make.py")
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, HERE / name, **options)


def block(x, scope, channels):
    """Two convolutions and a skip, called as PyTorch would."""
    conv = lambda x, y, i: helper.make_node(
        "Conv", [x, f"{scope}.conv{i}.weight", f"{scope}.conv{i}.bias"], [y], f"/{scope}/conv{i}/Conv", pads=[1] * 4
    )
    nodes = [
        conv(x, f"{scope}a", 1),
        helper.make_node("Relu", [f"{scope}a"], [f"{scope}b"], f"/{scope}/Relu"),
        conv(f"{scope}b", f"{scope}c", 2),
        helper.make_node("Add", [f"{scope}c", x], [f"{scope}d"], f"/{scope}/Add"),
        helper.make_node("Relu", [f"{scope}d"], [f"{scope}e"], f"/{scope}/Relu_1"),
    ]
    weights = [weight(f"{scope}.conv{i}.weight", channels, channels, 3, 3) for i in (1, 2)]
    return nodes, weights + [weight(f"{scope}.conv{i}.bias", channels) for i in (1, 2)], f"{scope}e"


def small():
    """A stem, two blocks and a classifier."""
    nodes = [helper.make_node("Conv", ["image", "stem.weight"], ["s"], "/stem/Conv", strides=[2, 2], pads=[1] * 4)]
    weights = [weight("stem.weight", 4, 3, 3, 3), weight("fc.weight", 5, 4), weight("fc.bias", 5)]
    value = "s"
    for scope in ("blocks.0", "blocks.1"):
        more, of_block, value = block(value, scope, 4)
        nodes, weights = nodes + more, weights + of_block
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["p"], "/pool/GlobalAveragePool"),
        helper.make_node("Flatten", ["p"], ["f"], "/Flatten"),
        helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], ["scores"], "/fc/Gemm", transB=1),
    ]
    return nodes, [("image", ["N", 3, 12, 12])], [("scores", ["N", 5])], weights


class Spelling:
    """Nodes one behind the other; a value is called after its number."""

    def __init__(self):
        self.nodes, self.weights = [], []

    def __call__(self, operator, *inputs, **attributes):
        names = [value if isinstance(value, str) else self.known(value) for value in inputs]
        self.nodes.append(helper.make_node(operator, names, [f"v{len(self.nodes)}"], **attributes))
        return self.nodes[-1].output[0]

    def known(self, value):
        array = np.array(value, np.int64 if isinstance(value, list) else np.float32)
        self.weights.append(numpy_helper.from_array(array, f"known{len(self.weights)}"))
        return self.weights[-1].name

    def parameter(self, name, *shape):
        self.weights.append(weight(name, *shape))
        return name


def written_out():
    """The normalisation of an input, norms by a quotient and by an inverse, both forms of GELU, gates, shuffles."""
    f = Spelling()
    channels = []
    for i, (factor, term) in enumerate([(0.5, -0.25), (0.25, 0.5), (2.0, 1.0)]):
        channel = f("Gather", "image", [i], axis=1)
        channels.append(f("Add", f("Mul", channel, factor), term))
    x = f("Concat", *channels, axis=1)
    x = f("Conv", x, f.parameter("stem.weight", 8, 3, 1, 1))

    def norm(x, scope, inverse):
        centred = f("Sub", x, f("ReduceMean", x, axes=[1]))
        variance = f("ReduceMean", f("Pow", centred, 2.0), axes=[1])
        deviation = f("Sqrt", f("Add", variance, 1e-6))
        x = f("Mul", centred, f("Reciprocal", deviation)) if inverse else f("Div", centred, deviation)
        x = f("Mul", x, f.parameter(f"{scope}.weight", 8, 1, 1))
        return f("Add", x, f.parameter(f"{scope}.bias", 8, 1, 1))

    x = norm(x, "norm1", False)
    x = f("Mul", f("Mul", x, f("Add", f("Erf", f("Div", x, 2**0.5)), 1.0)), 0.5)
    x = norm(x, "norm2", True)
    cubic = f("Mul", f("Add", x, f("Mul", f("Pow", x, 3.0), 0.044715)), (2 / np.pi) ** 0.5)
    x = f("Mul", f("Mul", x, 0.5), f("Add", f("Tanh", cubic), 1.0))
    x = f("Mul", x, f("Sigmoid", x))
    x = f("Mul", x, f("Div", f("Clip", f("Add", x, 3.0), 0.0, 6.0), 6.0))
    x = f("Mul", f("Mul", x, 2.0), 3.0)

    def moved(x, split, perm, to):
        return f("Reshape", f("Transpose", f("Reshape", x, split), perm=perm), to)

    x = moved(x, [0, 2, 4, 6, 6], [0, 2, 1, 3, 4], [0, 8, 6, 6])
    x = moved(x, [0, 2, 2, 2, 6, 6], [0, 1, 4, 2, 5, 3], [0, 2, 12, 12])
    x = moved(x, [0, 2, 6, 2, 6, 2], [0, 1, 3, 5, 2, 4], [0, 8, 6, 6])
    x = moved(x, [0, 2, 2, 2, 6, 6], [0, 3, 4, 1, 5, 2], [0, 2, 12, 12])
    f.nodes[-1].output[0] = "map"
    return f.nodes, [("image", ["N", 3, 6, 6])], [("map", ["N", 2, 12, 12])], f.weights


def command_line_models():
    save("small.onnx", *small())
    save("written_out.onnx", *written_out())
    for data in HERE.glob("external.onnx*"):
        data.unlink()
    outside = dict(save_as_external_data=True, location="external.onnx.data", size_threshold=0)
    save("external.onnx", *small(), **outside)
    save(
        "open.onnx",
        [helper.make_node("Conv", ["image", "conv.weight"], ["map"], "/conv/Conv", pads=[1] * 4)],
        [("image", ["N", 3, "height", "width"])],
        [("map", ["N", 2, "height", "width"])],
        [weight("conv.weight", 2, 3, 3, 3)],
    )
    save(
        "unsupported.onnx",
        [
            helper.make_node("Conv", ["image", "conv.weight"], ["a"], "/conv/Conv"),
            helper.make_node("Bernoulli", ["a"], ["b"], "/head/Bernoulli"),
            helper.make_node("QuantizeLinear", ["a", "scale"], ["c"], "/quant/Quantize"),
            helper.make_node("DequantizeLinear", ["c", "scale"], ["d"], "/quant/Dequantize"),
            helper.make_node("Det", ["d"], ["e"], "/head/Det"),
        ],
        [("image", [1, 3, 4, 4])],
        [("e", [1, 2])],
        [weight("conv.weight", 2, 3, 1, 1), numpy_helper.from_array(np.float32(0.5), "scale")],
    )


def main():
    command_line_models()
    folder = HERE / "torchvision"
    folder.mkdir(exist_ok=True)
    for name, model in torchvision_models():
        path = folder / f"{name}.npz"
        np.savez_compressed(path, model=np.frombuffer(model, np.uint8))
        print(f"{path.name}: {path.stat().st_size} bytes", flush=True)


if __name__ == "__main__":
    main()
