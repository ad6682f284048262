"""PyTorch modules as ONNX models; torch is imported here only."""

from __future__ import annotations

import pathlib
import tempfile
import typing
from collections.abc import Callable

import torch

from ._netc import NetcError


def exported(module: torch.nn.Module, example: torch.Tensor | tuple[torch.Tensor, ...]) -> bytes:
    """The module as an ONNX model, of less than 2 GB."""
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"a module of PyTorch is taken, not {type(module).__name__}")
    if module.training:
        raise ValueError("the module is in training mode; call module.eval() first")
    args = (example,) if isinstance(example, torch.Tensor) else example
    if not isinstance(args, (tuple, list)) or not all(isinstance(arg, torch.Tensor) for arg in args):
        raise TypeError(f"example is a tensor, or a tuple of tensors, not {type(example).__name__}")
    args = tuple(args)
    # The first size is the number of images.
    batch = torch.export.Dim("batch")
    sizes = tuple({0: batch} if arg.ndim > 1 else {} for arg in args)
    with tempfile.TemporaryDirectory(prefix="netc-") as folder:
        path = pathlib.Path(folder) / "module.onnx"
        try:
            program = torch.export.export(module, args, dynamic_shapes=sizes)
        except Exception:
            # The module takes this number of images only.
            program = _stage("trace", lambda: torch.export.export(module, args))
        write = {"dynamo": True, "verbose": False, "external_data": False}
        _stage("export", lambda: torch.onnx.export(program, (), str(path), **write))
        return path.read_bytes()


def _stage(what: str, step: Callable[[], typing.Any]) -> typing.Any:
    """Does what PyTorch may refuse."""
    try:
        return step()
    except Exception as cause:
        raise NetcError(f"PyTorch cannot {what} the module: {type(cause).__name__}: {cause}") from cause
