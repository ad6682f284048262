"""Small networks, and what other tools make of them in fewer bits. `compare_quantized.py` runs them.

Each tool is a function of a folder that yields (name, path of an ONNX model). A tool whose package is not installed is
left out, and said to be.
"""

import itertools
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# --- networks as ONNX nodes ----------------------------------------------------------------------------------------------


class Network:
    """An ONNX graph, node by node, with random weights."""

    def __init__(self, name, seed, opset=17):
        self.rng = np.random.default_rng(seed)
        self.name, self.opset = name, opset
        self.nodes, self.weights, self.count = [], [], 0

    def weight(self, name, values):
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def node(self, op, *inputs, **attributes):
        self.count += 1
        output = f"{op.lower()}{self.count}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=f"/{output}/{op}", **attributes))
        return output

    def conv(self, x, c, channels, kernel, stride=1, groups=1):
        label = f"conv{self.count}"
        shape = (channels, c // groups, kernel, kernel)
        w = self.weight(f"{label}.weight", self.rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape))
        b = self.weight(f"{label}.bias", self.rng.normal(0, 0.1, channels))
        pads = [kernel // 2] * 4
        return self.node("Conv", x, w, b, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, group=groups)

    def clip(self, x, low, high):
        if self.opset < 11:
            return self.node("Clip", x, min=low, max=high)
        bounds = [self.weight(f"bound{v:g}.{self.count}", np.array(v)) for v in (low, high)]
        return self.node("Clip", x, *bounds)

    def classifier(self, x, c):
        x = self.node("Flatten", self.node("GlobalAveragePool", x))
        w = self.weight("fc.weight", self.rng.normal(0, np.sqrt(1 / c), (10, c)))
        b = self.weight("fc.bias", self.rng.normal(0, 0.1, 10))
        return self.node("Gemm", x, w, b, transB=1)

    def save(self, output, rank, path):
        self.nodes.append(helper.make_node("Identity", [output], ["y"], name="/y/Identity"))
        dims = [1, 10] if rank == 2 else [1, None, None, None]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 24, 24])]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, dims)]
        graph = helper.make_graph(self.nodes, self.name, inputs, outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        onnx.save(onnx.shape_inference.infer_shapes(model), path)


def plain(n):
    x = n.node("Relu", n.conv("x", 3, 16, 3))
    x = n.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = n.node("Relu", n.conv(x, 16, 24, 3, stride=2))
    x = n.node("Relu", n.conv(x, 24, 24, 1))
    return n.classifier(x, 24), 2


def residual(n):
    x = n.node("Relu", n.conv("x", 3, 16, 3))
    for stride, c, channels in [(1, 16, 16), (2, 16, 32)]:
        y = n.node("Relu", n.conv(x, c, channels, 3, stride))
        y = n.conv(y, channels, channels, 3)
        skip = x if stride == 1 else n.conv(x, c, channels, 1, stride)
        x = n.node("Relu", n.node("Add", y, skip))
    return n.classifier(x, 32), 2


def depthwise(n):
    x = n.clip(n.conv("x", 3, 16, 3, 2), 0.0, 6.0)
    y = n.clip(n.conv(x, 16, 48, 1), 0.0, 6.0)
    y = n.clip(n.conv(y, 48, 48, 3, groups=48), 0.0, 6.0)
    x = n.node("Add", x, n.conv(y, 48, 16, 1))
    return n.conv(x, 16, 8, 1), 4


def joined(n):
    x = n.node("Relu", n.conv("x", 3, 16, 3))
    pooled = n.node("AveragePool", x, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
    parts = [n.node("Relu", n.conv(x, 16, 8, 1)), n.node("Relu", n.conv(x, 16, 12, 3)), n.conv(pooled, 16, 4, 1)]
    x = n.node("Concat", *parts, axis=1)
    return n.classifier(n.node("LeakyRelu", n.conv(x, 24, 24, 3), alpha=0.1), 24), 2


def gated(n):
    x = n.conv("x", 3, 16, 3)
    x = n.node("Mul", x, n.node("Sigmoid", x))
    return n.classifier(n.node("Relu", n.conv(x, 16, 16, 3)), 16), 2


def scored(n):
    """What ends in a softmax, behind a product without a bias."""
    x = n.node("Relu", n.conv("x", 3, 16, 3, 2))
    x = n.node("Flatten", n.node("GlobalAveragePool", x))
    w = n.weight("fc.weight", n.rng.normal(0, 0.5, (16, 10)))
    return n.node("Softmax", n.node("MatMul", x, w), axis=1 if n.opset < 13 else -1), 2


NETWORKS = [plain, residual, depthwise, joined, gated, scored]


def written(network, folder, opset=17):
    """The network in float32 as a file."""
    n, path = Network(network.__name__, 7, opset), folder / f"{network.__name__}.float.onnx"
    n.save(*network(n), path)
    return path


def image(rng):
    """Numbers of which neighbours are alike."""
    coarse = rng.normal(0, 1, (1, 3, 6, 6)).repeat(4, 2).repeat(4, 3)
    return (coarse + rng.normal(0, 0.3, (1, 3, 24, 24))).astype(np.float32)


def samples(count=16):
    rng = np.random.default_rng(1)
    return [image(rng) for _ in range(count)]


# --- ONNX Runtime --------------------------------------------------------------------------------------------------------


class Reader:
    """The samples, as quantize_static takes them."""

    def __init__(self, name="x"):
        self.left = iter([{name: x} for x in samples()])

    def get_next(self):
        return next(self.left, None)


def statically(source, made, **settings):
    from onnxruntime.quantization import CalibrationMethod, quantize_static

    with quietly():
        quantize_static(source, made, Reader(), calibrate_method=CalibrationMethod.MinMax, **settings)
    return made


def onnxruntime_static(folder):
    from onnxruntime.quantization import QuantFormat, QuantType

    kinds = [QuantFormat.QDQ, QuantFormat.QOperator], [False, True], [QuantType.QUInt8, QuantType.QInt8]
    for network, (form, by_channel, activations) in itertools.product(NETWORKS, itertools.product(*kinds)):
        name = f"{network.__name__}.{form.name}.{'channel' if by_channel else 'tensor'}.{activations.name}"
        settings = {"quant_format": form, "per_channel": by_channel, "activation_type": activations}
        yield name, statically(written(network, folder), folder / f"{name}.onnx", weight_type=QuantType.QInt8, **settings)


def onnxruntime_options(folder):
    """Other types, 7 bits, symmetric activations, pairs at weights too, and each operator set."""
    from onnxruntime.quantization import QuantFormat, QuantType

    u8, i8, u16, i16 = QuantType.QUInt8, QuantType.QInt8, QuantType.QUInt16, QuantType.QInt16
    both, pairs = (QuantFormat.QDQ, QuantFormat.QOperator), (QuantFormat.QDQ,)
    of_types = lambda a, w: {"activation_type": a, "weight_type": w}  # noqa: E731
    options = {
        "u8u8": (both, of_types(u8, u8)),
        "reduced": (both, of_types(u8, i8) | {"reduce_range": True, "per_channel": True}),
        "symmetric": (both, of_types(i8, i8) | {"extra_options": {"ActivationSymmetric": True}}),
        "asymmetric_weights": (both, of_types(u8, i8) | {"extra_options": {"WeightSymmetric": False}}),
        "pairs_at_weights": (pairs, of_types(u8, i8) | {"extra_options": {"AddQDQPairToWeight": True}}),
        "own_pairs": (pairs, of_types(u8, i8) | {"extra_options": {"DedicatedQDQPair": True}}),
        "u16": (pairs, of_types(u16, u8)),
        "i16": (pairs, of_types(i16, i8) | {"per_channel": True}),
    }
    for network, (option, (forms, settings)) in itertools.product(NETWORKS, options.items()):
        for form in forms:
            name = f"{network.__name__}.{form.name}.{option}"
            yield name, statically(written(network, folder), folder / f"{name}.onnx", quant_format=form, **settings)
    for network, opset, form in itertools.product(NETWORKS, [11, 12, 13, 15, 18, 19, 20, 21], both):
        name = f"{network.__name__}.{form.name}.opset{opset}"
        settings = {"quant_format": form, "per_channel": opset >= 13 or form == QuantFormat.QOperator}
        yield name, statically(written(network, folder, opset), folder / f"{name}.onnx", weight_type=i8, **settings)


def onnxruntime_dynamic(folder):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    for network, weights, by_channel in itertools.product(NETWORKS, [QuantType.QUInt8, QuantType.QInt8], [False, True]):
        name = f"{network.__name__}.dynamic.{weights.name}.{'channel' if by_channel else 'tensor'}"
        made = folder / f"{name}.onnx"
        with quietly():
            quantize_dynamic(written(network, folder), made, weight_type=weights, per_channel=by_channel)
        yield name, made


# --- other tools for ONNX files --------------------------------------------------------------------------------------------


def of_nncf(folder):
    import nncf

    kinds = [nncf.QuantizationPreset.PERFORMANCE, nncf.QuantizationPreset.MIXED]
    for network, preset in itertools.product(NETWORKS, kinds):
        name = f"{network.__name__}.nncf.{preset.value}"
        with quietly():
            dataset = nncf.Dataset(samples(), lambda x: {"x": x})
            model = nncf.quantize(onnx.load(written(network, folder)), dataset, preset=preset, subset_size=16)
        onnx.save(model, folder / f"{name}.onnx")
        yield name, folder / f"{name}.onnx"


# What runs in the Python of another environment, given as --neural-compressor: its last version that reads ONNX files
# wants older packages than the rest.
NEURAL_COMPRESSOR = """
import sys
import numpy as np
import onnx
from neural_compressor import PostTrainingQuantConfig, quantization

source, made, samples, approach, form = sys.argv[1:]

class Samples:
    batch_size = 1

    def __iter__(self):
        return iter([({"x": x}, 0) for x in np.load(samples)])

config = PostTrainingQuantConfig(approach=approach, quant_format=form, calibration_sampling_size=16)
model = quantization.fit(source, config, calib_dataloader=Samples() if approach == "static" else None)
model.save(made)
"""


def of_neural_compressor(folder):
    python = tools["neural_compressor"]
    if python is None:
        raise ImportError("neural-compressor 2.6 is in no environment that --neural-compressor names")
    np.save(folder / "samples.npy", np.stack(samples()))
    for network, (approach, form) in itertools.product(
        NETWORKS, [("static", "default"), ("static", "QDQ"), ("dynamic", "default")]
    ):
        name = f"{network.__name__}.neural_compressor.{approach}.{'QOperator' if form == 'default' else form}"
        made = folder / f"{name}.onnx"
        arguments = [written(network, folder), made, folder / "samples.npy", approach, form]
        command = [python, "-c", NEURAL_COMPRESSOR, *map(str, arguments)]
        # It leaves its notes in the folder that it runs in.
        ran = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        if not made.exists():
            raise RuntimeError(f"neural-compressor: {ran.stderr.strip()[-300:]}")
        yield name, made


# Of TensorFlow Lite: levels of 8 bits with a sign, asymmetric activations, NHWC.
TFLITE = """
import sys
import numpy as np
import tensorflow as tf
from tensorflow.keras import layers

made, samples = sys.argv[1:]
samples = np.load(samples).transpose(0, 1, 3, 4, 2)
tf.keras.utils.set_random_seed(7)
x = inputs = layers.Input((24, 24, 3), batch_size=1, name="x")
x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
y = layers.DepthwiseConv2D(3, strides=2, padding="same", activation="relu6")(x)
y = layers.Conv2D(24, 1)(y)
z = layers.Conv2D(24, 3, strides=2, padding="same", activation="relu")(x)
x = layers.Add()([y, z])
x = layers.Concatenate()([x, layers.Conv2D(8, 1, activation="relu")(x)])
x = layers.MaxPooling2D(2)(x)
x = layers.GlobalAveragePooling2D()(x)
x = layers.Dense(10)(x)
model = tf.keras.Model(inputs, x)
converter = tf.lite.TFLiteConverter.from_keras_model(model)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = lambda: ([s] for s in samples)
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
open(made + ".tflite", "wb").write(converter.convert())
import tf2onnx
tf2onnx.convert.from_tflite(made + ".tflite", opset=15, output_path=made)
"""


def of_tflite(folder):
    python = tools["tensorflow"]
    if python is None:
        raise ImportError("tensorflow and tf2onnx are in no environment that --tensorflow names")
    np.save(folder / "samples.npy", np.stack(samples()))
    made = folder / "keras.tflite.onnx"
    ran = subprocess.run([python, "-c", TFLITE, made, folder / "samples.npy"], capture_output=True, text=True)
    if not made.exists():
        raise RuntimeError(f"tf2onnx: {ran.stderr.strip()[-300:]}")
    yield "keras.tflite", made


# --- PyTorch ---------------------------------------------------------------------------------------------------------------


def torch_network():
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
            self.conv2 = nn.Conv2d(16, 16, 3, padding=1, groups=4)
            self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

        def forward(self, x):
            return self.relu2(x + self.conv2(self.relu1(self.bn1(self.conv1(x)))))

    torch.manual_seed(7)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 10),
    )  # fmt: skip
    return net.eval()


def exported(model, path, dynamo, opset):
    import torch

    x = torch.from_numpy(samples(1)[0])
    with quietly():
        torch.onnx.export(
            model, (x,), path, dynamo=dynamo, input_names=["x"], output_names=["y"], opset_version=opset, external_data=False
        )
    return path


def of_torchao(folder):
    """torchao's quantization of an exported program, with what PyTorch has for x86. Its dynamic kind has no form in ONNX."""
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    with quietly():
        program = torch.export.export(torch_network(), (torch.from_numpy(samples(1)[0]),)).module()
        model = prepare_pt2e(program, quantizer)
        for x in samples():
            model(torch.from_numpy(x))
        model = convert_pt2e(model)
    yield "torch.torchao", exported(model, folder / "torch.torchao.onnx", True, 18)


def of_fake_quantization(folder):
    """PyTorch's training with rounded numbers, as its older exporter writes it."""
    import torch
    from torch.ao import quantization as q

    for by_channel in (False, True):
        model = torch_network().train()
        of_weights = q.default_per_channel_weight_fake_quant if by_channel else q.default_weight_fake_quant
        model.qconfig = q.QConfig(activation=q.default_fake_quant, weight=of_weights)
        with quietly():
            q.prepare_qat(model, inplace=True)
            for x in samples():
                model(torch.from_numpy(x))
            model.eval().apply(q.disable_observer)
        name = f"torch.fake_quantize.{'channel' if by_channel else 'tensor'}"
        yield name, exported(model, folder / f"{name}.onnx", False, 17)


# --- half precision --------------------------------------------------------------------------------------------------------


def halves(folder):
    """Models in float16, as a whole, with inputs and outputs of float32, and by an exporter."""
    from onnxconverter_common import float16

    for network, kept in itertools.product(NETWORKS, [False, True]):
        name = f"{network.__name__}.float16{'.io32' if kept else ''}"
        with quietly():
            model = float16.convert_float_to_float16(onnx.load(written(network, folder)), keep_io_types=kept)
        onnx.save(model, folder / f"{name}.onnx")
        yield name, folder / f"{name}.onnx"
    for dynamo in (False, True):
        import torch

        name, path = f"torch.float16.{'dynamo' if dynamo else 'torchscript'}", folder / f"torch.float16.{dynamo}.onnx"
        with quietly():
            torch.onnx.export(
                torch_network().half(), (torch.from_numpy(samples(1)[0]).half(),), path, dynamo=dynamo, input_names=["x"],
                output_names=["y"], opset_version=18 if dynamo else 17, external_data=False,
            )  # fmt: skip
        yield name, path


def brain_floats(folder):
    """Weights in bfloat16 that are cast where they are read, and a whole model in it."""
    import torch

    for network in NETWORKS:
        name, model = f"{network.__name__}.bfloat16_weights", onnx.load(written(network, folder))
        for tensor in [t for t in model.graph.initializer if len(t.dims) > 1]:
            bits = (numpy_helper.to_array(tensor).view(np.uint32) + 0x8000 >> 16).astype(np.uint16)
            stored = helper.make_tensor(f"{tensor.name}.b", TensorProto.BFLOAT16, tensor.dims, bits.tobytes(), raw=True)
            model.graph.initializer.append(stored)
            model.graph.initializer.remove(tensor)
            model.graph.node.insert(0, helper.make_node("Cast", [stored.name], [tensor.name], to=TensorProto.FLOAT))
        onnx.save(model, folder / f"{name}.onnx")
        yield name, folder / f"{name}.onnx"
    path = folder / "torch.bfloat16.onnx"
    with quietly():
        torch.onnx.export(
            torch_network().bfloat16(), (torch.from_numpy(samples(1)[0]).bfloat16(),), path, dynamo=True,
            input_names=["x"], output_names=["y"], opset_version=18, external_data=False,
        )  # fmt: skip
    yield "torch.bfloat16", path


# --- all of them -------------------------------------------------------------------------------------------------------------

TOOLS = {
    "static": onnxruntime_static,
    "options": onnxruntime_options,
    "dynamic": onnxruntime_dynamic,
    "nncf": of_nncf,
    "neural_compressor": of_neural_compressor,
    "torchao": of_torchao,
    "fake_quantize": of_fake_quantization,
    "tflite": of_tflite,
    "float16": halves,
    "bfloat16": brain_floats,
}
# Pythons of other environments, set by who calls.
tools = {"neural_compressor": None, "tensorflow": None}


class quietly:
    """What tools print while they work is not about the comparison."""

    def __enter__(self):
        import logging

        logging.disable(logging.WARNING)
        self.warnings = warnings.catch_warnings()
        self.warnings.__enter__()
        warnings.simplefilter("ignore")
        self.kept, sys.stdout = sys.stdout, tempfile.TemporaryFile("w")

    def __exit__(self, *exception):
        import logging

        sys.stdout.close()
        sys.stdout = self.kept
        self.warnings.__exit__(*exception)
        logging.disable(logging.NOTSET)


def models(names, folder):
    """(name, path or what went wrong) of each model that the tools of these names make."""
    for name in names:
        own = Path(folder) / name
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir(parents=True)
        try:
            yield from TOOLS[name](own)
        except Exception as why:  # a tool that fails is listed, and the others go on
            yield name, why
