"""Compares netc's Resize with exact ratios, PyTorch and ONNX Runtime: every size 1…64 to every size 1…128, and common factors.

    pip install numpy onnx onnxruntime torch
    python scripts/compare_resize.py [--netc FILE] [--inputs LIST]

Each input size is one model with a Resize for each output size, factor and mode, whose results are joined. It is run
twice: as if PyTorch had written it, which must give what torch.nn.functional.interpolate gives, and as if nobody had,
which must give the standard's result with exact positions. Fails where netc differs from what it promises.

Where others differ from exact positions is counted, not matched:

- ONNX Runtime divides by the scale in single precision, which it also computes where sizes are given: 14 -> 2 takes pixel
  6 for 1 / (2 / 14) = 7. It copies images whose size a scale leaves as it is (10 * 1.1 is 11, but 5 * 1.1 is 5).
- PyTorch's nearest-exact, which its exporters do not write, adds and takes away a half in single precision.
"""

import argparse
import math
import pathlib
import subprocess
import sys
import tempfile
from collections import Counter
from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional

INPUTS, OUTPUTS = range(1, 65), range(1, 129)
FACTORS = {
    Fraction(f): float(Fraction(f)) for f in "1/4 3/10 1/2 3/4 11/10 5/4 3/2 17/10 2 5/2 3 4 1/3".split()
}
# Shares of the largest value, where positions are rounded to single precision.
TOLERANCE = 3e-5
ROUNDINGS = {
    "floor": math.floor,
    "ceil": math.ceil,
    "round_prefer_floor": lambda p: math.ceil(p - Fraction(1, 2)),
    "round_prefer_ceil": lambda p: math.floor(p + Fraction(1, 2)),
}
PLACES = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
# What torch.onnx.export writes down, by the arguments of interpolate.
TORCH = {
    ("nearest", "asymmetric", "floor"): {"mode": "nearest"},
    ("linear", "half_pixel", "floor"): {"mode": "bilinear"},
    ("linear", "pytorch_half_pixel", "floor"): {"mode": "bilinear"},
    ("linear", "align_corners", "floor"): {"mode": "bilinear", "align_corners": True},
    ("cubic", "half_pixel", "floor"): {"mode": "bicubic"},
    ("cubic", "pytorch_half_pixel", "floor"): {"mode": "bicubic"},
    ("cubic", "align_corners", "floor"): {"mode": "bicubic", "align_corners": True},
}
MODES = [
    *(("nearest", places, rounding) for places in PLACES for rounding in ROUNDINGS),
    ("nearest", "tf_half_pixel_for_nn", "floor"),
    *((mode, places, "floor") for mode in ("linear", "cubic") for places in PLACES),
]
# torch's nearest-exact, which its exporters refuse, is this.
NEAREST_EXACT = ("nearest", "half_pixel", "round_prefer_ceil")


def position(places, i, size, length, step):
    """The centre of output pixel `i` in input pixels."""
    match places:
        case "asymmetric":
            return i * step
        case "align_corners":
            return Fraction(i * (size - 1), length - 1) if length > 1 else Fraction(0)
        case "pytorch_half_pixel" if length == 1:
            return Fraction(0)
        case "half_pixel_symmetric":
            return Fraction(size, 2) - length * step / 2 + (i + Fraction(1, 2)) * step - Fraction(1, 2)
        case "tf_half_pixel_for_nn":
            return (i + Fraction(1, 2)) * step
        case _:
            return (i + Fraction(1, 2)) * step - Fraction(1, 2)


def cubic(distance, a=-0.75):
    d = abs(distance)
    if d <= 1:
        return ((a + 2) * d - (a + 3)) * d * d + 1
    return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a if d < 2 else 0.0


def exact(row, mode, places, rounding, length, step):
    """A resized row, its positions exact."""
    size, result = len(row), []
    at = lambda pixel: row[min(max(pixel, 0), size - 1)]
    for i in range(length):
        place = position(places, i, size, length, step)
        whole, part = math.floor(place), float(place - math.floor(place))
        if mode == "nearest":
            result.append(at(ROUNDINGS[rounding](place)))
        elif mode == "linear":
            result.append(at(whole) * (1 - part) + at(whole + 1) * part)
        else:
            result.append(sum(at(whole + k) * cubic(k - part) for k in (-1, 0, 1, 2)))
    return np.array(result)


def cases(size):
    """(mode, target, length, step): the target is a size or a factor."""
    for mode in MODES:
        for length in OUTPUTS:
            yield mode, length, length, Fraction(size, length)
        for factor, number in FACTORS.items():
            # PyTorch cuts the product in double precision; of these factors ONNX Runtime's is the same.
            if (length := int(size * number)) > 0:
                yield mode, number, length, 1 / factor


def model(size, wanted, producer):
    nodes, known = [], {}
    for n, ((mode, places, rounding), target, _, _) in enumerate(wanted):
        by_size = isinstance(target, int)
        name = f"{'size' if by_size else 'factor'}_{target}"
        known[name] = np.array([1, 1, 1, target], np.int64 if by_size else np.float32)
        attributes = {"mode": mode, "coordinate_transformation_mode": places, "nearest_mode": rounding}
        inputs = ["x", "", "", name] if by_size else ["x", "", name]
        nodes.append(helper.make_node("Resize", inputs, [f"y{n}"], **attributes))
    nodes.append(helper.make_node("Concat", [f"y{n}" for n in range(len(wanted))], ["y"], axis=3))
    total = sum(length for _, _, length, _ in wanted)
    value = lambda name, width: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 1, width])
    initializers = [numpy_helper.from_array(array, name) for name, array in known.items()]
    graph = helper.make_graph(nodes, "resizes", [value("x", size)], [value("y", total)], initializers)
    opset = [helper.make_opsetid("", 19)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9, producer_name=producer)


def by_netc(binary, folder, proto, row):
    onnx.save(proto, folder / "resizes.onnx")
    np.save(folder / "x.npy", row.reshape(1, 1, 1, -1))
    command = [binary, "run", "resizes.onnx", "--interpret", "--input", "x.npy", "--output", "y.npy"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return np.load(folder / "y.npy").ravel()


def by_onnx_runtime(proto, row):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": row.reshape(1, 1, 1, -1)})[0].ravel()


def by_torch(row, arguments, target):
    # Two channels: of one, PyTorch's layout has two names, and one of them another rule.
    image = torch.from_numpy(row).reshape(1, 1, 1, -1).repeat(1, 2, 2, 1)
    to = {"size": (2, target)} if isinstance(target, int) else {"scale_factor": (1.0, target)}
    return functional.interpolate(image, **to, **arguments)[0, 0, 0].numpy()


def differs(found, expected, scale):
    return np.abs(found - expected).max() > TOLERANCE * scale


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--netc", default="netc", help="the program")
    parser.add_argument("--inputs", help="input sizes, separated by commas [default: 1…64]")
    options = parser.parse_args()
    sizes = [int(s) for s in options.inputs.split(",")] if options.inputs else INPUTS
    binary = pathlib.Path(options.netc).resolve() if "/" in options.netc else options.netc
    torch.set_num_threads(1)
    onnxruntime.set_default_logger_severity(3)

    count, wrong, others = Counter(), [], Counter()
    examples = {}
    for size in sizes:
        # Neighbours differ by up to the largest value, so that a wrong pixel shows.
        row = np.random.default_rng(size).permutation(size).astype(np.float32) + 1
        wanted = list(cases(size))
        offsets = np.cumsum([0] + [length for _, _, length, _ in wanted])
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            plain = model(size, wanted, "")
            results = by_netc(binary, folder, plain, row)
            ort = by_onnx_runtime(plain, row)
            torch_wanted = [case for case in wanted if case[0] in TORCH]
            torch_offsets = np.cumsum([0] + [length for _, _, length, _ in torch_wanted])
            torch_results = by_netc(binary, folder, model(size, torch_wanted, "pytorch"), row)
        for (mode, target, length, step), a, b in zip(wanted, offsets, offsets[1:]):
            kind = f"{' '.join(mode)}, by {'size' if isinstance(target, int) else 'factor'}"
            should = exact(row, *mode, length, step)
            count["the standard, exactly"] += 1
            if differs(results[a:b], should, size):
                wrong.append(f"the standard: {kind} {size} -> {target}")
            if differs(ort[a:b], should, size):
                others["ONNX Runtime", kind] += 1
                examples.setdefault(("ONNX Runtime", kind), f"{size} -> {target}")
            if mode == NEAREST_EXACT and differs(by_torch(row, {"mode": "nearest-exact"}, target), should, size):
                others["PyTorch's nearest-exact", kind] += 1
                examples.setdefault(("PyTorch's nearest-exact", kind), f"{size} -> {target}")
        for (mode, target, length, _), a, b in zip(torch_wanted, torch_offsets, torch_offsets[1:]):
            should = by_torch(row, TORCH[mode], target)
            count["PyTorch"] += 1
            if len(should) != length or differs(torch_results[a:b], should, size):
                wrong.append(f"PyTorch: {' '.join(mode)} {size} -> {target}")
        print(f"{size}: {len(wrong)} wrong so far", file=sys.stderr, flush=True)

    for what, number in count.items():
        print(f"netc beside {what}: {number} rows, {sum(w.startswith(what.split(',')[0]) for w in wrong)} differ")
    print("\nOthers beside exact positions (rows that differ, and the first of them):")
    for (who, kind), number in sorted(others.items()):
        print(f"  {who}: {kind}: {number}, {examples[who, kind]}")
    print("\n".join(wrong[:50]))
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
