"""Operators of ONNX Runtime for weights of few bits and for grids that are computed in the run, as fixtures for
`cargo test onnx`.

    python tests/onnx/packed.py   # needs onnx, onnxruntime and numpy; writes packed.npz beside itself

ONNX Runtime says what they compute. The archive is as those of make.py.
"""

import numpy as np
from layers import HERE, made, numbers
from make import entries
from onnx import TensorProto, helper

RNG = np.random.default_rng(11)
MS = ("com.microsoft",)
node = helper.make_node


def contrib(op, inputs, outputs=("y",), **attributes):
    return node(op, inputs, list(outputs), domain="com.microsoft", **attributes)


def levels(shape, low, high, dtype):
    return RNG.integers(low, high, shape).astype(dtype)


def scales(*shape):
    return (0.01 + RNG.random(shape) / 20).astype(np.float32)


def matrices():
    """Packed matrices: bits, sizes, zero points in bytes or as numbers, a bias."""
    for bits, n, k, block, zeros, axes in [
        (4, 6, 40, 16, None, 2), (4, 7, 33, 32, "bytes", 3), (4, 5, 32, 32, "floats", 2), (8, 6, 48, 16, "bytes", 3),
        (8, 4, 16, 32, None, 2), (2, 8, 64, 16, "bytes", 2),
    ]:  # fmt: skip
        blocks, bias = -(-k // block), numbers(n)
        known = {"w": levels((n, blocks, block * bits // 8), 0, 256, np.uint8), "s": scales(n, blocks), "b": bias}
        inputs = ["x", "w", "s", "z" if zeros else "", "", "b"]
        if zeros == "bytes":
            known["z"] = levels((n, -(-blocks * bits // 8)), 0, 256, np.uint8)
        if zeros == "floats":
            known["z"] = (RNG.random((n, blocks)) * 15).astype(np.float32)
        name = f"matmul_{bits}_bits_{n}_{k}_{zeros}"
        x = numbers(*[2, 3][: axes - 1], k)
        yield made(name, [contrib("MatMulNBits", inputs, K=k, N=n, bits=bits, block_size=block)], {"x": x}, known, domains=MS)
    for kind, (n, k) in {0: (6, 32), 1: (5, 64)}.items():
        known = {"w": levels(-(-n * k // 2), 0, 256, np.uint8), "s": scales(-(-n * k // 16))}
        nodes = [contrib("MatMulBnb4", ["x", "w", "s"], K=k, N=n, block_size=16, quant_type=kind)]
        yield made(f"matmul_bnb4_{kind}", nodes, {"x": numbers(3, k)}, known, domains=MS)


def tables():
    indices = np.int64([[3, 0], [4, 3]])
    for name, table, zeros in [
        ("bytes", levels((5, 16), 0, 256, np.uint8), None),
        ("bytes_with_zeros", levels((5, 16), 0, 256, np.uint8), levels((5, 1), 0, 256, np.uint8)),
    ]:
        known = {"t": table, "i": indices, "s": scales(5, 2), **({"z": zeros} if zeros is not None else {})}
        inputs = ["t", "i", "s"] + (["z"] if zeros is not None else [])
        taken = contrib("GatherBlockQuantized", inputs, ["g"], block_size=16, gather_axis=0, quantize_axis=1, bits=4)
        nodes = [taken, node("Add", ["x", "g"], ["y"])]
        yield made(f"gather_{name}", nodes, {"x": numbers(2, 2, 32)}, known, domains=MS)


def pair(x, name, known):
    """Levels of a value, and what tells their grid."""
    known |= {f"{name}s": np.float32(0.04), f"{name}z": np.uint8(120)}
    return node("QuantizeLinear", [x, f"{name}s", f"{name}z"], [f"{name}q"])


def on_levels():
    known = {}
    nodes = [pair("x", "a", known), pair("t", "b", known), node("Greater", ["x", "t"], ["c"])]
    known |= {"ys": np.float32(0.05), "yz": np.uint8(100), "bs": np.float32(0.03)}
    nodes += [contrib("QLinearWhere", ["c", "aq", "as", "az", "bq", "bs", "bz", "ys", "yz"], ["yq"])]
    nodes += [node("DequantizeLinear", ["yq", "ys", "yz"], ["y"])]
    yield made("where", nodes, {"x": numbers(2, 3, 4), "t": numbers(2, 3, 4)}, known, domains=MS)


def computed_grids():
    """As `quantize_dynamic` writes them, and as ONNX Runtime's optimizer joins them."""
    weight, by_channel = levels((6, 3, 3, 3), -127, 128, np.int8), scales(6, 1, 1)
    quantized = node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])
    as_float, scaled = node("Cast", ["i"], ["f"], to=TensorProto.FLOAT), node("Mul", ["f", "m"], ["p"])
    for name, scale in {"one_scale": np.float32(0.02), "channels": by_channel}.items():
        conv = node("ConvInteger", ["q", "w", "z"], ["i"], pads=[1] * 4, strides=[2, 2])
        known = {"w": weight, "ws": scale, "b": numbers(1, 6, 1, 1)}
        nodes = [quantized, conv, as_float, node("Mul", ["s", "ws"], ["m"]), scaled, node("Add", ["p", "b"], ["y"])]
        yield made(f"dynamic_conv_{name}", nodes, {"x": numbers(2, 3, 8, 8)}, known)
    matrix = levels((7, 5), -127, 128, np.int8)
    known = {"w": matrix, "ws": scales(5), "b": numbers(5), "wz": np.int8(3)}
    product = node("MatMulInteger", ["q", "w", "z"], ["i"])
    nodes = [quantized, product, as_float, node("Mul", ["s", "ws"], ["m"]), scaled, node("Add", ["p", "b"], ["y"])]
    yield made("dynamic_matmul", nodes, {"x": numbers(2, 3, 7)}, known)
    # A value of which all is 0 has the scale 1.
    yield made("dynamic_matmul_of_zeros", nodes, {"x": np.zeros((2, 7), np.float32)}, known)
    nodes = [quantized, node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    yield made("dynamic_numbers", nodes, {"x": numbers(3, 4)})
    nodes = [contrib("DynamicQuantizeMatMul", ["x", "w", "ws", "", "b"])]
    yield made("dynamic_matmul_joined", nodes, {"x": numbers(2, 3, 7)}, known, domains=MS)
    nodes = [quantized, contrib("MatMulIntegerToFloat", ["q", "w", "s", "w1", "z", "wz", "b"])]
    known |= {"w1": np.float32(0.03)}
    yield made("matmul_integer_to_float", nodes, {"x": numbers(3, 7)}, known, domains=MS)


def main():
    archive = {}
    for name, model, inputs, outputs in [*matrices(), *tables(), *on_levels(), *computed_grids()]:
        archive |= entries(name, model, inputs, outputs)
    np.savez_compressed(HERE / "packed.npz", **archive)
    print(f"packed.npz: {len([n for n in archive if n.endswith('/model')])} cases")


if __name__ == "__main__":
    main()
