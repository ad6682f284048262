"""What functions are given is refused under the name that the caller wrote, in words of Python."""

from __future__ import annotations

import gc
import io
import os
import pathlib
import pickle
import tempfile
from typing import Any

import numpy as np
import pytest

import netc

DIGITS = pathlib.Path(__file__).parents[2] / "models" / "digits"
SEVEN = DIGITS / "images" / "seven-0.png"

WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"shapes": {"image": "abc"}}, TypeError, r"shapes\['image'\] is a whole number, or a list of them, not 'abc'"),
    ({"shapes": {"image": [1.5]}}, TypeError, r"shapes\['image'\] is .*, not \[1.5\]"),
    ({"shapes": {"image": [-1, 1, 28, 28]}}, TypeError, r"shapes\['image'\] is "),
    ({"shapes": {3: [1]}}, TypeError, "shapes is a dictionary by name, and 3 is no string"),
    ({"shapes": [1, 2]}, TypeError, r"shapes is a dictionary by name, not \[1, 2\]"),
    ({"set": {"classes": None}}, TypeError, "a parameter is a number"),
    ({"set": {"classez": 3}}, netc.SpecError, "did you mean `classes`"),
    ({"model": 3}, TypeError, "model is a string, not 3"),
    ({"precision": 16}, TypeError, "precision is a string, not 16"),
    ({"precision": "f64"}, ValueError, "there is no precision `f64`"),
    ({"target": None, "model": 1}, TypeError, "model is a string"),
    ({"batch": None}, TypeError, "batch is a whole number, not None"),
    ({"batch": [1, "x"]}, TypeError, "batch is a whole number, not 'x'"),
    ({"batch": 0}, ValueError, "batch is a number from 1 to 65536, not 0"),
    ({"seed": 1 << 64}, ValueError, "seed is a number of 64 bits, not 18446744073709551616"),
    ({"memory": -1}, ValueError, "memory is a number from 0 on"),
    ({"memory": 1000}, netc.NetcError, "more than the 1.0 kB that compiling may take; `memory` allows more"),
    ({"sizes": [28]}, TypeError, r"sizes is a list of \(height, width\), not \[28\]"),
    ({"sizes": [(28, -1)]}, TypeError, r"sizes is a list of \(height, width\)"),
    ({"until": 3}, TypeError, "until is a string, or a list of strings, not 3"),
    ({"from_": ["x", 3]}, TypeError, "from_ is a string, not 3"),
    ({"weights": 3}, TypeError, "weights is a path, or a list of paths, not 3"),
    ({"weights": [b"x"]}, TypeError, "weights is a path, not b'x'"),
    ({"cache": 3}, TypeError, "cache is a path, not 3"),
    ({"fix": {"image": "x"}}, TypeError, r"fix\['image'\] is a number, or a list of them, not 'x'"),
    ({"rename": {"a(": "b"}}, ValueError, "rename: `a\\(` has no valid regular expression"),
    ({"rename": {"a=b": "c"}}, ValueError, r"rename: the expression `a=b` has an `=`; write `\[=\]`"),
    ({"rename": {"a": 1}}, TypeError, r"rename\['a'\] is a string, not 1"),
]


@pytest.mark.parametrize("given, kind, text", WRONG, ids=[str(given) for given, *_ in WRONG])
def test_wrong_arguments_are_named(given: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        netc.compile(DIGITS / "digits.net", **given)


ADVICE = [
    ("netc 1  model a { input x: f32[N,1,4,4]  relu  output y }  model b { input x: f32[N,1,4,4]  relu  output y }", {},
     'say which one: `model="a"` or `model="b"`'),
    ("netc 1  model a(n) { input x: f32[N,1,4,4]  conv(n, 1)  output y }", {}, 'set it: `set={"n": …}`'),
    (DIGITS / "digits.net", {"shapes": {"image": [4, 1, 28, 28]}}, "is `N`, which `batch` sets, not 4"),
    (SEVEN, {}, "a PNG picture (`model.classify` takes it), and no network"),
    (DIGITS / "digits.net", {"weights": DIGITS / "digits.net"}, "weights are what `weights` takes"),
]  # fmt: skip


@pytest.mark.parametrize("source, given, text", ADVICE, ids=[text for *_, text in ADVICE])
def test_advice_is_in_words_of_python(source: Any, given: dict[str, Any], text: str) -> None:
    with pytest.raises((netc.NetcError, ValueError)) as raised:
        netc.compile(source, **given)
    assert text in str(raised.value)
    assert "--" not in str(raised.value).replace("-->", "")


def test_a_wrong_shape_is_one_mistake() -> None:
    with pytest.raises(netc.SpecError) as raised:
        netc.compile(DIGITS / "digits.net", shapes={"image": [1, 1, 28]})
    (mistake,) = raised.value.diagnostics
    assert mistake["message"] == "the input `image` has 4 axes, not 3"


def test_commands_raise_mistakes_with_places_in_words_of_python(tmp_path: pathlib.Path) -> None:
    with pytest.raises(netc.SpecError, match="conv2d") as raised:
        netc.stats("netc 1\nmodel m { input x: f32[N, 1, 4, 4]  conv2d(3)  output y }")
    assert raised.value.diagnostics[0]["labels"][0]["line"] == 2
    with pytest.raises(TypeError, match="calibrate is missing: samples of the input; weights_only=True needs none"):
        netc.quantize(DIGITS / "digits.net", output=tmp_path / "q.net")
    with pytest.raises(TypeError, match="a network is a path or a text in netc's language, not 3"):
        netc.stats(3)  # type: ignore[arg-type]


def test_files_that_are_open_and_buffers_are_read(digits: netc.Model) -> None:
    data = digits.to_bytes()
    x = digits.preprocess(SEVEN)
    for source in (io.BytesIO(data), memoryview(data), bytearray(data), np.frombuffer(data, np.uint8)):
        np.testing.assert_array_equal(netc.load(source)(x), digits(x))
    with open(DIGITS / "digits.net", encoding="utf-8") as text:
        # The weights lie beside it.
        np.testing.assert_array_equal(netc.compile(text)(x), digits(x))
    with open(SEVEN, "rb") as picture:
        np.testing.assert_array_equal(digits.preprocess(picture), x)
    assert digits.classify(SEVEN.read_bytes())[0][0] == "seven"
    with pytest.raises(ValueError, match="<bytes>"):
        digits.preprocess(b"no picture")
    with pytest.raises(TypeError, match="a compiled model is a path, an open file, or bytes, not 3"):
        netc.load(3)  # type: ignore[arg-type]


def test_what_is_no_array_is_named_by_its_kind(digits: netc.Model) -> None:
    for given in (None, {"image": 1}, {1}, object(), os):
        with pytest.raises(TypeError, match=f"image takes an array of float32, not {type(given).__name__}"):
            digits(given)
    with pytest.raises(TypeError, match="top_k is a whole number, not x"):
        digits.classify(SEVEN, top_k="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="top_k is a number from 0 on"):
        digits.classify(SEVEN, top_k=1 << 70)
    with pytest.raises(TypeError, match="labels is a list of strings"):
        digits.classify(SEVEN, labels=[1] * 10)  # type: ignore[list-item]
    with pytest.raises(TypeError, match="names of inputs and outputs are strings, not 3"):
        digits.preprocess(SEVEN, 3)  # type: ignore[arg-type]


def test_narrow_floats_of_other_packages_are_copied(digits: netc.Model) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = digits.preprocess(SEVEN)
    for name in ("bfloat16", "float8_e4m3fn"):
        narrow = x.astype(getattr(ml_dtypes, name))
        np.testing.assert_array_equal(digits(narrow), digits(narrow.astype(np.float32)))
    with pytest.raises(TypeError, match="image takes float32, not int4"):
        digits(x.astype(ml_dtypes.int4))


def test_pictures_of_pil_without_levels_are_refused(digits: netc.Model) -> None:
    pil = pytest.importorskip("PIL.Image")
    for mode in ("I", "F", "I;16"):
        with pytest.raises(ValueError, match=f"mode {mode} has no levels from 0 to 255"):
            digits.preprocess(pil.new(mode, (28, 28)))


def test_ports_are_values(digits: netc.Model) -> None:
    port = digits.inputs[0]
    assert pickle.loads(pickle.dumps(port)) == port == netc.Port("image", [1, 1, 28, 28], "float32")


def test_models_of_bytes_are_compiled_for_other_sizes(tmp_path: pathlib.Path) -> None:
    text = "netc 1\nmodel m { input image: f32[N, 3, 8, 8]  conv(4, 3)  relu  output y }"
    model = netc.compile(text, seed=3)
    x = np.random.default_rng(0).standard_normal((2, 3, 12, 10), dtype=np.float32)
    for other in (netc.load(model.to_bytes()), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other(x), model(x))
    weights = tmp_path / "w.npz"
    labelled = text.replace("conv(4, 3)", "c: conv(4, 3)")
    arrays: dict[str, Any] = {"c.weight": np.ones((4, 3, 3, 3), np.float32), "c.bias": np.zeros(4, np.float32)}
    np.savez(weights, **arrays)
    model = netc.load(netc.compile(labelled, weights=weights).to_bytes())
    weights.unlink()
    assert model(x[:, :, :8, :8]).shape == (2, 4, 6, 6)
    with pytest.raises(ValueError, match="w.npz are not to be found.*It is compiled for"):
        model(x)


def test_weights_are_arrays_by_name(tmp_path: pathlib.Path) -> None:
    text = "netc 1\nmodel m { input image: f32[N, 3, 8, 8]  c: conv(4, 3)  relu  output y }"
    rng = np.random.default_rng(0)
    arrays = {"c.weight": rng.standard_normal((4, 3, 3, 3)), "c.bias": np.ones(4, np.float16)}
    model = netc.compile(text, weights=arrays)
    file = tmp_path / "w.npz"
    given: dict[str, Any] = arrays
    np.savez(file, **given)
    same = netc.compile(text, weights=file)
    for size in (8, 11):
        x = rng.standard_normal((2, 3, size, size), dtype=np.float32)
        np.testing.assert_array_equal(model(x), same(x))
    with pytest.raises(netc.WeightsError, match="c.bias"):
        netc.compile(text, weights={"c.weight": arrays["c.weight"]})
    with pytest.raises(TypeError, match=r"weights\['c.bias'\] is an array of numbers, not of <U1"):
        netc.compile(text, weights={"c.bias": "x"})
    with pytest.raises(ValueError, match="not kept in a cache"):
        netc.compile(text, weights=arrays, cache=tmp_path / "cache")


def test_what_weights_are_read_from_goes_with_the_model(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    text = "netc 1\nmodel m { input image: f32[N, 1, 8, 8]  c: conv(1, 1, bias = false)  output y }"
    model = netc.compile(text, weights={"c.weight": np.ones((1, 1, 1, 1), np.float32)})
    assert len(list(tmp_path.iterdir())) == 1
    del model
    gc.collect()
    with pytest.raises(netc.WeightsError):
        netc.compile(text, weights={"d.weight": np.ones((1, 1, 1, 1), np.float32)})
    assert not list(tmp_path.iterdir())
