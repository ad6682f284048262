"""Writes docs/CONFORMANCE.md: which ONNX models netc imports, and how well their results agree with ONNX Runtime's.

    pip install numpy onnx onnxruntime onnxscript torch torchvision
    python scripts/conformance.py [NAME ...] [--work FOLDER] [--cases] [--keep]

NAMEs limit the whole networks (say, `resnet18 light_vgg19`); then only their figures are printed. Three things are run,
all by `cargo test --test it onnx::` with NETC_CONFORMANCE set:

- the cases of tests/onnx/*.npz, which --cases makes anew from the Python package `onnx` and by ONNX Runtime;
- classification networks of torchvision with random weights, written by both of PyTorch's exporters;
- the nine `light` topologies that the package `onnx` brings, with random weights in place of their constant ones.

The networks take about 6 GB in the work folder (default: a temporary one) and half an hour.
"""

import argparse
import math
import os
import pathlib
import runpy
import shutil
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections import defaultdict

import numpy as np
import onnx
import onnxruntime
import torch
import torchvision
from onnx import numpy_helper
from torch import nn

ROOT = pathlib.Path(__file__).resolve().parent.parent
TORCHVISION = """alexnet vgg11 resnet18 resnet50 resnext50_32x4d wide_resnet50_2 densenet121 squeezenet1_0 squeezenet1_1
mobilenet_v2 mobilenet_v3_small mobilenet_v3_large shufflenet_v2_x0_5 shufflenet_v2_x1_0 inception_v3 googlenet
efficientnet_b0 efficientnet_v2_s regnet_y_400mf mnasnet0_5 convnext_tiny""".split()
LIGHT = """bvlc_alexnet densenet121 inception_v1 inception_v2 resnet50 shufflenet squeezenet vgg19 zfnet512""".split()
# What torch.onnx.export is asked for, by the name of the column.
EXPORTERS = {"torchscript": {"dynamo": False, "opset_version": 17}, "dynamo": {"dynamo": True, "verbose": False}}


def randomize(model, image):
    """He-normal weights, and running statistics that fit them, from one pass over random images."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.normal_(0, math.sqrt(2 / module.weight[0].numel()))
            if module.bias is not None:
                module.bias.normal_(0, 0.1)
        elif isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.2)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            module.train()
    model(torch.randn(4, *image.shape[1:]))
    model.eval()


def torchvision_network(name, folder):
    torch.manual_seed(zlib.crc32(name.encode()))
    quick = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = getattr(torchvision.models, name)(weights=None, **quick).eval()
    size = 299 if name == "inception_v3" else 224
    image = torch.randn(1, 3, size, size)
    with torch.no_grad():
        randomize(model, image)
    for exporter, options in EXPORTERS.items():
        path = folder / f"{name}.{exporter}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(model, (image,), path, input_names=["image"], output_names=["logits"], **options)
        reference(path, image.numpy())


def random_weight(users, dims, rng):
    """Values for a weight, by the nodes that read it and as which input."""
    node, place = users[0]
    if node.op_type == "BatchNormalization" and place in (1, 4):  # scale, variance
        return rng.uniform(0.5, 1.5, dims)
    if node.op_type in ("Conv", "Gemm") and place == 1:
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        fan_in = dims[0] if node.op_type == "Gemm" and not transposed else math.prod(dims[1:])
        return rng.normal(0, math.sqrt(2 / fan_in), dims)
    if node.op_type == "Unsqueeze":  # a scale or a shift of each channel, before it is broadcast
        return rng.uniform(0.5, 1.5, dims)
    return rng.normal(0, 0.1, dims)


def light_network(name, folder):
    """With logits as its output: a softmax would hide differences."""
    model = onnx.load(pathlib.Path(onnx.__file__).parent / f"backend/test/data/light/light_{name}.onnx")
    graph, rng = model.graph, np.random.default_rng(zlib.crc32(name.encode()))
    shapes = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for node in [n for n in graph.node if n.op_type == "ConstantOfShape"]:
        users = [(n, list(n.input).index(node.output[0])) for n in graph.node if node.output[0] in n.input]
        dims = [int(d) for d in shapes[node.input[0]]]
        values = random_weight(users, dims, rng).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        graph.node.remove(node)
    last = graph.node[-1]
    if last.op_type == "Softmax":
        graph.output[0].name = last.input[0]
        graph.node.remove(last)
    known = {t.name for t in graph.initializer}
    image = next(i for i in graph.input if i.name not in known)
    dims = [d.dim_value for d in image.type.tensor_type.shape.dim]
    path = folder / f"light_{name}.onnx"
    onnx.save(model, path)
    reference(path, rng.normal(0, 1, dims).astype(np.float32))


def reference(path, image):
    """ONNX Runtime's result, beside the model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # It warns of every initializer that nobody reads.
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: image})
    np.save(path.with_suffix(".x.npy"), image)
    np.save(path.with_suffix(".y.npy"), result)
    print(f"{path.stem}: largest value {np.abs(result).max():.3g}, spread {result.std():.3g}", flush=True)


def rows(path):
    return [line.split("\t") for line in path.read_text().splitlines()]


def cell(text):
    return text.replace("|", "\\|")


def case_tables(work):
    cases = [row for archive in ("node", "layers", "pytorch") for row in rows(work / f"{archive}.tsv")]
    count = {verdict: sum(c[1] == verdict for c in cases) for verdict in ("pass", "unsupported", "differs", "fail")}
    yield "## The backend suite"
    yield ""
    yield f"Of {len(cases)} cases {count['pass']} pass, {count['unsupported']} are unsupported, {count['differs']} differ on"
    yield f"purpose and {count['fail']} fail."
    yield ""
    yield from reasons_and_cases(cases, ("unsupported", "differs"))


def level_tables(work):
    cases = rows(work / "quantized.tsv")
    passed = sum(case[1] == "pass" for case in cases)
    yield "## Operators on levels"
    yield ""
    yield "The suite's cases of `QuantizeLinear`, `DequantizeLinear`, `QLinearConv`, `QLinearMatMul`, `ConvInteger`, `MatMulInteger`"
    yield "and `DynamicQuantizeLinear`, in the interpreter before and after the passes. Levels may be one off where the standard's"
    yield f"reference rounds in another order, at one place in twenty. Of {len(cases)} cases {passed} pass."
    yield ""
    yield from reasons_and_cases(cases, ("unsupported",))


TITLES = {"unsupported": "What is unsupported, and why:", "differs": "What differs on purpose, and why:"}


def reasons_and_cases(cases, verdicts):
    for verdict in verdicts:
        yield TITLES[verdict]
        yield ""
        reasons = {}
        for name, _, reason in (c for c in cases if c[1] == verdict):
            reasons.setdefault(reason, []).append(name)
        yield "| reason | cases |"
        yield "|---|---|"
        for reason, names in sorted(reasons.items()):
            yield f"| {cell(reason)} | {', '.join(f'`{n}`' for n in names)} |"
        yield ""
    yield "All cases:"
    yield ""
    yield "| case | |"
    yield "|---|---|"
    yield from (f"| `{case[0]}` | {case[1]} |" for case in cases)


def version_table(work):
    cases = [(*row[0].rsplit("/", 1), row[1]) for row in rows(work / "versions.tsv")]
    passed = sum(verdict == "pass" for _, _, verdict in cases)
    yield "## Operator sets"
    yield ""
    yield "What is an attribute in one operator set is an input in the next. Each operator, written as each of the operator"
    yield f"sets in which it changed has it, up to 23: {passed} of {len(cases)} cases pass (`tests/onnx/versions.py`)."
    yield ""
    yield "| operator | operator sets |"
    yield "|---|---|"
    tried = defaultdict(set)
    for name, version, verdict in cases:
        mark = "" if verdict == "pass" else f" ({verdict})"
        tried[name.split("/")[0]].add(f"{int(version)}{mark}")
    for operator, versions in sorted(tried.items()):
        yield f"| `{operator}` | {', '.join(sorted(versions, key=lambda v: int(v.split()[0])))} |"
    yield ""


def network_tables(work):
    figures = defaultdict(lambda: "not compared", ((row[0], row[1]) for row in rows(work / "networks.tsv")))
    yield "## torchvision"
    yield ""
    yield "Classification networks with He-normal weights and batch-norm statistics of random images, one image of 224×224"
    yield "(299×299 for `inception_v3`)."
    yield ""
    yield f"| network | {' | '.join(EXPORTERS)} |"
    yield "|---" * (1 + len(EXPORTERS)) + "|"
    for name in TORCHVISION:
        yield f"| `{name}` | {' | '.join(figures[f'{name}.{exporter}'] for exporter in EXPORTERS)} |"
    yield ""
    yield "## The light topologies"
    yield ""
    yield "The files of the backend suite have the shapes of well-known networks and one number for all weights. Here they"
    yield "have He-normal weights, and their output is what goes into the last softmax."
    yield ""
    yield "| network | difference |"
    yield "|---|---|"
    yield from (f"| `{name}` | {figures[f'light_{name}']} |" for name in LIGHT)
    yield ""


def document(work):
    versions = f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}, PyTorch {torch.__version__.split('+')[0]}"
    yield "# What netc imports from ONNX"
    yield ""
    yield f"Made by `scripts/conformance.py` with {versions}, torchvision {torchvision.__version__.split('+')[0]}."
    yield ""
    yield "Differences are the largest one from ONNX Runtime's output as a share of the output's largest value, of code"
    yield "compiled with all passes; the bound is 1e-4. The suite's cases also run in the interpreter, before and after the"
    yield "passes."
    yield ""
    yield from network_tables(work)
    yield from version_table(work)
    yield from case_tables(work)
    yield ""
    yield from level_tables(work)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--work", type=pathlib.Path)
    parser.add_argument("--cases", action="store_true", help="make tests/onnx/*.npz anew")
    parser.add_argument("--keep", action="store_true", help="keep the networks, and take those that are there")
    options = parser.parse_args()
    names = options.names or [*TORCHVISION, *(f"light_{name}" for name in LIGHT)]

    if options.cases:
        sys.path.insert(0, str(ROOT / "tests/onnx"))
        for script in ("make.py", "versions.py"):
            runpy.run_path(str(ROOT / "tests/onnx" / script), run_name="__main__")
    work = options.work or pathlib.Path(tempfile.mkdtemp())
    folder = work / "networks"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        light = name.startswith("light_")
        last = folder / (name if light else f"{name}.{list(EXPORTERS)[-1]}")
        if not all(last.with_name(f"{last.name}.{kind}").exists() for kind in ("onnx", "y.npy")):
            light_network(name.removeprefix("light_"), folder) if light else torchvision_network(name, folder)
    command = ["cargo", "test", "--test", "it", "onnx::"]
    verdict = subprocess.run(command, cwd=ROOT, env={**os.environ, "NETC_CONFORMANCE": str(work.resolve())})
    if options.names:
        print((work / "networks.tsv").read_text(), end="")
    else:
        (ROOT / "docs/CONFORMANCE.md").write_text("\n".join(document(work)) + "\n")
    if not options.keep:
        shutil.rmtree(folder)
    raise SystemExit(verdict.returncode)


if __name__ == "__main__":
    main()
