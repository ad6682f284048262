"""The ONNX backend suite's cases for convolutional networks, as fixtures for `cargo test onnx`.

    python tests/onnx/make.py [NAME ...]   # needs onnx and numpy; writes node.npz, pytorch.npz and quantized.npz beside
                                           # itself, or those of them that are named

From PyPI's `onnx` package come the node cases (`onnx.backend.test.case.node`) and the models that PyTorch once
exported (`pytorch-converted`, `pytorch-operator`). Kept are those of the operators below on float32 values of at
most four axes. What a network has as weights (kernels, shapes, scales) is written into the model as an initializer;
the node cases pass it as an input. An archive has, for every case, `CASE/model` (the file's bytes), `CASE/in/I` and
`CASE/out/I`.

The cases of quantized.npz are those of operators on levels, which are kept as float32.
"""

import pathlib
import sys
import warnings

import numpy as np
import onnx
from onnx import numpy_helper

HERE = pathlib.Path(__file__).parent

# Of these, every input is data; of all others only the first.
JOINS = set("Add Sub Mul Div Max Min Sum Mean Concat MatMul".split())
OPERATORS = JOINS | set(
    """AveragePool BatchNormalization Cast CastLike Celu Clip Conv ConvTranspose DepthToSpace DequantizeLinear Dropout Elu
    Erf Exp Expand Flatten Gather Gelu Gemm GlobalAveragePool GlobalMaxPool GroupNormalization HardSigmoid HardSwish
    Identity InstanceNormalization LRN LayerNormalization LeakyRelu LogSoftmax MaxPool Mish Neg PRelu Pad Pow
    QuantizeLinear Reciprocal ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare Relu Reshape
    Resize Selu Sigmoid Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Swish Tanh ThresholdedRelu Tile
    Transpose Unsqueeze Upsample Abs""".split()
)
# Of operators on levels, which inputs are data.
QUANTIZED = {
    "QuantizeLinear": {0}, "DequantizeLinear": {0}, "QLinearConv": {0}, "QLinearMatMul": {0}, "ConvInteger": {0},
    "MatMulInteger": {0}, "DynamicQuantizeLinear": {0},
}  # fmt: skip
SIZE_LIMIT = 1 << 17  # bytes of one case


def is_float(array):
    return array.dtype == np.float32 and array.ndim <= 4 and array.size > 0


def bake(model, inputs, data):
    """The model with all inputs but those in `data` as initializers, and the arrays of the rest."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    known = {t.name for t in model.graph.initializer}
    free = [i for i in model.graph.input if i.name not in known]
    kept = []
    for index, (info, array) in enumerate(zip(free, inputs)):
        if index in data and is_float(array):
            kept.append(array)
        else:
            model.graph.input.remove(info)
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), info.name))
    return model, kept


def node_cases():
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    operators = {c.name: c.model.graph.node[0].op_type for c in cases if len(c.model.graph.node) == 1}
    for case in cases:
        # A case is there twice, where its operator can be expanded to simpler ones.
        operator = operators.get(case.name.split("_expanded")[0])
        inputs, outputs = case.data_sets[0]
        if operator not in OPERATORS or not all(isinstance(a, (np.ndarray, np.generic)) for a in inputs + outputs):
            continue
        data = set(range(len(inputs))) if operator in JOINS else {0}
        model, kept = bake(case.model, inputs, data)
        yield case.name, model, kept, outputs


def quantized_cases():
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    for case in cases:
        if len(case.model.graph.node) != 1 or case.model.graph.node[0].op_type not in QUANTIZED:
            continue
        # Types that NumPy lacks come as messages.
        arrays = [
            [numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else np.asarray(v) for v in values]
            for values in case.data_sets[0]
        ]
        inputs, outputs = arrays
        model = onnx.ModelProto.FromString(case.model.SerializeToString())
        kept = []
        for index, (info, value) in enumerate(zip(list(model.graph.input), inputs)):
            if index in QUANTIZED[case.model.graph.node[0].op_type]:
                kept.append(value.astype(np.float32))
            else:
                model.graph.input.remove(info)
                model.graph.initializer.append(numpy_helper.from_array(value, info.name))
        yield case.name, model, kept, [o.astype(np.float32) for o in outputs]


def stored_cases(kind):
    root = pathlib.Path(onnx.__file__).parent / "backend/test/data" / kind
    for folder in sorted(root.iterdir()):
        model = onnx.load(folder / "model.onnx")

        def arrays(pattern):
            files = sorted((folder / "test_data_set_0").glob(pattern), key=lambda p: int(p.stem.split("_")[1]))
            return [numpy_helper.to_array(onnx.TensorProto.FromString(f.read_bytes())) for f in files]

        model, kept = bake(model, arrays("input_*.pb"), set(range(99)))
        yield f"{kind}/{folder.name}", model, kept, arrays("output_*.pb")


def entries(name, model, inputs, outputs):
    """What an archive has of a case."""
    arrays = {f"{name}/model": np.frombuffer(model.SerializeToString(), np.uint8)}
    arrays |= {f"{name}/in/{i}": a for i, a in enumerate(inputs)}
    return arrays | {f"{name}/out/{i}": a for i, a in enumerate(outputs)}


def write(path, cases):
    archive, count = {}, 0
    for name, model, inputs, outputs in cases:
        size = sum(a.nbytes for a in inputs + outputs) + model.ByteSize()
        if not inputs or not outputs or not all(is_float(o) for o in outputs) or size > SIZE_LIMIT:
            continue
        count += 1
        archive |= entries(name, model, inputs, outputs)
    np.savez_compressed(path, **archive)
    print(f"{path.name}: {count} cases, {path.stat().st_size} bytes")


def main():
    archives = {
        "node": node_cases,
        "pytorch": lambda: (c for kind in ("pytorch-converted", "pytorch-operator") for c in stored_cases(kind)),
        "quantized": quantized_cases,
    }
    for name in sys.argv[1:] or archives:
        write(HERE / f"{name}.npz", archives[name]())


if __name__ == "__main__":
    main()
