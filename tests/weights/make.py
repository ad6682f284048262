"""Checkpoints of every kind that `netc --weights` takes, and some that it must refuse.

    python tests/weights/make.py        # needs torch and numpy; writes beside itself

The tests know the values: numbers count up from 0 in the order of a tensor's elements.
"""

import argparse
import collections
import os
import pathlib
import pickle

import numpy as np
import torch

HERE = pathlib.Path(__file__).parent


def count(*shape, dtype=torch.float32):
    return torch.arange(int(np.prod(shape)), dtype=torch.float32).reshape(shape).to(dtype)


def state_dict():
    base = count(2, 3)
    state = collections.OrderedDict()
    state["plain"] = base
    state["half"] = count(2, 3, dtype=torch.float16)
    state["brain"] = count(2, 3, dtype=torch.bfloat16)
    state["double"] = count(2, 3, dtype=torch.float64)
    state["transposed"] = base.t()  # shares its storage with `plain`
    state["row"] = base[1]  # offset 3
    state["expanded"] = torch.ones(1).expand(4)
    state["channels_last"] = count(1, 2, 2, 2).contiguous(memory_format=torch.channels_last)
    state["parameter"] = torch.nn.Parameter(count(3))
    state["bn.num_batches_tracked"] = torch.tensor(7)
    state._metadata = {"": {"version": 1}}
    return state


class Malice:
    def __reduce__(self):
        return os.system, ("echo pwned > /tmp/pwned",)


def of_python_2(array):
    """What cPickle of Python 2 writes for {"w": array}."""
    data = array.tobytes()
    dtype = b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    state = b"(K\x01(K" + bytes([len(array)]) + b"t" + dtype + b"\x89U" + bytes([len(data)]) + data + b"tb"
    return b"\x80\x02}(U\x01w" + empty + state + b"u."


def main():
    state = state_dict()
    torch.save(state, HERE / "state.pth")
    torch.save(state, HERE / "legacy.pth", _use_new_zipfile_serialization=False)
    wrapped = {"epoch": 3, "lr": [0.1, 0.01], "optimizer": {"state": {0: torch.zeros(5)}}, "note": "x" * 300}
    wrapped["state_dict"] = {f"module._orig_mod.{k}": v for k, v in state.items()}
    torch.save(wrapped, HERE / "wrapped.pth")
    average = {"conv1.weight": count(2, 1, 3, 3) + 1, "conv1.bias": count(2) + 1}
    sets = {"params": {k: -v for k, v in average.items()}, "params_ema": average, "step": 5}
    torch.save(sets, HERE / "averaged.pth")
    torch.save({"encoder": {"w": count(2)}, "heads": [count(1), (count(3),)]}, HERE / "nested.pth")
    torch.save({"state_dict": {"w": count(2), "config": Malice()}}, HERE / "malicious.pth")
    # What lies beside a state dict is not looked at.
    model = {"module.conv.weight": count(2, 1, 1, 1), "module.conv.bias": count(2)}
    beside = {"args": argparse.Namespace(lr=0.1), "hook": Malice(), "history": collections.defaultdict(list, a=[1])}
    torch.save({"state_dict": model, "best_acc1": torch.tensor(76.1), **beside}, HERE / "example.pth")
    torch.save({"model_ema": {"n_averaged": torch.tensor(5), **model}, "model": model}, HERE / "average.pth")
    lightning = {f"model.{key.removeprefix('module.')}": value for key, value in model.items()}
    torch.save({"state_dict": lightning, "global_step": 10}, HERE / "lightning.ckpt")
    # A stem of 21 letters: the first member's extra field is empty.
    torch.save(model, HERE / "checkpoint_epoch_0100.pth")
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), HERE / "whole_model.pth")
    torch.save({"accuracy": 0.5}, HERE / "no_tensors.pth")
    # timm's name of an average.
    torch.save({"state_dict": sets["params"], "state_dict_ema": average}, HERE / "timm.pth")
    # What a network can do without is no reason to refuse the rest.
    other = {"rotation": torch.zeros(2, dtype=torch.complex64), "eighth": torch.ones(2).to(torch.float8_e4m3fn)}
    torch.save({**average, **other}, HERE / "other_numbers.pth")
    kinds = {
        "sparse": count(2, 2).to_sparse(),
        "quantized": torch.quantize_per_tensor(count(2, 2), 0.5, 0, torch.qint8),
        "meta": torch.empty(2, device="meta"),
    }
    for name, value in kinds.items():
        torch.save({"w": value}, HERE / f"{name}.pth")
    with open(HERE / "plain.pkl", "wb") as file:
        pickle.dump({"w": [1.0, 2.0]}, file, protocol=4)
    arrays = {
        "plain": np.arange(6, dtype="<f4").reshape(2, 3),
        "half": np.arange(6, dtype="<f2").reshape(2, 3),
        "double": np.arange(6, dtype="<f8").reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype="<f4").reshape(2, 3)),
        "steps.num_batches_tracked": np.int64(7),
    }
    torch.save({"w": np.arange(2, dtype="<f4")}, HERE / "numpy.pth")
    # As Detectron2 and PaddlePaddle publish them; NumPy 1 and 2 call their modules otherwise, and Python 2 has strings for bytes.
    published = {"model": {**arrays, "big_endian": np.arange(2, dtype=">f4")}, "__author__": "netc", "seen": np.int64(3)}
    published["model"]["names"] = np.array(["a", None], dtype=object)
    for protocol in (2, 4, 5):
        (HERE / f"arrays_{protocol}.pkl").write_bytes(pickle.dumps(published, protocol))
    of_numpy_1 = pickle.dumps({"w": np.arange(2, dtype="<f4")}, 2).replace(b"numpy._core", b"numpy.core")
    (HERE / "arrays_1.pkl").write_bytes(of_numpy_1)
    (HERE / "arrays_python2.pkl").write_bytes(of_python_2(np.array([1.5, -2.0], dtype="<f4")))
    np.savez(HERE / "stored.npz", **arrays)
    np.savez_compressed(HERE / "packed.npz", **arrays)


main()
