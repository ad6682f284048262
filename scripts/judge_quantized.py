"""Judges each layer of a quantized model by itself: netc and ONNX Runtime beside what the nodes say, in double precision.

    pip install numpy onnx onnxruntime torch
    python scripts/judge_quantized.py MODEL.onnx ... [--input X.npy] [--netc PATH] [--short]

A level that one layer rounds the other way changes all layers behind it, so that outputs of deep networks tell little. Here
the model is cut wherever its values are levels, and where it asks for the grid of a value (`DynamicQuantizeLinear`): every
part reads the values that ONNX Runtime has there, node by node and without optimization. The nodes of a part are computed
in float64 from the real numbers of these levels, so that a result is known in steps of its grid, with its distance to the
nearest point halfway between two levels. For netc and for ONNX Runtime, parts are

    exact    where all levels are the nearest, of two the even one
    halfway  where others are of numbers so near to halfway that rounding in float32 decides (HALFWAY)
    off      where others differ

and numbers that are on no grid are compared with a tolerance (CLOSE, of the largest). Exits with 1 where a part of netc is
off, and says which, or where a model could not be judged. Of a model that ONNX Runtime refuses, parts read what float64 has.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

# Of a step: errors of float32 in what is rounded to levels, at 8 bits; wider levels have as many more.
HALFWAY = 2e-3
# Of the largest: numbers that are rounded to no grid.
CLOSE = 2e-4

# Where scale and zero point of the result stand.
RESULT = {
    "QuantizeLinear": (1, 2), "QLinearConv": (6, 7), "QLinearMatMul": (6, 7), "QLinearAdd": (6, 7), "QLinearMul": (6, 7),
    "QLinearConcat": (0, 1), "QLinearGlobalAveragePool": (3, 4), "QLinearAveragePool": (3, 4),
    "QLinearSigmoid": (3, 4), "QLinearLeakyRelu": (3, 4), "QLinearSoftmax": (3, 4), "QLinearReduceMean": (3, 4),
    "QLinearWhere": (7, 8), "QGemm": (7, 8),
}  # fmt: skip


# Operators that are NumPy's; ONNX's own evaluator, which has all, takes its time for each.
PLAIN = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "MatMul": np.matmul, "Identity": lambda x: x,
    "Relu": lambda x: np.maximum(x, 0), "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Clip": lambda x, low=None, high=None: np.clip(x, low, high) if low is not None or high is not None else x,
}  # fmt: skip


def real(levels, scale, zero, axis=1, block=0):
    """The float32 numbers of levels."""
    scale, zero = np.asarray(scale, np.float32), np.asarray(0 if zero is None else zero).astype(np.int64)
    if block:
        places = range(levels.shape[axis])
        scale, zero = (np.repeat(v, block, axis).take(places, axis) if v.ndim else v for v in (scale, zero))
    elif scale.size > 1:
        shape = [-1 if i == axis % levels.ndim else 1 for i in range(levels.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape) if zero.size > 1 else zero
    else:
        scale, zero = scale.reshape(()), zero.reshape(())
    return (levels.astype(np.int64) - zero).astype(np.float32) * scale


class Double:
    """The nodes of a model in float64. Values that are given replace what is computed."""

    def __init__(self, model, given):
        self.opset = {o.domain: o.version for o in model.opset_import}.get("", 1)
        self.values = {t.name: self.double(numpy_helper.to_array(t)) for t in model.graph.initializer}
        self.values |= {name: self.double(value) for name, value in given.items()}
        # What is computed of every value, and of levels where they lie before rounding, between the ends of their type.
        self.ends, self.steps = {}, {}
        self.given = set(given)
        self.run(model)

    @staticmethod
    def double(value):
        return value.astype(np.float64) if value.dtype.kind == "f" else value

    def run(self, model):
        for node in model.graph.node:
            results = self.node(node)
            for name, value in zip(node.output, map(self.double, results)):
                self.ends[name] = value
                if name and name not in self.given:
                    self.values[name] = value

    def round(self, name, y, scale, zero, axis=1, kind=None):
        zero = np.asarray(zero) if zero is not None else np.zeros((), kind or np.uint8)
        scale = np.asarray(scale, np.float32).astype(np.float64)
        if scale.size > 1:
            shape = [-1 if i == axis % y.ndim else 1 for i in range(y.ndim)]
            scale, zero = scale.reshape(shape), zero.reshape(shape)
        else:
            scale, zero = scale.reshape(()), zero.reshape(())
        low, high = ends(zero.dtype)
        # Numbers that are float32, weights and inputs, are divided as such: that is the definition.
        narrow = y.astype(np.float32)
        steps = (narrow / scale.astype(np.float32)).astype(np.float64) if (narrow == y).all() else y / scale
        self.steps[name] = np.clip(steps + zero.astype(np.int64), low, high)
        return np.clip(np.rint(steps) + zero.astype(np.int64), low, high).astype(zero.dtype)

    def node(self, n):
        x = [self.values[i] if i else None for i in n.input]
        a = {v.name: helper.get_attribute_value(v) for v in n.attribute}
        get = lambda i: x[i] if i < len(x) else None
        op, out = n.op_type, n.output[0]
        dq = lambda i, axis=1: real(x[i], x[i + 1], x[i + 2], axis).astype(np.float64)
        if op == "DequantizeLinear":
            return [real(x[0], x[1], get(2), a.get("axis", 1), a.get("block_size", 0)).astype(np.float64)]
        if op == "QuantizeLinear":
            kinds = {TensorProto.INT8: np.int8, TensorProto.UINT16: np.uint16, TensorProto.INT16: np.int16}
            return [self.round(out, x[0], x[1], get(2), a.get("axis", 1), kinds.get(a.get("output_dtype")))]
        if op == "DynamicQuantizeLinear":
            return self.dynamic(x[0].astype(np.float32))
        if op == "ConvInteger":
            zero = np.asarray(0 if get(3) is None else x[3]).astype(np.float64)
            zero = zero.reshape(-1, *[1] * (x[1].ndim - 1)) if zero.size > 1 else zero
            return self.whole(a, x[0].astype(np.float64) - (0 if get(2) is None else float(x[2])), x[1] - zero)
        if op == "MatMulInteger":
            minus = lambda v, z: v.astype(np.float64) - (0 if z is None else np.asarray(z).astype(np.float64))
            return [(minus(x[0], get(2)) @ minus(x[1], get(3))).astype(np.int64)]
        if op == "MatMulNBits":
            y = x[0] @ self.of_bits(a, x[1], x[2], get(3)).T
            return [y if get(5) is None else y + x[5]]
        if op in RESULT:
            return [self.round(out, self.of_levels(op, a, x, dq), x[RESULT[op][0]], get(RESULT[op][1]))]
        return self.other(n, a, x)

    @staticmethod
    def of_bits(a, packed, scale, zero):
        """The matrix [N, K] of numbers of a few bits, the lowest bits of a byte first."""
        bits, k, n, block = a.get("bits", 4), a["K"], a["N"], a["block_size"]
        each = lambda v: v[..., None].astype(np.int64) >> np.arange(0, 8, bits) & (1 << bits) - 1
        split = lambda v: each(v).reshape(*v.shape[:-1], -1)
        blocks = -(-k // block)
        levels = split(packed.reshape(n, blocks, -1))[:, :, :block]
        scale = np.asarray(scale, np.float64).reshape(n, blocks, 1)
        middle = np.full((n, blocks), 1 << bits - 1) if zero is None else zero.reshape(n, -1)
        middle = split(middle)[:, :blocks] if middle.dtype == np.uint8 else middle
        return ((levels - middle[:, :, None]) * scale).reshape(n, -1)[:, :k]

    def whole(self, a, x, weight):
        y = self.other(helper.make_node("Conv", ["x", "w"], ["y"], **a), a, [x, weight])[0]
        return [np.rint(y).astype(np.int64)]

    def dynamic(self, x):
        low, high = min(np.float32(0), x.min()), max(np.float32(0), x.max())
        scale = np.float32(high - low) / np.float32(255) or np.float32(1)
        zero = np.uint8(np.clip(np.rint(np.float32(0 - low) / scale), 0, 255))
        return [np.clip(np.rint(x / scale) + int(zero), 0, 255).astype(np.uint8), np.asarray(scale), np.asarray(zero)]

    def of_levels(self, op, a, x, dq):
        a = {k: v for k, v in a.items() if k not in ("channels_last", "opset")}
        of_bias = lambda b: b * (np.float64(np.float32(x[1])) * np.asarray(x[4], np.float64).reshape(-1))
        if op == "QLinearConv":
            inputs = [dq(0), real(x[3], x[4], x[5], 0).astype(np.float64)]
            if len(x) > 8 and x[8] is not None:
                inputs.append(of_bias(x[8]))
            return self.other(helper.make_node("Conv", ["x", "w", "b"][: len(inputs)], ["y"], **a), a, inputs)[0]
        if op == "QLinearMatMul":
            return dq(0) @ real(x[3], x[4], x[5], -1).astype(np.float64)
        if op == "QGemm":
            w = real(x[3], x[4], x[5], 0 if a.get("transB") else 1).astype(np.float64)
            y = a.get("alpha", 1.0) * (dq(0).T if a.get("transA") else dq(0)) @ (w.T if a.get("transB") else w)
            return y if x[6] is None else y + of_bias(x[6])
        if op == "QLinearAdd":
            return dq(0) + dq(3)
        if op == "QLinearMul":
            return dq(0) * dq(3)
        if op == "QLinearConcat":
            return np.concatenate([dq(i) for i in range(2, len(x), 3)], a["axis"])
        if op == "QLinearWhere":
            return np.where(x[0], dq(1), dq(4))
        if op == "QLinearReduceMean":
            return dq(0).mean(tuple(a["axes"]), keepdims=bool(a.get("keepdims", 1)))
        return self.other(helper.make_node(op[7:], ["x"], ["y"], **a), a, [dq(0)])[0]

    def other(self, n, a, x):
        op = n.op_type
        if op in ("Conv", "ConvTranspose") and a.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID"):
            return [self.conv(op, a, x)]
        if op in PLAIN and (op != "Clip" or "min" not in a):
            return [PLAIN[op](*x)]
        if op == "GlobalAveragePool":
            return [x[0].mean(tuple(range(2, x[0].ndim)), keepdims=True)]
        if n.domain not in ("", "ai.onnx"):
            raise NotImplementedError(f"{n.domain}.{op}")
        if op == "MaxPool" and x[0].ndim == 4 and "auto_pad" not in a and len(n.output) == 1:
            return [self.max_pool(a, x[0])]
        if op == "Resize" and x[0].dtype.kind in "iu":
            # Of whole numbers the standard leaves open what becomes of fractions; ONNX Runtime cuts them.
            return [np.trunc(self.other(n, a, [x[0].astype(np.float64), *x[1:]])[0]).astype(x[0].dtype)]
        x = list(x)
        while x and x[-1] is None:
            x.pop()
        names = [f"i{i}" if v is not None else "" for i, v in enumerate(x)]
        one = helper.make_node(op, names, [f"o{i}" if o else "" for i, o in enumerate(n.output)])
        one.attribute.extend(n.attribute)
        values = {name: value for name, value in zip(names, x) if name}
        of_type = lambda name, value: helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        inputs = [of_type(name, value) for name, value in values.items()]
        outputs = [helper.make_empty_tensor_value_info(o) for o in one.output if o]
        graph = helper.make_graph([one], "g", inputs, outputs)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        results = ReferenceEvaluator(model).run(None, values)
        return [np.asarray(r) for r in results]

    @staticmethod
    def max_pool(a, x):
        kernel, (top, left, bottom, right) = list(a["kernel_shape"]), a.get("pads", [0] * 4)
        image = torch.from_numpy(np.ascontiguousarray(x, np.float64))
        around = [top, left]
        if (top, left) != (bottom, right) or 2 * top > kernel[0] or 2 * left > kernel[1]:
            image, around = torch.nn.functional.pad(image, [left, right, top, bottom], value=-np.inf), [0, 0]
        steps = list(a.get("strides", [1, 1])), around, list(a.get("dilations", [1, 1])), bool(a.get("ceil_mode", 0))
        return torch.nn.functional.max_pool2d(image, kernel, *steps).numpy().astype(x.dtype)

    @staticmethod
    def conv(op, a, x):
        dims = x[0].ndim - 2
        get = lambda name, default: list(a.get(name, [default] * dims))
        pads = list(a.get("pads", [0] * 2 * dims))
        image, weight = (torch.from_numpy(np.ascontiguousarray(v, np.float64)) for v in x[:2])
        bias = torch.from_numpy(x[2].astype(np.float64).copy()) if len(x) > 2 and x[2] is not None else None
        groups = a.get("group", 1)
        if op == "Conv":
            around = [p for i in reversed(range(dims)) for p in (pads[i], pads[dims + i])]
            image = torch.nn.functional.pad(image, around)
            of = getattr(torch.nn.functional, f"conv{dims}d")
            return of(image, weight, bias, get("strides", 1), 0, get("dilations", 1), groups).numpy()
        of = getattr(torch.nn.functional, f"conv_transpose{dims}d")
        y = of(image, weight, None, get("strides", 1), 0, 0, groups, get("dilations", 1))
        more = get("output_padding", 0)
        y = torch.nn.functional.pad(y, [v for m in reversed(more) for v in (0, m)])
        y = y[(slice(None), slice(None), *(slice(pads[i], y.shape[2 + i] - pads[dims + i]) for i in range(dims)))]
        return (y if bias is None else y + bias.reshape(-1, *[1] * dims)).numpy()


def ends(kind):
    kind = np.dtype(kind)
    if kind.kind in "iu":
        return np.iinfo(kind).min, np.iinfo(kind).max
    import ml_dtypes

    return int(ml_dtypes.iinfo(kind).min), int(ml_dtypes.iinfo(kind).max)


def session(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def cuts(model):
    """Values between parts, in order: levels that are computed, and what a grid is asked for."""
    known = {t.name for t in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if all(name in known or not name for name in node.input):
            known |= set(node.output)
        elif node.op_type in RESULT and (node.op_type == "QLinearConcat" or node.input[0] not in known):
            found.append(node.output[0])
        elif node.op_type == "DynamicQuantizeLinear":
            found.append(node.input[0])
    inputs = {i.name for i in model.graph.input}
    return [name for name in dict.fromkeys(found) if name not in inputs]


def with_outputs(model, names):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    return copy


def in_parts(model, given):
    """The model with an input for each value between its parts."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    fresh = {name: f"part_{i}" for i, name in enumerate(given)}
    for node in copy.graph.node:
        for i, name in enumerate(node.input):
            if name in fresh:
                node.input[i] = fresh[name]
    wanted = [o.name for o in copy.graph.output]
    del copy.graph.output[:], copy.graph.value_info[:]
    inputs = []
    for name, value in given.items():
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        inputs.append(helper.make_tensor_value_info(fresh[name], kind, value.shape))
    copy.graph.input.extend(inputs)
    names = list(dict.fromkeys([*given, *wanted]))
    for i, name in enumerate(names):
        copy.graph.node.append(helper.make_node("Identity", [name], [f"result_{i}"]))
        copy.graph.output.append(helper.make_empty_tensor_value_info(f"result_{i}"))
    return copy, fresh, names


def run_netc(netc, model, inputs, outputs, folder):
    onnx.save(model, folder / "parts.onnx")
    arguments = ["run", str(folder / "parts.onnx")]
    for i, (name, value) in enumerate(inputs.items()):
        value = value.astype(np.int32) if value.dtype == np.uint16 else value
        np.save(folder / f"in{i}.npy", value)
        arguments += ["--input", f"{name}={folder}/in{i}.npy"]
    for i, name in enumerate(outputs):
        arguments += ["--output", f"{name}={folder}/out{i}.npy"]
    done = subprocess.run([netc, *arguments], capture_output=True, text=True, timeout=1800)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return [np.load(folder / f"out{i}.npy") for i in range(len(outputs))]


def verdict(found, steps, value):
    """What is to be said of a part's result: kind, how many differ, how many steps at most."""
    if steps is not None:
        found = found.astype(np.float64).reshape(steps.shape)
        distance = np.abs(found - steps)
        span = max(1.0, float(np.abs(steps).max()) / 256)
        differ, off = found != value, distance > 0.5 + HALFWAY * span
        kind = "off" if off.any() else "halfway" if differ.any() else "exact"
        return kind, int(differ.sum()), float(distance.max())
    if value.dtype.kind in "iub":
        differs = found.reshape(value.shape) != value
        return ("off" if differs.any() else "exact"), int(differs.sum()), 0.0
    found, finite = found.astype(np.float64).reshape(value.shape), np.isfinite(value)
    largest = max(float(np.abs(value[finite]).max(initial=0)), 1e-30)
    error = np.where(finite, np.abs(found - value) / largest, np.where(np.isnan(found) | (found == value), 0, np.inf))
    worst = float(error.max(initial=0))
    return ("exact" if worst <= CLOSE else "off"), int((~(error <= CLOSE)).sum()), worst


def judge(path, x, netc, folder):
    model = onnx.load(path)
    between = cuts(model)
    finals = [o.name for o in model.graph.output]
    try:
        names = list(dict.fromkeys(between + finals))
        values = dict(zip(names, session(with_outputs(model, names)).run(None, x)))
        by = None
    except Exception as why:
        whole = Double(model, x)
        names = list(dict.fromkeys(between + finals))
        values = {name: whole.ends[name] for name in names}
        values = {n: v.astype(np.float32) if v.dtype == np.float64 else v for n, v in values.items()}
        by = f"float64, since ONNX Runtime says: {str(why).strip().splitlines()[0][:160]}"
    given = {name: values[name] for name in between}
    double = Double(model, {**x, **given})
    parts, fresh, outputs = in_parts(model, given)
    inputs = {**x, **{fresh[name]: value for name, value in given.items()}}
    found = run_netc(netc, parts, inputs, [f"result_{i}" for i in range(len(outputs))], folder)
    makers = {o: n for n in model.graph.node for o in n.output}
    rows = []
    for name, ours in zip(outputs, found):
        maker = makers.get(name)
        steps = double.steps.get(name)
        value = double.ends[name]
        netc_says = verdict(ours, steps, value)
        ort_says = verdict(values[name], steps, value)
        before = makers.get(maker.input[0]) if maker is not None and maker.op_type == "QuantizeLinear" else None
        rows.append((name, (before or maker).op_type, value.size, netc_says, ort_says))
    return rows, by


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    parser.add_argument("--input", action="append", default=[], metavar="[NAME=]X.npy", help="default: random numbers")
    parser.add_argument("--netc", default="netc", help="the program (default: the one in PATH)")
    parser.add_argument("--short", action="store_true", help="nothing of parts where ONNX Runtime alone is off")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bad = False
    for path in options.models:
        model = onnx.load(path, load_external_data=False)
        x = {}
        for i, port in enumerate(model.graph.input):
            mine = [v for v in options.input if v.startswith(port.name + "=") or (i == 0 and "=" not in v)]
            dims = [d.dim_value or 1 for d in port.type.tensor_type.shape.dim]
            kind = helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type)
            random = np.random.default_rng(2).normal(0, 1, dims).astype(kind)
            x[port.name] = np.load(mine[0].split("=", 1)[-1]) if mine else random
        with tempfile.TemporaryDirectory() as folder:
            try:
                rows, by = judge(path, x, options.netc, pathlib.Path(folder))
            except Exception as why:
                print(f"{path.stem}: not judged: {' / '.join(str(why).splitlines())[:500]}", flush=True)
                bad = True
                continue
        counts = [Counter(row[side][0] for row in rows) for side in (3, 4)]
        netc, runtime = (", ".join(f"{c[k]} {k}" for k in ("exact", "halfway", "off") if c[k]) for c in counts)
        beside = f"judged by {by}" if by else f"ONNX Runtime {runtime}"
        print(f"{path.stem}: {len(rows)} parts: netc {netc}; {beside}", flush=True)
        bad |= counts[0]["off"] > 0
        for name, op, size, ours, theirs in rows:
            if ours[0] == "off" or (theirs[0] == "off" and not options.short):
                pairs = zip(("netc", "ONNX Runtime"), (ours, theirs))
                told = [f"{who} {kind}, {count} of {size}, at most {most:.4g}" for who, (kind, count, most) in pairs]
                print(f"  {op} {name[-60:]}: {'; '.join(told)}", flush=True)
    sys.exit(int(bad))


if __name__ == "__main__":
    main()
