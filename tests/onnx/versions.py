"""Each operator in each of its forms from operator set 6 to 23, as fixtures for `cargo test onnx`.

    python tests/onnx/versions.py       # needs onnx, onnxruntime and numpy; writes versions.npz beside itself

What is an attribute in one version of ONNX is an input in the next. A case here is one computation; its forms are how
it is written from an operator set on. ONNX Runtime says what comes out of the newest form, and has to agree on all
others that it takes. Cases are called `OPERATOR/what/SET` in the archive, which is laid out as make.py does it.
"""

import pathlib

import numpy as np
import onnx
import onnxruntime
from make import write
from onnx import helper, numpy_helper

HERE = pathlib.Path(__file__).parent
LAST = 23
RNG = np.random.default_rng(0)


def floats(*shape):
    return RNG.standard_normal(shape, dtype=np.float32)


def ints(*values):
    return np.array(values, np.int64)


IMAGE = floats(1, 4, 6, 5)
ROWS = floats(3, 4)


def changes(operator):
    """The operator sets from 6 on in which an operator changed, and the last."""
    history = onnx.defs.get_all_schemas_with_history()
    since = {s.since_version for s in history if s.domain == "" and s.name == operator}
    return {max(6, min(since)), LAST} | {v for v in since if 6 <= v <= LAST}


def node(operator, inputs, output="y", **attributes):
    return helper.make_node(operator, inputs, [output] if isinstance(output, str) else output, operator, **attributes)


def model(nodes, inputs, constants, outputs, version):
    value = lambda name, shape: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
    graph = helper.make_graph(
        nodes,
        "case",
        [value(name, array.shape) for name, array in inputs.items()],
        [value(name, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)


CASES = {}


def case(name, forms, *inputs):
    """Forms by the operator set from which they hold: nodes and constants."""
    CASES[name] = forms, {f"x{i or ''}": array for i, array in enumerate(inputs)}


def same(operator, *inputs, constants=None, what="plain", **attributes):
    """An operator that has been written in one way ever since."""
    constants = constants or {}
    names = [f"x{i or ''}" for i in range(len(inputs))] + list(constants)
    case(f"{operator}/{what}", {1: ([node(operator, names, **attributes)], constants)}, *inputs)


# Convolutions and pools: later versions only have more types and attributes.
KERNEL = floats(6, 2, 3, 3)
same("Conv", IMAGE, constants={"w": KERNEL, "b": floats(6)}, group=2, dilations=[1, 2], pads=[1, 0, 1, 2])
same("Conv", IMAGE, constants={"w": KERNEL}, what="auto_pad", group=2, strides=[2, 2], auto_pad="SAME_LOWER")
same("Conv", floats(1, 4, 9), constants={"w": floats(3, 4, 3)}, what="1-D", strides=[2], pads=[1, 1])
TURNED = {"w": floats(4, 3, 3, 3), "b": floats(3)}
same("ConvTranspose", IMAGE, constants=TURNED, strides=[2, 2], output_padding=[1, 0], pads=[1, 1, 0, 1])
same("ConvTranspose", IMAGE, constants=TURNED, what="output_shape", strides=[2, 3], output_shape=[12, 15])
same("ConvTranspose", IMAGE, constants=TURNED, what="auto_pad", strides=[2, 3], auto_pad="SAME_UPPER")
WINDOW = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 0]}
same("MaxPool", IMAGE, **WINDOW)
case("MaxPool/ceil", {10: ([node("MaxPool", ["x"], ceil_mode=1, dilations=[1, 2], **WINDOW)], {})}, IMAGE)
same("AveragePool", IMAGE, **WINDOW)
case("AveragePool/count_include_pad", {7: ([node("AveragePool", ["x"], count_include_pad=1, **WINDOW)], {})}, IMAGE)
case("AveragePool/ceil", {10: ([node("AveragePool", ["x"], ceil_mode=1, **WINDOW)], {})}, IMAGE)
case("AveragePool/dilations", {19: ([node("AveragePool", ["x"], kernel_shape=[2, 2], dilations=[2, 3])], {})}, IMAGE)
same("GlobalAveragePool", IMAGE)
same("GlobalMaxPool", IMAGE)

STATISTICS = {"scale": floats(4), "bias": floats(4), "mean": floats(4), "variance": floats(4) ** 2 + 0.5}
NORM = ["x", *STATISTICS]
case(
    "BatchNormalization/plain",
    {
        6: ([node("BatchNormalization", NORM, is_test=1, spatial=1, epsilon=1e-3)], STATISTICS),
        7: ([node("BatchNormalization", NORM, spatial=1, epsilon=1e-3)], STATISTICS),
        9: ([node("BatchNormalization", NORM, epsilon=1e-3)], STATISTICS),
        14: ([node("BatchNormalization", NORM, training_mode=0, epsilon=1e-3)], STATISTICS),
    },
    IMAGE,
)
same("InstanceNormalization", IMAGE, constants={"scale": floats(4), "bias": floats(4)}, epsilon=1e-2)
same("LRN", IMAGE, size=3, alpha=0.3, beta=0.6, bias=2.0)
MATRIX = {"w": floats(5, 4), "c": floats(5)}
case(
    "Gemm/plain",
    {
        6: ([node("Gemm", ["x", "w", "c"], transB=1, broadcast=1, alpha=0.5)], MATRIX),
        7: ([node("Gemm", ["x", "w", "c"], transB=1, alpha=0.5)], MATRIX),
    },
    ROWS,
)
case("Gemm/no bias", {11: ([node("Gemm", ["x", "w"], transB=1)], {"w": MATRIX["w"]})}, ROWS)
same("MatMul", ROWS, constants={"w": floats(4, 3)})

for operator in ("Add", "Sub", "Mul", "Div"):
    same(operator, IMAGE, floats(1, 4, 6, 5) + 4)
    a_channel = floats(4) + 3
    case(
        f"{operator}/broadcast",
        {
            6: ([node(operator, ["x", "c"], broadcast=1, axis=1)], {"c": a_channel}),
            7: ([node(operator, ["x", "c"])], {"c": a_channel.reshape(4, 1, 1)}),
        },
        IMAGE,
    )
for operator in ("Max", "Min", "Sum"):
    same(operator, IMAGE, floats(1, 4, 6, 5), floats(1, 4, 6, 5))
    case(f"{operator}/broadcast", {8: ([node(operator, ["x", "x1"])], {})}, IMAGE, floats(1, 4, 1, 1))
for operator in ("Relu", "Sigmoid", "Tanh", "Softplus", "HardSwish", "Gelu", "Identity"):
    same(operator, IMAGE)
same("Gelu", IMAGE, what="tanh", approximate="tanh")
same("LeakyRelu", IMAGE, alpha=0.2)
same("Elu", IMAGE, alpha=0.7)
same("HardSigmoid", IMAGE, alpha=0.3, beta=0.4)
SLOPES = floats(4)
case(
    "PRelu/plain",
    {6: ([node("PRelu", ["x", "s"])], {"s": SLOPES}), 7: ([node("PRelu", ["x", "s"])], {"s": SLOPES.reshape(4, 1, 1)})},
    IMAGE,
)
BOUNDS = {"low": np.array(-0.5, np.float32), "high": np.array(0.75, np.float32)}
case(
    "Clip/plain",
    {
        6: ([node("Clip", ["x"], min=-0.5, max=0.75)], {}),
        11: ([node("Clip", ["x", *BOUNDS])], BOUNDS),
    },
    IMAGE,
)
case(
    "Clip/above",
    {6: ([node("Clip", ["x"], max=0.75)], {}), 11: ([node("Clip", ["x", "", "high"])], {"high": BOUNDS["high"]})},
    IMAGE,
)
for operator in ("Softmax", "LogSoftmax"):
    # What was one axis became all axes from it on, and then one again.
    case(f"{operator}/rows", {1: ([node(operator, ["x"])], {}), 13: ([node(operator, ["x"], axis=1)], {})}, ROWS)
    flat = [
        node("Flatten", ["x"], "flat", axis=2),
        node(operator, ["flat"], "soft", axis=-1),
        node("Reshape", ["soft", "shape"]),
    ]
    forms = {1: ([node(operator, ["x"], axis=2)], {}), 13: (flat, {"shape": ints(*IMAGE.shape)})}
    case(f"{operator}/planes", forms, IMAGE)

same("Concat", IMAGE, floats(1, 3, 6, 5), axis=1)
case("Concat/from behind", {11: ([node("Concat", ["x", "x1"], axis=-3)], {})}, IMAGE, floats(1, 3, 6, 5))
PARTS = [node("Concat", ["a", "b"], axis=1)]
case(
    "Split/sizes",
    {
        6: ([node("Split", ["x"], ["b", "a"], axis=1, split=[3, 1]), *PARTS], {}),
        13: ([node("Split", ["x", "sizes"], ["b", "a"], axis=1), *PARTS], {"sizes": ints(3, 1)}),
    },
    IMAGE,
)
case(
    "Split/equal",
    {
        6: ([node("Split", ["x"], ["b", "a"], axis=1), *PARTS], {}),
        18: ([node("Split", ["x"], ["b", "a"], axis=1, num_outputs=2), *PARTS], {}),
    },
    IMAGE,
)
SLICED = {"starts": ints(1, -4), "ends": ints(3, 1000), "axes": ints(1, 2)}
case(
    "Slice/plain",
    {
        6: ([node("Slice", ["x"], starts=[1, -4], ends=[3, 1000], axes=[1, 2])], {}),
        10: ([node("Slice", ["x", *SLICED])], SLICED),
    },
    IMAGE,
)
case("Slice/steps", {10: ([node("Slice", ["x", *SLICED, "steps"])], {**SLICED, "steps": ints(1, 2)})}, IMAGE)
same("Transpose", IMAGE, perm=[0, 2, 3, 1])
case("Reshape/plain", {6: ([node("Reshape", ["x", "shape"])], {"shape": ints(0, 2, -1, 5)})}, IMAGE)
same("Flatten", IMAGE, axis=2)
case("Flatten/from behind", {11: ([node("Flatten", ["x"], axis=-3)], {})}, IMAGE)
case(
    "Squeeze/plain",
    {6: ([node("Squeeze", ["x"], axes=[2, 3])], {}), 13: ([node("Squeeze", ["x", "axes"])], {"axes": ints(2, 3)})},
    floats(2, 3, 1, 1),
)
case(
    "Unsqueeze/plain",
    {6: ([node("Unsqueeze", ["x"], axes=[1, 3])], {}), 13: ([node("Unsqueeze", ["x", "axes"])], {"axes": ints(1, 3)})},
    ROWS,
)
for mode in ("constant", "reflect", "edge"):
    pads = [0, 0, 1, 2, 0, 0, 3, 0]
    given = {"pads": ints(*pads), "value": np.array(0.5, np.float32)}
    if mode == "constant":
        forms = {
            6: ([node("Pad", ["x"], pads=pads, mode=mode, value=0.5)], {}),
            11: ([node("Pad", ["x", "pads", "value"], mode=mode)], given),
            18: (
                [node("Pad", ["x", "pads", "value", "axes"], mode=mode)],
                {**given, "pads": ints(1, 2, 3, 0), "axes": ints(2, -1)},
            ),
        }
    else:
        forms = {
            6: ([node("Pad", ["x"], pads=pads, mode=mode)], {}),
            11: ([node("Pad", ["x", "pads"], mode=mode)], {"pads": given["pads"]}),
        }
    case(f"Pad/{mode}", forms, IMAGE)

SCALES = np.array([1, 1, 2, 3], np.float32)
for mode, first in [("nearest", "nearest"), ("linear", "bilinear")]:
    old = {
        6: ([node("Upsample", ["x"], mode=first, width_scale=3.0, height_scale=2.0)], {}),
        7: ([node("Upsample", ["x"], mode=mode, scales=SCALES.tolist())], {}),
        9: ([node("Upsample", ["x", "scales"], mode=mode)], {"scales": SCALES}),
    }
    how = {"mode": mode, "coordinate_transformation_mode": "asymmetric"}
    if mode == "nearest":
        how["nearest_mode"] = "floor"
    none = np.zeros(0, np.float32)
    case(
        f"Resize/{mode}",
        {
            **old,
            10: ([node("Resize", ["x", "scales"], mode=mode)], {"scales": SCALES}),
            11: ([node("Resize", ["x", "roi", "scales"], **how)], {"roi": none, "scales": SCALES}),
            13: ([node("Resize", ["x", "", "scales"], **how)], {"scales": SCALES}),
            18: ([node("Resize", ["x", "", "scales"], axes=[2, 3], **how)], {"scales": SCALES[2:]}),
        },
        IMAGE,
    )
half = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
sizes = {"roi": np.zeros(0, np.float32), "scales": np.zeros(0, np.float32), "sizes": ints(1, 4, 9, 11)}
case("Resize/sizes", {11: ([node("Resize", ["x", *sizes], **half)], sizes)}, IMAGE)
BLOCK = floats(1, 8, 3, 2)
case("DepthToSpace/plain", {6: ([node("DepthToSpace", ["x"], blocksize=2)], {})}, BLOCK)
case("DepthToSpace/columns", {11: ([node("DepthToSpace", ["x"], blocksize=2, mode="CRD")], {})}, BLOCK)
same("SpaceToDepth", floats(1, 3, 4, 6), blocksize=2)
for operator, inputs_since in [("ReduceMean", 18), ("ReduceMax", 18), ("ReduceSum", 13)]:
    case(
        f"{operator}/plain",
        {
            6: ([node(operator, ["x"], axes=[2, 3], keepdims=0)], {}),
            inputs_since: ([node(operator, ["x", "axes"], keepdims=0)], {"axes": ints(2, -1)}),
        },
        IMAGE,
    )
case(
    "Dropout/plain",
    {
        6: ([node("Dropout", ["x"], is_test=1, ratio=0.3)], {}),
        7: ([node("Dropout", ["x"], ratio=0.3)], {}),
        12: ([node("Dropout", ["x", "ratio"])], {"ratio": np.array(0.3, np.float32)}),
    },
    IMAGE,
)
HALF = numpy_helper.from_array(np.full((4, 1, 1), 0.5, np.float32))
case("Constant/tensor", {6: ([node("Constant", [], "c", value=HALF), node("Mul", ["x", "c"])], {})}, IMAGE)
case("Constant/number", {12: ([node("Constant", [], "c", value_float=0.5), node("Mul", ["x", "c"])], {})}, IMAGE)
FILLED = [node("ConstantOfShape", ["s"], "c", value=numpy_helper.from_array(np.array([2.5], np.float32)))]
case("ConstantOfShape/plain", {9: ([*FILLED, node("Mul", ["x", "c"])], {"s": ints(4, 1, 1)})}, IMAGE)
# What PyTorch writes for `x.view(x.size(0), -1)`, and for `x / sqrt(c)` of a size.
axes = {6: {"axes": [0]}, 13: {}}
unsqueeze = {
    since: node("Unsqueeze", ["first"] if since == 6 else ["first", "zero"], "row", **a) for since, a in axes.items()
}
view = {
    since: (
        [
            node("Shape", ["x"], "shape"),
            node("Gather", ["shape", "index"], "first", axis=0),
            unsqueeze[since],
            node("Concat", ["row", "rest"], "target", axis=0),
            node("Reshape", ["x", "target"]),
        ],
        {"index": np.array(0, np.int64), "rest": ints(-1), **({} if since == 6 else {"zero": ints(0)})},
    )
    for since in axes
}
case("Shape/view", view, IMAGE)
case(
    "Gather/channels",
    {6: ([node("Gather", ["x", "which"], axis=1)], {"which": ints(2, 0, 3)})},
    IMAGE,
)
case(
    "Cast/of a size",
    {
        6: (
            [
                node("Shape", ["x"], "shape"),
                node("Gather", ["shape", "index"], "size", axis=0),
                node("Cast", ["size"], "number", to=onnx.TensorProto.FLOAT),
                node("Sqrt", ["number"], "root"),
                node("Div", ["x", "root"]),
            ],
            {"index": np.array(1, np.int64)},
        )
    },
    floats(4, 4),
)


def run(made, inputs):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def versions(name, forms):
    """The operator sets at which a case is tried: where its form or its operator changed, and the last."""
    first = max(6, min(forms))
    return sorted(v for v in changes(name.split("/")[0]) | set(forms) if v >= first)


def written():
    for name, (forms, inputs) in CASES.items():
        made = {}
        for version in versions(name, forms):
            nodes, constants = forms[max(f for f in forms if f <= version)]
            made[version] = model(nodes, inputs, constants, ["y"], version)
        expected = run(made[max(made)], inputs)
        for version, one in made.items():
            try:
                found = run(one, inputs)
            except Exception as error:  # ONNX Runtime has forgotten some forms of old.
                print(f"{name} at {version}: only netc: {str(error).splitlines()[0][:150]}")
            else:
                assert np.allclose(found[0], expected[0], atol=1e-5), (name, version)
            yield f"{name}/{version:02}", one, list(inputs.values()), expected


if __name__ == "__main__":
    write(HERE / "versions.npz", written())
