"""Recurrent layers, layers that sample images, volumes, Einstein sums, spectra, norms and pools by powers, attention,
computed weights, the forms of ONNX Runtime's optimizer, loops, and results whose number the data say, as fixtures for
`cargo test onnx`.

    python tests/onnx/layers.py   # needs onnx, onnxruntime and numpy; writes layers.npz beside itself

Cases of the backend suite are those of the operators below; what they expect is what the suite says. Others are built here,
and ONNX Runtime says what they compute. The archive is as those of make.py.
"""

import pathlib
import warnings

import numpy as np
import onnx
from make import SIZE_LIMIT, entries
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
# Which inputs are data; all others are known.
OPERATORS = {
    "LSTM": {0}, "GRU": {0}, "RNN": {0}, "GridSample": {0, 1}, "DeformConv": {0, 2, 4}, "RoiAlign": {0, 1},
    "Einsum": {0, 1, 2}, "AffineGrid": {0}, "MaxPool": {0}, "AveragePool": {0}, "GlobalAveragePool": {0},
    "NonMaxSuppression": {0, 1}, "NonZero": {0}, "Compress": {0}, "Unique": {0}, "Scan": {0, 1},
    "DFT": {0}, "STFT": {0}, "LpPool": {0}, "GlobalLpPool": {0}, "LpNormalization": {0}, "RMSNormalization": {0},
    "MeanVarianceNormalization": {0}, "Attention": {0, 1, 2, 3},
}  # fmt: skip
RNG = np.random.default_rng(7)


def numbers(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def suite():
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    for case in cases:
        nodes = case.model.graph.node
        if len(nodes) != 1 or nodes[0].op_type not in OPERATORS:
            continue
        inputs, outputs = case.data_sets[0]
        if "Pool" in nodes[0].op_type and inputs[0].ndim < 5:
            continue
        inputs = [np.float32(i) if i.dtype == np.float64 else i for i in inputs]
        outputs = [np.float32(o) if o.dtype in (np.float64, np.int64) else o for o in outputs]
        model = onnx.ModelProto.FromString(case.model.SerializeToString())
        for value in [*model.graph.input, *model.graph.output]:
            if value.type.tensor_type.elem_type == TensorProto.DOUBLE:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        known = {t.name for t in model.graph.initializer}
        kept = []
        for index, (info, array) in enumerate(zip([i for i in model.graph.input if i.name not in known], inputs)):
            place = list(nodes[0].input).index(info.name)
            if place in OPERATORS[nodes[0].op_type] and array.dtype == np.float32 and array.size:
                kept.append(array)
            else:
                model.graph.input.remove(info)
                model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), info.name))
        yield case.name, model, kept, outputs


def made(name, nodes, inputs, known=(), opset=17, domains=(), outputs=("y",)):
    """A case by what ONNX Runtime computes of it, without its optimizations."""
    import onnxruntime

    value = lambda n, a: helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape)  # noqa: E731
    graph = helper.make_graph(
        nodes,
        name,
        [value(n, a) for n, a in inputs.items()],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in dict(known).items()],
    )
    sets = [helper.make_opsetid("", opset)] + [helper.make_opsetid(d, 1) for d in domains]
    model = helper.make_model(graph, opset_imports=sets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = session.run(None, inputs)
    return name, model, list(inputs.values()), [np.float32(o) if o.dtype == np.int64 else o for o in found]


def ours():
    node = helper.make_node
    volume = numbers(2, 4, 5, 6, 7)
    convs = {
        "plain": ((6, 4, 3, 3, 3), dict(pads=[1] * 6)),
        "strided": ((6, 4, 3, 3, 3), dict(strides=[2, 1, 2], pads=[1, 0, 1, 0, 1, 2])),
        "dilated": ((3, 4, 2, 3, 2), dict(dilations=[3, 1, 2])),
        "grouped": ((8, 2, 2, 3, 3), dict(group=2, pads=[0, 1, 1, 1, 1, 1])),
        "depthwise": ((4, 1, 3, 3, 3), dict(group=4, pads=[1] * 6)),
        "flat": ((5, 4, 1, 3, 3), dict(strides=[2, 2, 2], pads=[0, 1, 1, 0, 1, 1])),
        "same": ((5, 4, 4, 3, 2), dict(auto_pad="SAME_UPPER", strides=[2, 2, 1])),
    }
    for name, (shape, attributes) in convs.items():
        known = {"w": numbers(*shape), "b": numbers(shape[0])}
        yield made(f"conv3d_{name}", [node("Conv", ["x", "w", "b"], ["y"], **attributes)], {"x": volume}, known)
    transposed = {
        "plain": ((4, 3, 3, 3, 3), {}),
        "twice": ((4, 5, 2, 2, 2), dict(strides=[2, 2, 2])),
        "padded": ((4, 3, 4, 3, 3), dict(strides=[2, 3, 1], pads=[1, 0, 1, 1, 1, 0], output_padding=[1, 2, 0])),
        "grouped": ((4, 3, 3, 2, 3), dict(group=2, strides=[2, 1, 2], dilations=[2, 1, 1])),
        "gaps": ((4, 2, 2, 2, 2), dict(strides=[3, 3, 3])),
    }
    for name, (shape, attributes) in transposed.items():
        channels = shape[1] * attributes.get("group", 1)
        known = {"w": numbers(*shape), "b": numbers(channels)}
        nodes = [node("ConvTranspose", ["x", "w", "b"], ["y"], **attributes)]
        yield made(f"conv_transpose3d_{name}", nodes, {"x": volume}, known)
    pools = {
        "max": ("MaxPool", dict(kernel_shape=[2, 2, 2], strides=[2, 2, 2])),
        "max_padded": ("MaxPool", dict(kernel_shape=[3, 3, 3], strides=[2, 2, 2], pads=[1] * 6)),
        "max_dilated": ("MaxPool", dict(kernel_shape=[2, 2, 2], dilations=[2, 3, 1])),
        "max_ceil": ("MaxPool", dict(kernel_shape=[2, 3, 2], strides=[2, 2, 2], ceil_mode=1)),
        "avg": ("AveragePool", dict(kernel_shape=[2, 3, 2], strides=[1, 2, 1])),
        "avg_padded": ("AveragePool", dict(kernel_shape=[3, 3, 3], pads=[1] * 6)),
        "avg_with_pad": ("AveragePool", dict(kernel_shape=[3, 3, 3], pads=[1] * 6, count_include_pad=1)),
        "global": ("GlobalAveragePool", {}),
        "global_max": ("GlobalMaxPool", {}),
    }
    for name, (operator, attributes) in pools.items():
        yield made(f"pool3d_{name}", [node(operator, ["x"], ["y"], **attributes)], {"x": volume})
    known = {"w": numbers(6, 4, 3, 3, 3), "v": numbers(3, 6, 3, 1, 1), "s": numbers(6), "m": np.abs(numbers(6)) + 1}
    nodes = [
        node("Conv", ["x", "w"], ["a"], pads=[1] * 6),
        node("BatchNormalization", ["a", "s", "s", "s", "m"], ["b"]),
        node("Relu", ["b"], ["c"]),
        node("MaxPool", ["c"], ["d"], kernel_shape=[1, 2, 2], strides=[1, 2, 2]),
        node("Conv", ["d", "v"], ["e"], pads=[1, 0, 0, 1, 0, 0]),
        node("InstanceNormalization", ["e", "t", "t"], ["y"]),
    ]
    yield made("network3d", nodes, {"x": volume}, {**known, "t": numbers(3)})

    sequence = numbers(6, 2, 5)
    for operator, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        for direction in ("forward", "reverse", "bidirectional"):
            d = 2 if direction == "bidirectional" else 1
            known = {"w": numbers(d, gates * 7, 5), "r": numbers(d, gates * 7, 7), "b": numbers(d, 2 * gates * 7)}
            known["h"] = numbers(d, 2, 7)
            outputs = ["y", "yh"] + (["yc"] if operator == "LSTM" else [])
            attributes = dict(hidden_size=7, direction=direction)
            inputs = ["x", "w", "r", "b", "", "h"]
            if operator == "LSTM":
                inputs, known["c"] = [*inputs, "c"], numbers(d, 2, 7)
            if operator == "GRU" and direction != "reverse":
                attributes["linear_before_reset"] = 1
            if operator == "RNN" and direction == "reverse":
                attributes["activations"] = ["Relu"]
            nodes = [node(operator, inputs, outputs, **attributes)]
            yield made(f"{operator.lower()}_{direction}", nodes, {"x": sequence}, known, outputs=outputs)
    # As PyTorch writes a layer that has the batch first, and a recogniser of text its head.
    known = {"w": numbers(2, 28, 5), "r": numbers(2, 28, 7), "s": np.int64([0, 0, -1]), "f": numbers(14, 9)}
    nodes = [
        node("Transpose", ["x"], ["a"], perm=[1, 0, 2]),
        node("LSTM", ["a", "w", "r"], ["b"], hidden_size=7, direction="bidirectional"),
        node("Transpose", ["b"], ["c"], perm=[0, 2, 1, 3]),
        node("Reshape", ["c", "s"], ["d"]),
        node("Transpose", ["d"], ["e"], perm=[1, 0, 2]),
        node("MatMul", ["e", "f"], ["y"]),
    ]
    yield made("lstm_batch_first", nodes, {"x": numbers(2, 6, 5)}, known)

    equations = {
        "bchw,bdhw->bcd": ((2, 3, 4, 5), (2, 6, 4, 5)),
        "bchw,bchw->bhw": ((2, 3, 4, 5), (2, 3, 4, 5)),
        "bhqd,bhkd->bhqk": ((2, 3, 4, 5), (2, 3, 6, 5)),
        "nctv,vw->nctw": ((2, 3, 4, 5), (5, 6)),
        "...ij,...jk->...ik": ((2, 3, 4), (2, 4, 5)),
        "ij,jk": ((3, 4), (4, 5)),
        "bi,bj->bij": ((2, 3), (2, 4)),
        "bij,bj->bi": ((2, 3, 4), (2, 4)),
    }
    for i, (equation, shapes) in enumerate(equations.items()):
        inputs = {n: numbers(*s) for n, s in zip("xz", shapes)}
        yield made(f"einsum_{i}", [node("Einsum", ["x", "z"], ["y"], equation=equation)], inputs)
    yield made("einsum_known", [node("Einsum", ["x", "w"], ["y"], equation="bchw,dc->bdhw")], {"x": numbers(2, 3, 4, 5)}, {"w": numbers(6, 3)})
    yield made("einsum_trace", [node("Einsum", ["x"], ["y"], equation="bii->b")], {"x": numbers(2, 3, 3)})

    image, weight = numbers(1, 4, 7, 8), numbers(6, 4, 3, 3)
    yield made("conv_computed_weight", [node("Conv", ["x", "w"], ["y"], pads=[1] * 4)], {"x": image, "w": weight})
    yield made("conv_computed_bias", [node("Conv", ["x", "w", "b"], ["y"])], {"x": image, "b": numbers(6)}, {"w": weight})
    yield made("conv_computed_groups", [node("Conv", ["x", "w"], ["y"], group=4, strides=[2, 1])], {"x": image, "w": numbers(8, 1, 3, 3)})
    yield made("conv_transpose_computed_weight", [node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])], {"x": image, "w": numbers(4, 3, 2, 2)})
    modulated = [
        node("Mul", ["w", "s"], ["m"]),
        node("Conv", ["x", "m"], ["c"], pads=[1] * 4),
        node("Relu", ["c"], ["y"]),
    ]
    yield made("conv_modulated", modulated, {"x": image, "s": numbers(1, 4, 1, 1)}, {"w": weight})

    grid = np.clip(numbers(1, 5, 6, 2), -1.6, 1.6)
    for mode in ("nearest", "bilinear", "bicubic"):
        for border in ("zeros", "border", "reflection"):
            for corners in (0, 1):
                name = f"grid_sample_{mode}_{border}_{corners}"
                attributes = dict(mode=mode, padding_mode=border, align_corners=corners)
                yield made(name, [node("GridSample", ["x", "g"], ["y"], **attributes)], {"x": image, "g": grid})

    ms = ("com.microsoft",)
    contrib = lambda *a, **k: node(*a, domain="com.microsoft", **k)  # noqa: E731
    b = numbers(6)
    yield made("fused_conv", [contrib("FusedConv", ["x", "w", "b"], ["y"], activation="Relu", pads=[1] * 4)], {"x": image}, {"w": weight, "b": b}, domains=ms)
    yield made("fused_conv_sum", [contrib("FusedConv", ["x", "w", "b", "z"], ["y"], activation="Relu", pads=[1] * 4)], {"x": image, "z": numbers(1, 6, 7, 8)}, {"w": weight, "b": b}, domains=ms)
    yield made("fused_conv_leaky", [contrib("FusedConv", ["x", "w"], ["y"], activation="LeakyRelu", activation_params=[0.3])], {"x": image}, {"w": weight}, domains=ms)
    yield made("fused_matmul", [contrib("FusedMatMul", ["x", "z"], ["y"], transB=1, alpha=0.5)], {"x": numbers(2, 3, 4), "z": numbers(2, 5, 4)}, domains=ms)
    yield made("fused_matmul_batch", [contrib("FusedMatMul", ["x", "z"], ["y"], transA=1, transBatchA=1)], {"x": numbers(4, 2, 3), "z": numbers(2, 4, 5)}, domains=ms)
    yield made("fused_gemm", [contrib("FusedGemm", ["x", "w", "b"], ["y"], activation="Relu", transB=1)], {"x": numbers(3, 4)}, {"w": numbers(6, 4), "b": b}, domains=ms)
    yield made("gelu", [contrib("Gelu", ["x"], ["y"])], {"x": image}, domains=ms)
    yield made("bias_gelu", [contrib("BiasGelu", ["x", "b"], ["y"])], {"x": numbers(2, 3, 6)}, {"b": b}, domains=ms)
    yield made("quick_gelu", [contrib("QuickGelu", ["x"], ["y"])], {"x": image}, domains=ms)
    yield made("fast_gelu", [contrib("FastGelu", ["x", "b"], ["y"])], {"x": numbers(2, 3, 6)}, {"b": b}, domains=ms)
    known = {"g": numbers(6), "b": b, "t": numbers(6)}
    nodes = [contrib("SkipLayerNormalization", ["x", "z", "g", "b", "t"], ["y"], epsilon=1e-5)]
    yield made("skip_layer_norm", nodes, {"x": numbers(2, 3, 6), "z": numbers(2, 3, 6)}, known, domains=ms)

    # Readers before what they read.
    nodes = [node("Add", ["a", "x"], ["y"]), node("Relu", ["b"], ["a"]), node("Neg", ["x"], ["b"])]
    name, model, inputs, outputs = made("out_of_order", nodes[::-1], {"x": image})
    ordered = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(ordered[::-1])
    yield name, model, inputs, outputs

    # A loop of three turns, which gathers what each gives.
    info = lambda n, t, s=None: helper.make_tensor_value_info(n, t, s)  # noqa: E731
    body = helper.make_graph(
        [
            node("Mul", ["v", "half"], ["h"]),
            node("Add", ["h", "x"], ["w"]),
            node("Identity", ["going"], ["on"]),
            node("Identity", ["w"], ["seen"]),
        ],
        "body",
        [info("i", TensorProto.INT64, []), info("going", TensorProto.BOOL, []), info("v", TensorProto.FLOAT)],
        [info("on", TensorProto.BOOL, []), info("w", TensorProto.FLOAT), info("seen", TensorProto.FLOAT)],
    )
    nodes = [node("Loop", ["turns", "", "x"], ["y", "all"], body=body)]
    known = {"turns": np.int64(3), "half": np.float32(0.5)}
    yield made("loop", nodes, {"x": numbers(2, 3)}, known, outputs=("y", "all"))

    # Results whose number the data say, and what is computed of each.
    corners = np.abs(numbers(2, 40, 2)) * 20
    boxes = np.concatenate([corners, corners + np.abs(numbers(2, 40, 2)) * 15], -1)
    scores = np.abs(numbers(2, 3, 40))
    known = {"k": np.int64([6]), "iou": np.float32([0.3]), "least": np.float32([0.4])}
    suppression = node("NonMaxSuppression", ["x", "z", "k", "iou", "least"], ["i"])
    nodes = [suppression, node("Cast", ["i"], ["y"], to=TensorProto.FLOAT)]
    yield made("nms", nodes, {"x": boxes, "z": scores}, known)
    centers = np.concatenate([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], -1)
    nodes = [helper.make_node("NonMaxSuppression", ["x", "z", "k", "iou"], ["i"], center_point_box=1)]
    nodes += [node("Cast", ["i"], ["y"], to=TensorProto.FLOAT)]
    yield made("nms_centers", nodes, {"x": centers, "z": scores}, known)
    # As detectors end: the columns of image, class and box beside the box itself.
    nodes = [
        suppression,
        node("Gather", ["i", "two"], ["b"], axis=1),
        node("Squeeze", ["x", "zero"], ["x0"]),
        node("Gather", ["x0", "b"], ["boxes"], axis=0),
        node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        node("Mul", ["boxes", "half"], ["halves"]),
        node("Concat", ["f", "halves"], ["y"], axis=1),
    ]
    known = {**known, "two": np.int64(2), "zero": np.int64([0]), "half": np.float32(0.5)}
    yield made("nms_rows", nodes, {"x": boxes[:1], "z": scores[:1]}, known)
    nodes = [
        node("Greater", ["z", "bound"], ["mask"]),
        node("NonZero", ["mask"], ["places"]),
        node("Transpose", ["places"], ["turned"], perm=[1, 0]),
        node("Squeeze", ["turned", "one"], ["rows"]),
        node("Gather", ["x", "rows"], ["taken"], axis=0),
        node("Sigmoid", ["taken"], ["y"]),
    ]
    known = {"bound": np.float32(0.2), "one": np.int64([1])}
    yield made("rows_above_a_bound", nodes, {"x": numbers(20, 3), "z": numbers(20)}, known)
    nodes = [node("Unique", ["x"], ["y", "a", "b", "c"])]
    nodes += [node("Cast", [n], [n + "f"], to=TensorProto.FLOAT) for n in "abc"]
    x = RNG.integers(0, 5, 30).astype(np.float32)
    yield made("unique", nodes, {"x": x}, outputs=("y", "af", "bf", "cf"))

    # A body for each entry, from the last to the first.
    body = helper.make_graph(
        [node("Add", ["s", "e"], ["t"]), node("Mul", ["t", "e"], ["o"])],
        "body",
        [info("s", TensorProto.FLOAT, [3]), info("e", TensorProto.FLOAT, [3])],
        [info("t", TensorProto.FLOAT, [3]), info("o", TensorProto.FLOAT, [3])],
    )
    for name, attributes in {
        "scan": {},
        "scan_back": dict(scan_input_directions=[1], scan_output_directions=[1]),
        "scan_axes": dict(scan_input_axes=[1], scan_output_axes=[1]),
    }.items():
        nodes = [node("Scan", ["h", "x"], ["y", "all"], body=body, num_scan_inputs=1, **attributes)]
        x = numbers(3, 5) if name == "scan_axes" else numbers(5, 3)
        yield made(name, nodes, {"x": x, "h": numbers(3)}, outputs=("y", "all"))

    # Layer norms over other axes than the last, and the statistics that they stash.
    image = numbers(2, 3, 4, 5)
    for name, axis, size in [("chw", 1, (3, 4, 5)), ("hw", -2, (4, 5)), ("w", -1, (5,)), ("all", 0, (2, 3, 4, 5))]:
        known = {"g": numbers(*size), "b": numbers(*size)}
        norm = lambda given, results: [node("LayerNormalization", given, results, axis=axis, epsilon=1e-3)]  # noqa: B023, E731
        yield made(f"layer_norm_{name}", norm(["x", "g", "b"], ["y"]), {"x": image}, known)
        yield made(f"layer_norm_{name}_without_bias", norm(["x", "g"], ["y"]), {"x": image}, known)
        stashed = norm(["x", "g", "b"], ["y", "m", "d"])
        yield made(f"layer_norm_{name}_stash", stashed, {"x": image}, known, outputs=("y", "m", "d"))
    yield made("layer_norm_computed_scale", [node("LayerNormalization", ["x", "g", "b"], ["y"], axis=-1)], {"x": image, "g": numbers(5), "b": numbers(5)})

    # Places in a row as columns and rows, by numbers that are nodes of their own; remainders of known numbers.
    constant = lambda name, array: node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(array)))  # noqa: E731
    nodes = [
        constant("k", np.int64([6])),
        constant("eight", np.int64(8)),
        node("TopK", ["x", "k"], ["values", "places"]),
        node("Div", ["places", "eight"], ["rows"]),
        node("Cast", ["rows"], ["whole_rows"], to=TensorProto.INT64),
        node("Mod", ["places", "eight"], ["columns"]),
        *[node("Cast", [a], [b], to=TensorProto.FLOAT) for a, b in (("whole_rows", "y"), ("columns", "z"))],
    ]
    yield made("rows_and_columns", nodes, {"x": numbers(2, 64)}, outputs=("y", "z"))
    nodes = [
        node("Mod", ["seven", "three"], ["m"], fmod=1),
        node("Mod", ["seven", "three"], ["n"]),
        *[node("Cast", [a], [a + "f"], to=TensorProto.FLOAT) for a in "mn"],
        node("Add", ["x", "mf"], ["xm"]),
        node("Mul", ["xm", "nf"], ["y"]),
    ]
    yield made("known_remainders", nodes, {"x": numbers(2, 2)}, {"seven": np.int64([-7, 7]), "three": np.int64([3, -3])})

    # Scales of the data at hand, by an operator of its own and by its parts, as Neural Compressor writes them.
    weight = RNG.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    known = {"w": weight, "ws": np.float32(0.01), "wz": np.int8(0), "b": numbers(4), "column": np.int64([1, -1, 1, 1])}
    ends = [
        node("ConvInteger", ["q", "w", "z", "wz"], ["sums"], pads=[1] * 4),
        node("Mul", ["s", "ws"], ["scale"]),
        node("Div", ["b", "scale"], ["steps"]),
        node("Floor", ["steps"], ["floored"]),
        node("Cast", ["floored"], ["terms"], to=TensorProto.INT32),
        node("Reshape", ["terms", "column"], ["of_channels"]),
        node("Add", ["sums", "of_channels"], ["all"]),
        node("Cast", ["all"], ["reals"], to=TensorProto.FLOAT),
        node("Mul", ["reals", "scale"], ["y"]),
    ]
    image = numbers(1, 3, 6, 7)
    nodes = [node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), *ends]
    yield made("conv_of_dynamic_levels", nodes, {"x": image}, known)
    nodes = [
        node("ReduceMin", ["x"], ["least"], keepdims=0),
        node("ReduceMax", ["x"], ["most"], keepdims=0),
        node("Abs", ["least"], ["below"]),
        node("Abs", ["most"], ["above"]),
        node("Max", ["below", "above"], ["size"]),
        node("Div", ["size", "half"], ["s"]),
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
    ]
    known = {**known, "half": np.float32(127), "z": np.int8(0)}
    yield made("conv_of_symmetric_levels", [*nodes, *ends], {"x": image}, known)
    back = node("DequantizeLinear", ["q", "s", "z"], ["y"])
    yield made("dynamic_levels_and_back", [node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), back], {"x": image})



    yield from signals()


def signals():
    node = helper.make_node
    for axis, shape, attributes in (
        (1, (2, 10, 1), {}),
        (1, (2, 10, 2), dict(inverse=1)),
        (2, (2, 3, 11, 1), dict(onesided=1)),
        (1, (2, 6, 5, 1), dict(onesided=1)),
    ):
        spectrum = node("DFT", ["x"], ["y"], axis=axis, **attributes)
        yield made(f"dft_{'x'.join(map(str, shape))}", [spectrum], {"x": numbers(*shape)})
    for length in (6, 16):
        nodes = [node("DFT", ["x", "length"], ["y"], axis=1)]
        yield made(f"dft_of_{length}", nodes, {"x": numbers(2, 10, 1)}, {"length": np.int64(length)})
    for name, known, attributes in (
        ("stft", {"step": np.int64(8), "window": np.hanning(16).astype(np.float32)}, {}),
        ("stft_of_two_sides", {"step": np.int64(5), "window": np.hanning(12).astype(np.float32)}, dict(onesided=0)),
    ):
        yield made(name, [node("STFT", ["x", "step", "window"], ["y"], **attributes)], {"x": numbers(2, 64, 1)}, known)
    for window in ("Hann", "Hamming", "Blackman"):
        for periodic in (0, 1):
            nodes = [node(f"{window}Window", ["size"], ["w"], periodic=periodic), node("Mul", ["x", "w"], ["y"])]
            yield made(f"{window.lower()}_{periodic}", nodes, {"x": numbers(2, 10)}, {"size": np.int64(10)})
    bounds = {"bins": np.int64(12), "length": np.int64(64), "rate": np.int64(8000)}
    bounds |= {"low": np.float32(20), "high": np.float32(3800)}
    nodes = [node("MelWeightMatrix", list(bounds), ["m"]), node("MatMul", ["x", "m"], ["y"])]
    yield made("mel", nodes, {"x": numbers(2, 33)}, bounds)
    yield made("lp_of_zeros", [node("LpNormalization", ["x"], ["y"], axis=1)], {"x": np.zeros((2, 3), np.float32)})
    pool = node("LpPool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2], p=1)
    yield made("lp_pool_padded", [pool], {"x": numbers(1, 3, 8, 8)})
    norm = node("SimplifiedLayerNormalization", ["x", "s"], ["y"], axis=-1)
    yield made("rms_of_onnx_runtime", [norm], {"x": numbers(2, 5, 8)}, {"s": numbers(8)})
    for mode, pads in (("reflect", [0, 2, 0, 1]), ("edge", [0, 3, 0, 2]), ("wrap", [0, 3, 0, 2])):
        yield made(f"pad_rows_{mode}", [node("Pad", ["x", "pads"], ["y"], mode=mode)], {"x": numbers(2, 5)},
                   {"pads": np.int64(pads)}, opset=19)  # fmt: skip
    for name, attributes in {"channels": dict(axes=[1]), "pixels": dict(axes=[2, 3], keepdims=0), "all": {}}.items():
        nodes = [node("ReduceProd", ["x"], ["y"], **attributes)]
        yield made(f"product_of_{name}", nodes, {"x": numbers(2, 5, 3, 4)})
    yield from regions()


def regions():
    """Boxes within an image, beyond it, turned about, without an extent, and of several images."""
    node = helper.make_node
    image = RNG.standard_normal((2, 5, 9, 12)).astype(np.float32)
    boxes = np.float32([[0, 0, 15, 9], [2.3, 1.1, 20.7, 16.2], [-9, -7, 40, 31], [6, 6, 6, 6], [9, 8, 3, 2]])
    images = np.int64([0, 1, 1, 0, 1])
    for mode in ("avg", "max"):
        for where in ("half_pixel", "output_half_pixel"):
            for samples in (0, 1, 3):
                attributes = dict(mode=mode, coordinate_transformation_mode=where, sampling_ratio=samples)
                attributes |= dict(output_height=3, output_width=2, spatial_scale=0.5)
                align = node("RoiAlign", ["x", "boxes", "images"], ["y"], **attributes)
                name = f"roi_align_{mode}_{where}_{samples}"
                yield made(name, [align], {"x": image, "boxes": boxes}, {"images": images})
    align = node("RoiAlign", ["x", "boxes", "whole"], ["y"], output_height=2, output_width=4)
    cast = node("Cast", ["images"], ["whole"], to=TensorProto.INT64)
    inputs = {"x": image, "boxes": boxes, "images": images.astype(np.float32)}
    yield made("roi_align_computed_images", [cast, align], inputs)
    one = {"x": image[:1], "boxes": boxes}
    align = node("RoiAlign", ["x", "boxes", "images"], ["y"], output_height=3, output_width=3, spatial_scale=0.4)
    yield made("roi_align_one_image", [align], one, {"images": 0 * images})
    rows = np.hstack([images[:, None].astype(np.float32), boxes])
    for name, size, scale in (("small", [2, 3], 0.5), ("large", [7, 7], 0.25), ("one", [1, 1], 1.0)):
        pool = node("MaxRoiPool", ["x", "boxes"], ["y"], pooled_shape=size, spatial_scale=scale)
        yield made(f"roi_pool_{name}", [pool], {"x": image, "boxes": rows})


def main():
    archive, count = {}, 0
    for name, model, inputs, outputs in [*suite(), *ours()]:
        size = sum(a.nbytes for a in [*inputs, *outputs]) + model.ByteSize()
        outputs = [np.asarray(o) for o in outputs]
        if not inputs or size > SIZE_LIMIT or not all(o.dtype == np.float32 and o.size for o in outputs):
            print("left out:", name)
            continue
        count += 1
        archive |= entries(name, model, inputs, outputs)
    np.savez_compressed(HERE / "layers.npz", **archive)
    print(f"layers.npz: {count} cases")


if __name__ == "__main__":
    main()
