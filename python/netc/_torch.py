"""PyTorch modules as ONNX models; torch is imported here only."""

from __future__ import annotations

import pathlib
import tempfile

import torch


def exported(module: torch.nn.Module, example: torch.Tensor | tuple[torch.Tensor, ...]) -> bytes:
    """The module as an ONNX model, of less than 2 GB."""
    if module.training:
        raise ValueError("the module is in training mode; call module.eval() first")
    args = (example,) if isinstance(example, torch.Tensor) else tuple(example)
    # The first size is the number of images.
    batch = torch.export.Dim("batch")
    sizes = tuple({0: batch} if arg.ndim > 1 else {} for arg in args)
    with tempfile.TemporaryDirectory(prefix="netc-") as folder:
        path = pathlib.Path(folder) / "module.onnx"
        try:
            program = torch.export.export(module, args, dynamic_shapes=sizes)
        except Exception:
            # The module takes this number of images only.
            program = torch.export.export(module, args)
        torch.onnx.export(program, (), str(path), dynamo=True, verbose=False, external_data=False)
        return path.read_bytes()
