"""Training, quantizing, counting and verifying from Python."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

import netc

ROOT = pathlib.Path(__file__).parents[2]
DIGITS = ROOT / "models" / "digits"

TEXT = """netc 1
model shapes(classes = 3) {
    input image: f32[N, 1, 8, 8]
    preprocess image { scale 1/255  mean [0.4]  std [0.3] }
    c1: conv(8, 3, pad = 1)
    relu
    max_pool(2)
    c2: conv(16, 3, pad = 1)
    relu
    global_avg_pool
    flatten
    fc: linear(classes)
    output logits
}
train shapes {
    batch 12  epochs 20
    loss cross_entropy(logits)
    optimizer adam(lr = 0.01)
    metric accuracy(logits)
}
"""


def samples(count: int) -> dict[str, np.ndarray[Any, Any]]:
    """Squares of three brightnesses."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, count)
    images = rng.integers(0, 20, (count, 8, 8)) + 80 * labels[:, None, None]
    return {"images": images.astype(np.uint8), "labels": labels}


def test_a_network_is_trained_quantized_and_run(tmp_path: pathlib.Path) -> None:
    told: list[int] = []
    weights = tmp_path / "shapes.safetensors"
    data = samples(96)
    done = netc.train(TEXT, data, output=weights, epochs=8, seed=1, on_epoch=lambda e: told.append(e["epoch"]))
    assert done.weights == weights and weights.is_file() and told == list(range(1, 9))
    assert done.epochs[-1]["metrics"]["accuracy"] > 0.9
    model = netc.compile(TEXT, weights=weights, threads=1)
    x = np.concatenate([model.preprocess(image) for image in data["images"]])
    right = (model(x).argmax(axis=1) == data["labels"]).mean()
    assert right > 0.9
    small = netc.quantize(TEXT, x, output=tmp_path / "shapes8.net", weights=weights)
    assert small.text.is_file() and "quantize" in small.text.read_text()
    agree = (netc.compile(small.text)(x).argmax(axis=1) == model(x).argmax(axis=1)).mean()
    assert agree > 0.9
    with pytest.raises(netc.NetcError, match="exists|there already|--force"):
        netc.quantize(TEXT, x, output=tmp_path / "shapes8.net", weights=weights)


def test_mistakes_of_commands_are_exceptions(tmp_path: pathlib.Path) -> None:
    with pytest.raises(netc.NetcError, match="none.npz"):
        netc.train(TEXT, "none.npz", output=tmp_path / "w.safetensors")
    with pytest.raises(netc.NetcError, match="conv2d"):
        netc.stats("netc 1\nmodel m { input x: f32[N, 1, 4, 4]  conv2d(3)  output y }")
    assert not list(tmp_path.iterdir())


def test_counting_and_verifying() -> None:
    found = netc.stats(DIGITS / "digits.net", set={"classes": 5})
    assert found["params"] == 169973
    assert netc.stats(ROOT / "models" / "vgg16.net", shapes={"image": [1, 3, 256, 224]}, set={"classes": 7})["rows"]
    assert netc.verify(DIGITS / "digits.net", random=2)
