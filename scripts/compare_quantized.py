"""Compares netc with ONNX Runtime on models that ONNX Runtime's own tools quantized.

    pip install numpy onnx onnxruntime
    python scripts/compare_quantized.py [--netc PATH] [--interpret] [--keep FOLDER] [NAME ...]

Small networks (plain, residual, depthwise, joined, gated) are quantized by quantize_static: QDQ and QOperator, weights by
tensor and by channel, activations u8 and i8. netc runs each model as it is, and as the spec and weights that `netc import`
makes of it, and `netc export` writes the spec as ONNX again, which onnx.checker and ONNX Runtime are asked about. Printed
are the share of outputs that are the same number of the output's grid, and the largest difference in steps of that grid.
Exits with 1 where fewer than 99.9 % of all outputs lie within a step, or netc refuses a model.
"""

import argparse
import itertools
import pathlib
import subprocess
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static


class Network:
    """An ONNX graph, node by node, with random weights."""

    def __init__(self, name, seed):
        self.rng = np.random.default_rng(seed)
        self.name, self.nodes, self.weights, self.count = name, [], [], 0

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

    def classifier(self, x, c):
        x = self.node("Flatten", self.node("GlobalAveragePool", x))
        w = self.weight("fc.weight", self.rng.normal(0, np.sqrt(1 / c), (10, c)))
        b = self.weight("fc.bias", self.rng.normal(0, 0.1, 10))
        return self.node("Gemm", x, w, b, transB=1)

    def save(self, output, rank, path):
        self.nodes.append(helper.make_node("Identity", [output], ["y"], name="/y/Identity"))
        dims = ["N", 10] if rank == 2 else ["N", None, None, None]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 24, 24])]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, dims)]
        graph = helper.make_graph(self.nodes, self.name, inputs, outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
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
    low, high = n.weight("low", np.array(0.0)), n.weight("high", np.array(6.0))
    x = n.node("Clip", n.conv("x", 3, 16, 3, 2), low, high)
    y = n.node("Clip", n.conv(x, 16, 48, 1), low, high)
    y = n.node("Clip", n.conv(y, 48, 48, 3, groups=48), low, high)
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


NETWORKS = [plain, residual, depthwise, joined, gated]


def image(rng):
    """Numbers of which neighbours are alike."""
    coarse = rng.normal(0, 1, (1, 3, 6, 6)).repeat(4, 2).repeat(4, 3)
    return (coarse + rng.normal(0, 0.3, (1, 3, 24, 24))).astype(np.float32)


class Images(CalibrationDataReader):
    def __init__(self):
        rng = np.random.default_rng(1)
        self.images = iter([{"x": image(rng)} for _ in range(16)])

    def get_next(self):
        return next(self.images, None)


def step_of(path):
    """The step of the grid that the output is on."""
    model = onnx.load(path)
    known = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    scales = [known[node.input[1]] for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[1] in known]
    return float(scales[-1].max())


def run_onnx(path, x):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def netc(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())


class Figures:
    def __init__(self):
        self.count = self.equal = self.within = 0
        self.worst = 0.0

    def add(self, found, expected, step):
        steps = np.abs(found.reshape(expected.shape) - expected) / step
        self.count += steps.size
        self.equal += int((steps < 0.01).sum())
        self.within += int((steps < 1.01).sum())
        self.worst = max(self.worst, float(steps.max()))

    def __str__(self):
        return f"{self.equal / self.count:.4%} | {self.worst:.1f}"


def compare(program, options, path, folder, figures):
    rng, step, mode = np.random.default_rng(2), step_of(path), ["--interpret"] if options.interpret else []
    netc(program, "import", path, "-o", folder, "--force")
    (spec,) = folder.glob("*.net")
    exported = folder / "exported.onnx"
    netc(program, "export", spec, "--onnx", exported)
    onnx.checker.check_model(exported, full_check=True)
    for _ in range(4):
        x = image(rng)
        np.save(folder / "x.npy", x)
        expected = run_onnx(path, x)
        for figure, model in zip(figures, [path, spec]):
            netc(program, "run", model, *mode, "--input", f"x={folder / 'x.npy'}", "--output", f"y={folder / 'y.npy'}")
            figure.add(np.load(folder / "y.npy"), expected, step)
        figures[2].add(run_onnx(exported, x), expected, step)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--netc", default="netc", help="the program (default: the one in PATH)")
    parser.add_argument("--interpret", action="store_true", help="run the definition, not compiled code")
    parser.add_argument("--keep", type=pathlib.Path, help="where to leave models and specs")
    options = parser.parse_args()
    failed, all_figures = False, [Figures() for _ in range(3)]
    print("| model | as it is | steps | imported | steps | exported | steps |\n|---|---|---|---|---|---|---|")
    kinds = list(itertools.product([QuantFormat.QDQ, QuantFormat.QOperator], [False, True], [QuantType.QUInt8, QuantType.QInt8]))
    for network in [n for n in NETWORKS if not options.names or n.__name__ in options.names]:
        for form, per_channel, activations in kinds:
            name = f"{network.__name__}.{form.name}.{'channel' if per_channel else 'tensor'}.{activations.name}"
            with tempfile.TemporaryDirectory() as scratch:
                folder = options.keep / name if options.keep else pathlib.Path(scratch)
                folder.mkdir(parents=True, exist_ok=True)
                n = Network(network.__name__, 7)
                n.save(*network(n), folder / "float.onnx")
                path = folder / "quantized.onnx"
                quantize_static(
                    folder / "float.onnx", path, Images(), quant_format=form, per_channel=per_channel,
                    activation_type=activations, weight_type=QuantType.QInt8,
                    calibrate_method=quantization.CalibrationMethod.MinMax,
                )
                figures = [Figures() for _ in range(3)]
                try:
                    compare(options.netc, options, path, folder, figures)
                    print(f"| {name} | {figures[0]} | {figures[1]} | {figures[2]} |", flush=True)
                except Exception as why:
                    failed = True
                    print(f"| {name} | refused: {' / '.join(str(why).splitlines()[:6])} |", flush=True)
                for total, own in zip(all_figures, figures):
                    total.count, total.equal, total.within = total.count + own.count, total.equal + own.equal, total.within + own.within
    for total in all_figures:
        failed |= total.within < 0.999 * total.count
        if total.count:
            print(f"of {total.count} outputs {total.within} lie within a step, {total.equal} are equal")
    raise SystemExit(int(failed))


if __name__ == "__main__":
    main()
