"""Compares netc with ONNX Runtime on ONNX models of any origin.

    pip install numpy onnxruntime
    python scripts/compare_with_onnxruntime.py MODEL.onnx ... [--shape INPUT=1,3,224,224 ...] [--input INPUT=FILE.npy ...]
        [--netc PATH] [--keep FOLDER]

Each model is run on the same input, noise where none is given, by ONNX Runtime and twice by netc: as it is, and as the
spec and weights that `netc import` makes of it. A row of a table is printed for each: the largest difference of any
output as a share of that output's largest value, and the lines of the spec; or why netc refuses it. Exits with 1 where
a difference is above the tolerance or a model is refused.

Sizes that a model leaves open are 1 for the first axis; others must be given by --shape, whose INPUT may be left out where
it is to hold for the first input of each model.
"""

import argparse
import pathlib
import re
import subprocess
import tempfile
import zlib

import numpy as np
import onnxruntime


def given_shapes(texts):
    shapes = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        shapes[name] = [int(size) for size in sizes.split(",")]
    return shapes


def shape_of(port, given):
    """The port's sizes, and whether netc has to be told them."""
    sizes = given.get(port.name) or given.get("")
    if sizes and len(sizes) == len(port.shape):
        return sizes, True
    open_sizes = [not isinstance(size, int) for size in port.shape]
    if any(open_sizes[1:]):
        raise ValueError(f"input {port.name} is {port.shape}: give its sizes by --shape")
    return [1 if is_open else size for size, is_open in zip(port.shape, open_sizes)], False


def session_of(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def identifier(name):
    """What netc calls a port: its specs have identifiers there."""
    name = re.sub("[^A-Za-z0-9]", "_", name.removesuffix(":0")).strip("_")
    name = {"input": "image"}.get(name, name)
    return f"v{name}" if name[:1].isdigit() else name


def noise(rng, shape):
    """Numbers as pictures have them: noise at several scales, so that neighbours are alike."""
    values = rng.normal(0, 0.5, shape)
    for scale in (4, 16, 64):
        coarse = [size if axis < 2 else -(-size // scale) for axis, size in enumerate(shape)]
        layer = rng.normal(0, 0.5, coarse)
        for axis in range(2, len(shape)):
            layer = np.repeat(layer, scale, axis).take(range(shape[axis]), axis)
        values += layer
    return values.astype(np.float32)


class Refused(Exception):
    """netc said no; the text is its message."""


def netc(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise Refused(done.stderr.strip())


def run_by_netc(program, model, inputs, sizes, names, folder):
    outputs = [folder / f"output{i}.npy" for i in range(len(names))]
    arguments = ["run", model, "--threads", 1, *sizes]
    for name, path in inputs.items():
        arguments += ["--input", f"{identifier(name)}={path}"]
    for name, path in zip(names, outputs):
        arguments += ["--output", f"{identifier(name)}={path}"]
    netc(program, *arguments)
    return [np.load(path) for path in outputs]


def difference(results, expected):
    """The largest share over all outputs; infinite where a shape differs or a number is none."""
    worst = 0.0
    for result, right in zip(results, expected):
        if result.size != right.size or np.isnan(result).any() != np.isnan(right).any():
            return float("inf")
        largest = np.abs(right).max(initial=0)
        off = np.abs(result.reshape(right.shape) - right).max(initial=0)
        worst = max(worst, off / largest if largest > 0 else off)
    return worst


def compare(program, path, given, arrays, folder):
    """What the two ways of netc differ by, and the lines of the spec."""
    session = session_of(path)
    rng = np.random.default_rng(zlib.crc32(path.name.encode()))
    feeds, inputs, sizes = {}, {}, []
    for i, port in enumerate(session.get_inputs()):
        shape, told = shape_of(port, given)
        if "float" not in port.type:
            raise Refused(f"input {port.name} is {port.type}")
        array = arrays.get(port.name)
        values = noise(rng, shape) if array is None else array.astype(np.float32)
        feeds[port.name] = values.astype(np.float16) if "float16" in port.type else values
        inputs[port.name] = folder / f"input{i}.npy"
        np.save(inputs[port.name], values)
        if told:
            sizes += ["--shape", f"{port.name}={','.join(map(str, shape))}"]
    names = [port.name for port in session.get_outputs()]
    expected = [np.asarray(y, np.float32) for y in session.run(names, feeds)]
    direct = difference(run_by_netc(program, path, inputs, sizes, names, folder), expected)
    netc(program, "import", path, "-o", folder, "--force", *sizes)
    (spec,) = folder.glob("*.net")
    imported = difference(run_by_netc(program, spec, inputs, [], names, folder), expected)
    return direct, imported, len(spec.read_text().splitlines())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=pathlib.Path, metavar="MODEL")
    parser.add_argument("--shape", action="append", default=[], metavar="INPUT=SIZES")
    parser.add_argument("--input", action="append", default=[], metavar="INPUT=FILE")
    parser.add_argument("--netc", default="netc", help="the program (default: the one in PATH)")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--keep", type=pathlib.Path, help="where to leave the specs")
    options = parser.parse_args()
    given, failed = given_shapes(options.shape), False
    arrays = {name: np.load(file) for name, file in (text.split("=", 1) for text in options.input)}
    print("| model | direct | imported | lines |\n|---|---|---|---|")
    for path in options.models:
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch)
            try:
                direct, imported, lines = compare(options.netc, path, given, arrays, folder)
                failed |= max(direct, imported) > options.tolerance
                print(f"| {path.stem} | {direct:.1e} | {imported:.1e} | {lines} |", flush=True)
            except Refused as why:
                failed = True
                print(f"| {path.stem} | refused | {' / '.join(str(why).split(chr(10)))} | |", flush=True)
            except Exception as why:  # What ONNX Runtime itself does not run is no verdict on netc.
                print(f"| {path.stem} | not compared | {str(why).splitlines()[0]} | |", flush=True)
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                for spec in folder.glob("*.net"):
                    spec.rename(options.keep / spec.name)
    raise SystemExit(int(failed))


if __name__ == "__main__":
    main()
