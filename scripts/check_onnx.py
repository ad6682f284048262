"""Check exported ONNX models: onnx's checker with shape inference, and ONNX Runtime's outputs.

    python scripts/check_onnx.py FOLDER
    python scripts/check_onnx.py --netc target/release/netc [--full DIR] [NAME ...]

Needs the Python packages onnx, onnxruntime and numpy (with --full also safetensors).

With a FOLDER, each NAME.onnx there is checked and run on NAME.in.INPUT.npy; what comes out is compared with
NAME.out.OUTPUT.npy. With --netc, networks of models/ are exported, as written and optimized, and ONNX Runtime is
compared with `netc run` on a random input; or, with --full, with PyTorch's outputs that scripts/torchvision_weights.py
wrote to DIR. Differences are stated as a share of an output's largest value; one above 1e-4 is a failure.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

TOLERANCE = 1e-4
MODELS = Path(__file__).resolve().parent.parent / "models"
# Files that hold several models.
SEVERAL = {"dcgan": ["generator", "discriminator"]}


def session(path):
    """The model, checked, in ONNX Runtime without its own optimizations."""
    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def differences(found, expected):
    """Largest differences of outputs by name, as shares of the largest value."""
    worst = {}
    for name, value in expected.items():
        if found[name].shape != value.shape:
            raise SystemExit(f"{name}: {found[name].shape} is not {value.shape}")
        same = (found[name] == value) | (np.isnan(found[name]) & np.isnan(value))
        difference = np.where(same, 0, np.abs(found[name] - value))
        finite = value[np.isfinite(value)]
        scale = max(np.abs(finite).max(initial=0), 1e-3)
        worst[name] = np.nan_to_num(difference, nan=np.inf).max(initial=0) / scale
    return worst


def run(path, inputs):
    model = session(path)
    names = [output.name for output in model.get_outputs()]
    return dict(zip(names, model.run(names, inputs)))


def report(name, found, expected):
    worst = differences(found, expected)
    passed = all(difference <= TOLERANCE for difference in worst.values())
    figures = ", ".join(f"{output} {difference:.1e}" for output, difference in worst.items())
    print(f"{name}: {figures}{'' if passed else '  FAIL'}", flush=True)
    return passed


def check_folder(folder):
    passed = True
    paths = sorted(folder.glob("*.onnx"))
    for path in paths:
        arrays = lambda kind: {
            p.name.removeprefix(f"{path.stem}.{kind}.").removesuffix(".npy"): np.load(p)
            for p in folder.glob(f"{path.stem}.{kind}.*.npy")
        }
        try:
            passed &= report(path.stem, run(path, arrays("in")), arrays("out"))
        except Exception as error:
            print(f"{path.stem}: {str(error)[:500]}  FAIL")
            passed = False
    print(f"{len(paths)} models")
    return passed and bool(paths)


def netc(binary, *arguments):
    subprocess.run([binary, *map(str, arguments), "--quiet"], check=True)


def check_network(binary, name, model, full, folder):
    spec = MODELS / f"{name}.net"
    choice = ["--model", model] if model else []
    label = f"{name} {model}" if model else name
    path = folder / "model.onnx"
    if full:
        from safetensors.numpy import load_file

        stem = f"{name}_{model}" if model else name
        choice += ["--weights", full / f"{stem}.safetensors"]
        values = load_file(full / f"{stem}.io.safetensors")
        given, expected = values["input1"], values["output1"]
    else:
        choice += ["--seed", 1]
        netc(binary, "export", spec, "--onnx", path, *choice)
        shape = [d.dim_value for d in onnx.load(path).graph.input[0].type.tensor_type.shape.dim]
        given = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        np.save(folder / "x.npy", given)
        netc(binary, "run", spec, "--input", folder / "x.npy", "--output", folder / "y.npy", *choice)
        expected = np.load(folder / "y.npy")
    passed = True
    for stage, batch in [("graph", "1"), ("optimized", "N")]:
        netc(binary, "export", spec, "--onnx", path, "--stage", stage, "--batch", batch, *choice)
        model = onnx.load(path, load_external_data=False)
        found = run(path, {model.graph.input[0].name: given})
        output = next(iter(found))
        passed &= report(f"{label} ({stage})", found, {output: expected.reshape(found[output].shape)})
    return passed


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("names", nargs="*", help="a folder, or with --netc names of networks")
    arguments.add_argument("--netc", help="the compiled program")
    arguments.add_argument("--full", type=Path, help="folder of scripts/torchvision_weights.py")
    arguments = arguments.parse_args()
    if not arguments.netc:
        sys.exit(0 if all([check_folder(Path(folder)) for folder in arguments.names]) else 1)
    names = arguments.names or sorted(path.stem for path in MODELS.glob("*.net"))
    passed = True
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            for model in SEVERAL.get(name, [None]):
                passed &= check_network(arguments.netc, name, model, arguments.full, Path(folder))
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
