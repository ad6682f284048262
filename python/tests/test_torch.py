"""PyTorch: tensors as inputs, modules as networks. Needs torch and onnxscript."""

from __future__ import annotations

from typing import Any

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


def test_tensors_of_bfloat16_are_copied(digits: netc.Model) -> None:
    tensor = torch.randn(2, 1, 28, 28).to(torch.bfloat16)
    np.testing.assert_array_equal(digits(tensor), digits(tensor.float()))
    with pytest.raises(TypeError, match="logits"):
        digits.run({"image": tensor}, out={"logits": torch.zeros(2, 10, dtype=torch.bfloat16)})
    with pytest.raises(TypeError, match="image takes"):
        digits(torch.zeros(1, 1, 28, 28, device="meta"))
    with pytest.raises(TypeError, match="image takes"):
        digits(torch.zeros(1, 1, 28, 28).to_sparse())


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
    # Nothing is left of the export, and the model is compiled for pictures of another size all the same.
    assert model.name == "sequential"
    other = torch.randn(1, 3, 20, 12)
    np.testing.assert_allclose(model(other), module(other).detach().numpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="training mode"):
        netc.from_torch(module.train(), example)


def test_a_state_dict_gives_the_weights() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8)).eval()
    text = "netc 1\nmodel m { input x: f32[N, 3, 9, 9]  0: conv(8, 3, pad = 1)  1: batch_norm  output y }"
    x = torch.randn(2, 3, 9, 9)
    expected = module(x).detach().numpy()
    model = netc.compile(text, weights=module.state_dict())
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)


def test_what_is_no_module_is_refused() -> None:
    pytest.importorskip("onnxscript")

    class Odd(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return torch.linalg.svd(x)[1]

    with pytest.raises(TypeError, match="a module of PyTorch is taken, not int"):
        netc.from_torch(3, torch.zeros(1))
    with pytest.raises(TypeError, match="example is a tensor, or a tuple of tensors, not NoneType"):
        netc.from_torch(Odd().eval(), None)
    with pytest.raises(netc.NetcError, match="PyTorch cannot export the module"):
        netc.from_torch(Odd().eval(), torch.randn(1, 4, 4))
