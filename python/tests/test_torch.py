"""PyTorch: tensors as inputs, modules as networks. Needs torch and onnxscript."""

from __future__ import annotations

import numpy as np
import pytest

import netc

torch = pytest.importorskip("torch")


def test_tensors_are_read_where_they_are(digits: netc.Model) -> None:
    tensor = torch.randn(2, 1, 28, 28)
    np.testing.assert_array_equal(digits(tensor), digits(tensor.numpy()))
    # What comes out is a tensor without a copy.
    result = digits(tensor)
    shared = torch.from_dlpack(result)
    assert shared.data_ptr() == result.ctypes.data
    with pytest.raises(TypeError, match="image takes an array"):
        digits(tensor.requires_grad_())


def test_a_module_becomes_a_model() -> None:
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    ).eval()
    example = torch.randn(2, 3, 16, 16)
    model = netc.from_torch(module, example)
    images = torch.randn(5, 3, 16, 16)
    np.testing.assert_allclose(model(images), module(images).detach().numpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="training mode"):
        netc.from_torch(module.train(), example)
