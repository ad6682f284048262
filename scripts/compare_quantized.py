"""Compares netc with ONNX Runtime on models that other tools quantized.

    pip install numpy onnx onnxruntime nncf torch torchao onnxscript onnxconverter-common
    python scripts/compare_quantized.py [TOOL ...] [--netc PATH] [--interpret] [--keep FOLDER]

`quantized_models.py` makes the models: small networks (plain, residual, depthwise, joined, gated, scored), and what each tool
makes of them. netc runs each model as it is, and as the spec and weights that `netc import` makes of it, and `netc export`
writes the spec as ONNX again, which onnx.checker and ONNX Runtime are asked about. Compared are outputs in steps of the
grid that they are on; where they are on none, in steps of 1/255 of the largest. ONNX Runtime computes each model node by
node, as the standard says it, and once more with its optimizations, which round in their own ways. Printed are the models
of which an output is further off than a step, and a table of the tools. Exits with 1 where fewer than 99.9 % of a tool's
outputs lie within a step of what the nodes say, or netc refuses a model.

neural-compressor 2.6 (the last version that reads ONNX files) and TensorFlow with tf2onnx want packages of other versions
than the rest: `--neural-compressor` and `--tensorflow` name Pythons of environments that have them.

With --archive, nothing is compared: one model of each kind is written with an input and its answer, node by node, to
the archive that `cargo test onnx` reads, tests/onnx/tools.npz.
"""

import argparse
import pathlib
import subprocess
import tempfile

import numpy as np
import onnx
import onnxruntime
import quantized_models
from onnx import TensorProto, numpy_helper

TYPES = {TensorProto.FLOAT16: np.float16, TensorProto.FLOAT: np.float32}
# What the tests keep: tool and model.
KEPT = {
    "static": ["residual.QOperator.channel.QUInt8", "joined.QDQ.tensor.QInt8"],
    "options": ["gated.QOperator.reduced", "scored.QDQ.u16", "depthwise.QDQ.opset12"],
    "dynamic": ["scored.dynamic.QInt8.tensor"],
    "nncf": ["residual.nncf.mixed"],
    "neural_compressor": ["plain.neural_compressor.static.QDQ"],
    "torchao": ["torch.torchao"],
    "fake_quantize": ["torch.fake_quantize.channel"],
    "tflite": ["keras.tflite"],
    "bfloat16": ["plain.bfloat16_weights"],
}


def step_of(model):
    """The step of the grid that the output is on; None where it is on none."""
    makers = {output: node for node in model.graph.node for output in node.output}
    known = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    node = makers.get(model.graph.output[0].name)
    while node is not None and node.op_type in ("Identity", "Flatten", "Reshape", "Transpose", "Squeeze"):
        node = makers.get(node.input[0])
    if node is None or node.op_type != "DequantizeLinear" or node.input[1] not in known:
        return None
    return float(known[node.input[1]].max())


class Reference:
    """A model's answers by ONNX Runtime, or else by the standard's own evaluator.

    Without optimization, ONNX Runtime computes each node by itself, as the standard says it. With it, it has kernels for
    several nodes that round in their own ways.
    """

    def __init__(self, path, optimized=False):
        model = onnx.load(path)
        (value,) = model.graph.input
        self.name, kind = value.name, value.type.tensor_type
        self.type, self.dims = kind.elem_type, [d.dim_value for d in kind.shape.dim]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        level = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
        try:
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            self.run_one = lambda x: session.run(None, {self.name: x})[0]
        except Exception:
            from onnx.reference import ReferenceEvaluator

            evaluator = ReferenceEvaluator(model)
            self.run_one = lambda x: evaluator.run(None, {self.name: x})[0]

    def input(self, rng):
        x = quantized_models.image(rng)
        return x if self.dims[1] == 3 else np.ascontiguousarray(x.transpose(0, 2, 3, 1))

    def run(self, x):
        if self.type == TensorProto.BFLOAT16:
            import ml_dtypes

            x = x.astype(ml_dtypes.bfloat16)
        else:
            x = x.astype(TYPES[self.type])
        return np.asarray(self.run_one(x)).astype(np.float32)


def netc(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())


class Figures:
    """Differences in steps."""

    def __init__(self):
        self.count = self.equal = self.within = 0
        self.worst = 0.0

    def add(self, found, expected, step):
        steps = np.abs(found.reshape(expected.shape) - expected) / step
        steps[np.isnan(steps)] = np.inf
        self.count += steps.size
        self.equal += int((steps < 0.01).sum())
        self.within += int((steps < 1.01).sum())
        self.worst = max(self.worst, float(steps.max()))

    def join(self, other):
        self.count, self.equal = self.count + other.count, self.equal + other.equal
        self.within, self.worst = self.within + other.within, max(self.worst, other.worst)

    def cells(self):
        count = max(1, self.count)
        return f"{self.equal / count:.2%} | {self.within / count:.3%} | {self.worst:.1f}"


# What is compared: netc's answers, as it is, imported and exported, with ONNX Runtime's node by node; the first with its
# optimized ones; and these with its own.
WAYS = ["netc to each node", "netc to optimized", "optimized to each node"]


def compare(options, path, folder, figures):
    model, reference, optimized = onnx.load(path), Reference(path), Reference(path, optimized=True)
    step, rng, mode = step_of(model), np.random.default_rng(2), ["--interpret"] if options.interpret else []
    netc(options.netc, "import", path, "-o", folder, "--force")
    (spec,) = folder.glob("*.net")
    exported = folder / "exported.onnx"
    netc(options.netc, "export", spec, "--onnx", exported)
    onnx.checker.check_model(exported, full_check=True)
    again = Reference(exported)
    for _ in range(options.images):
        x = reference.input(rng)
        np.save(folder / "x.npy", x)
        expected, fast = reference.run(x), optimized.run(x)
        own = step or float(np.abs(expected).max()) / 255
        for source in [path, spec]:
            netc(options.netc, "run", source, *mode, "--input", folder / "x.npy", "--output", folder / "y.npy")
            found = np.load(folder / "y.npy")
            figures[0].add(found, expected, own)
        figures[0].add(again.run(x), expected, own)
        figures[1].add(found, fast, own)
        figures[2].add(fast, expected, own)


def of_tool(tool, options, folder):
    """Figures of all models of a tool together, how many they are, and how many were not compared."""
    total, count, failed = [Figures() for _ in WAYS], 0, 0
    for name, made in quantized_models.models([tool], folder / "models"):
        own, count = [Figures() for _ in WAYS], count + 1
        target = folder / name
        target.mkdir(parents=True, exist_ok=True)
        try:
            if isinstance(made, Exception):
                raise made
            compare(options, made, target, own)
        except Exception as why:
            failed += 1
            print(f"{name}: {type(why).__name__}: {' / '.join(str(why).splitlines()[:6])}"[:600], flush=True)
        for all_of_tool, figure, way in zip(total, own, WAYS):
            all_of_tool.join(figure)
            if figure.within < figure.count and way != WAYS[2]:
                print(f"{name}, {way}: {figure.count - figure.within} of {figure.count} off, {figure.worst:.1f} steps", flush=True)
    return total, count, failed


def archive(path):
    arrays = {}
    with tempfile.TemporaryDirectory() as folder:
        for tool, names in KEPT.items():
            for name, made in quantized_models.models([tool], pathlib.Path(folder)):
                if isinstance(made, Exception):
                    raise made
                if name not in names:
                    continue
                reference = Reference(made)
                x = reference.input(np.random.default_rng(2))
                arrays[f"{name}/model"] = np.frombuffer(pathlib.Path(made).read_bytes(), np.uint8)
                arrays[f"{name}/in/0"], arrays[f"{name}/out/0"] = x, reference.run(x)
    np.savez_compressed(path, **arrays)
    print(f"{path}: {len(arrays) // 3} models, {path.stat().st_size} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools", nargs="*", metavar="TOOL", help=f"of {', '.join(quantized_models.TOOLS)} (default: all)")
    parser.add_argument("--netc", default="netc", help="the program (default: the one in PATH)")
    parser.add_argument("--interpret", action="store_true", help="run the definition, not compiled code")
    parser.add_argument("--images", type=int, default=2, help="inputs of each model (default: 2)")
    parser.add_argument("--keep", type=pathlib.Path, help="where to leave models and specs")
    parser.add_argument("--archive", type=pathlib.Path, help="write the archive of the tests, and compare nothing")
    parser.add_argument("--neural-compressor", metavar="PYTHON")
    parser.add_argument("--tensorflow", metavar="PYTHON")
    options = parser.parse_args()
    quantized_models.tools.update(neural_compressor=options.neural_compressor, tensorflow=options.tensorflow)
    if options.archive:
        return archive(options.archive)
    rows, bad = [], False
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or pathlib.Path(scratch)
        for tool in options.tools or quantized_models.TOOLS:
            total, count, failed = of_tool(tool, options, folder)
            bad |= failed > 0 or total[0].within < 0.999 * total[0].count
            cells = " | ".join(figure.cells() for figure in total)
            rows.append(f"| {tool} | {count - failed} of {count} | {total[0].count} | {cells} |")
    heads = " | ".join(f"{way}: equal | within a step | most steps" for way in WAYS)
    print(f"| tool | models | outputs | {heads} |", "|---" * 12 + "|", *rows, sep="\n")
    raise SystemExit(int(bad))


if __name__ == "__main__":
    main()
