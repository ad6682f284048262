"""Models from Python: what they take, what they give, and what they say of mistakes."""

from __future__ import annotations

import concurrent.futures
import gc
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import threading
import types
import warnings
import weakref
from typing import Any

import numpy as np
import pytest

import netc

DIGITS = pathlib.Path(__file__).parents[2] / "models" / "digits"

WRITES_TENSORS = np.lib.NumpyVersion(np.__version__) >= "2.1.0"

SPEC = """netc 1
model two(channels = 4) {
    input left: f32[N, 3, 8, 8]
    input right: f32[N, 3, 8, 8]
    add(left)
    both: conv(channels, 3, pad = 1)
    relu
    output sum
    global_avg_pool
    flatten
    output mean
}
"""


def image(seed: int = 0, *shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def test_a_picture_is_classified(digits: netc.Model) -> None:
    for name, digit in [("seven-0", "seven"), ("four-1", "four"), ("two-0", "two")]:
        (first, probability), *_ = digits.classify(DIGITS / "images" / f"{name}.png", top_k=3)
        assert first == digit and 0.9 < probability <= 1
    assert len(digits.classify(str(DIGITS / "images" / "seven-0.png"), top_k=2)) == 2
    with pytest.raises(ValueError, match="top_k is a number from 0 on, not -1"):
        digits.classify(DIGITS / "images" / "seven-0.png", top_k=-1)


def test_pictures_are_paths_arrays_or_pil(digits: netc.Model) -> None:
    pil = pytest.importorskip("PIL.Image")
    path = DIGITS / "images" / "seven-0.png"
    picture = pil.open(path)
    prepared = digits.preprocess(path)
    assert prepared.shape == (1, 1, 28, 28) and prepared.dtype == np.float32
    np.testing.assert_array_equal(prepared, digits.preprocess(picture))
    np.testing.assert_array_equal(prepared, digits.preprocess(np.asarray(picture.convert("L"))))
    with pytest.raises(TypeError, match="array of uint8"):
        digits.preprocess(prepared)
    with pytest.raises(FileNotFoundError, match="nothing.png"):
        digits.preprocess("nothing.png")
    with pytest.raises(ValueError, match=r"\[height, width, 3\]"):
        digits.preprocess(np.zeros((3, 28, 28), np.uint8))


def test_ports_tell_names_shapes_and_elements(digits: netc.Model) -> None:
    assert [(p.name, p.shape, p.dtype) for p in digits.inputs] == [("image", [1, 1, 28, 28], "float32")]
    assert [p.name for p in digits.outputs] == ["logits"]
    assert digits.labels[7] == "seven" and digits.name == "digits" and digits.batch == 1 and digits.threads == 1
    assert repr(digits) == "<netc.Model digits(image: f32[N, 1, 28, 28]) -> (logits: f32[N, 10])>"
    assert "<table>" in digits._repr_html_() and digits.steps[0][0] == "conv1"


def test_any_number_of_images(digits: netc.Model) -> None:
    images = image(1, 5, 1, 28, 28)
    together = digits(images)
    assert together.shape == (5, 10)
    for i in range(5):
        np.testing.assert_allclose(digits(images[i])[0], together[i], rtol=1e-4, atol=1e-4)


def test_several_inputs_and_outputs() -> None:
    model = netc.compile(SPEC, seed=1, set={"channels": 6})
    left, right = image(1, 2, 3, 8, 8), image(2, 2, 3, 8, 8)
    results = model(left, right)
    assert list(results) == ["sum", "mean"] and results["sum"].shape == (2, 6, 8, 8)
    for other in [model(left, right=right), model(right=right, left=left), model.run({"left": left, "right": right})]:
        for name, array in results.items():
            np.testing.assert_array_equal(array, other[name])
    np.testing.assert_allclose(results["sum"].mean(axis=(2, 3)), results["mean"], rtol=1e-5, atol=1e-6)


def test_outputs_are_written_where_the_caller_says(digits: netc.Model) -> None:
    out = np.empty((3, 10), np.float32)
    address = out.ctypes.data
    results = digits.run({"image": image(3, 3, 1, 28, 28)}, out={"logits": out})
    assert results["logits"] is out and out.ctypes.data == address
    np.testing.assert_array_equal(out, digits(image(3, 3, 1, 28, 28)))
    cases: list[tuple[Any, str]] = [
        (np.empty((2, 10), np.float32), "must be"),
        (np.empty((10, 3), np.float32).T, "row by row"),
        (np.empty((3, 10), np.float64), "array of float32"),
    ]
    for wrong, message in cases:
        with pytest.raises((TypeError, ValueError), match=message):
            digits.run({"image": image(3, 3, 1, 28, 28)}, out={"logits": wrong})
    read_only = np.empty((3, 10), np.float32)
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="is read-only"):
        digits.run({"image": image(3, 3, 1, 28, 28)}, out={"logits": read_only})
    memory = np.zeros(28 * 28, np.float32)
    kinds: list[Any] = [np.asarray, Tensor] if WRITES_TENSORS else [np.asarray]
    for kind in kinds:
        with pytest.raises(ValueError, match="shares memory with an input"):
            digits.run({"image": kind(memory.reshape(1, 1, 28, 28))}, out={"logits": kind(memory[9:19].reshape(1, 10))})


class Tensor:
    """Another library's tensor, of which NumPy knows nothing but `__dlpack__`."""

    def __init__(self, array: np.ndarray[Any, np.dtype[np.float32]]) -> None:
        self.array = array

    def __dlpack__(self, **asked: Any) -> Any:
        return self.array.__dlpack__(**asked)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


@pytest.mark.skipif(not WRITES_TENSORS, reason="what NumPy takes by DLPack is read-only before 2.1")
def test_outputs_are_written_to_tensors_of_other_libraries(digits: netc.Model) -> None:
    x, out = image(3, 2, 1, 28, 28), Tensor(np.zeros((2, 10), np.float32))
    assert digits.run({"image": x}, out={"logits": out})["logits"] is out
    np.testing.assert_array_equal(out.array, digits(x))


def test_arrays_by_name_are_any_mapping(digits: netc.Model) -> None:
    x = image(4, 1, 1, 28, 28)
    found = digits.run(types.MappingProxyType({"image": x}), out=types.MappingProxyType({}))
    np.testing.assert_array_equal(found["logits"], digits(x))
    wrong: Any = x
    with pytest.raises(TypeError, match="inputs is a dictionary of arrays by name, not ndarray"):
        digits.run(wrong)
    with pytest.raises(TypeError, match="names of inputs and outputs are strings, not 1"):
        digits.run({1: x})  # type: ignore[dict-item]


def test_arrays_of_other_layouts_and_precisions_mean_the_same(digits: netc.Model) -> None:
    plain = image(4, 2, 1, 28, 28)
    expected = digits(plain)
    np.testing.assert_array_equal(digits(np.asfortranarray(plain)), expected)
    np.testing.assert_array_equal(digits(plain.astype(np.float64)), expected)
    np.testing.assert_array_equal(digits(plain[::-1])[::-1], expected)
    assert digits(plain.astype(np.float16)).shape == (2, 10)
    np.testing.assert_array_equal(digits(plain.tolist()), expected)
    read_only = plain.copy()
    read_only.flags.writeable = False
    np.testing.assert_array_equal(digits(read_only), expected)
    aligned_oddly = np.frombuffer(b"\0" * 4 + plain.tobytes(), np.float32)[1:].reshape(plain.shape)
    np.testing.assert_array_equal(digits(aligned_oddly), expected)
    unaligned = np.frombuffer(b"\0" + plain.tobytes(), np.uint8)[1:].view(np.float32).reshape(plain.shape)
    assert not unaligned.flags.aligned
    np.testing.assert_array_equal(digits(unaligned), expected)
    np.testing.assert_array_equal(digits(plain.astype(">f4")), expected)


def test_wrong_arrays_are_refused(digits: netc.Model, tmp_path: pathlib.Path) -> None:
    for wrong, error, message in [
        (image(0, 28, 28), ValueError, r"image takes \[N, 1, 28, 28\], not \[28, 28\]"),
        (image(0, 1, 2, 28, 28), ValueError, r"digits cannot take \[1, 2, 28, 28\]"),
        (image(0, 0, 1, 28, 28), ValueError, "takes"),
        (np.zeros((1, 1, 28, 28), np.uint8), TypeError, "float32, not uint8"),
        (np.zeros((1, 1, 28, 28), np.complex64), TypeError, "not complex64"),
        (np.zeros((1, 1, 28, 28), object), TypeError, "not object"),
        ("seven.png", TypeError, "not a string"),
        (None, TypeError, "array of float32, not NoneType"),
    ]:
        with pytest.raises(error, match=message):
            digits(wrong)
    saved = tmp_path / "two.netc"
    netc.compile(SPEC, seed=1).save(saved)
    with pytest.raises(ValueError, match="channels come last"):
        netc.load(saved)(image(0, 1, 8, 8, 3), image(0, 1, 3, 8, 8))
    with pytest.raises(TypeError, match="'?\"?image\"?'? is missing"):
        digits()
    with pytest.raises(TypeError, match="1 inputs, 2 were given"):
        digits(image(0, 1, 1, 28, 28), image(0, 1, 1, 28, 28))
    with pytest.raises(KeyError, match="img"):
        digits(img=image(0, 1, 1, 28, 28))


def test_mistakes_of_a_text_are_data() -> None:
    with pytest.raises(netc.SpecError) as caught:
        netc.compile("netc 1\nmodel m {\n    input x: f32[N, 3, 8, 8]\n    conv2d(3)\n    output y\n}\n")
    mistake, *_ = caught.value.diagnostics
    assert mistake["code"] == "unknown-layer" and mistake["help"] == ["did you mean `conv`?"]
    assert (mistake["labels"][0]["line"], mistake["labels"][0]["column"]) == (4, 5)
    assert "conv2d(3)" in str(caught.value) and "<text>:4:5" in str(caught.value)
    assert isinstance(caught.value, netc.NetcError)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"source": "none.net"}, FileNotFoundError, "none.net"),
        ({"source": 3}, TypeError, "a network is a path"),
        ({"source": DIGITS / "digits.net", "weights": "none.safetensors"}, netc.NetcError, "none.safetensors"),
        ({"source": DIGITS / "digits.net", "set": {"clases": 3}}, netc.SpecError, "did you mean `classes`"),
        ({"source": DIGITS / "digits.net", "batch": 0}, ValueError, "batch"),
        ({"source": DIGITS / "digits.net", "batch": [1, -4]}, ValueError, "batch is a number from 0 on, not -4"),
        ({"source": DIGITS / "digits.net", "batch": "4"}, TypeError, "batch is a whole number, not '4'"),
        ({"source": DIGITS / "digits.net", "threads": -1}, ValueError, "threads is a number from 0 on, not -1"),
        ({"source": DIGITS / "digits.net", "seed": -1}, ValueError, "seed is a number from 0 on, not -1"),
        ({"source": DIGITS / "digits.net", "sizes": (28, 28)}, TypeError, r"sizes is a list of \(height, width\), not"),
        ({"source": DIGITS / "digits.net", "threads": 1000}, ValueError, "threads"),
        ({"source": DIGITS / "digits.net", "precision": "f8"}, ValueError, "precision"),
        ({"source": DIGITS / "digits.net", "target": "z80"}, ValueError, "z80"),
        ({"source": DIGITS / "digits.net", "until": "conv9"}, netc.NetcError, "no value `conv9`"),
        ({"source": DIGITS / "README.md"}, netc.NetcError, "README.md: this is a text, but no network"),
    ],
)
def test_mistakes_of_a_call(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        netc.compile(**arguments)


def test_compiled_files(digits: netc.Model, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "digits.netc"
    digits.save(path)
    loaded = netc.load(path, threads=1)
    np.testing.assert_array_equal(loaded(image(5, 1, 28, 28)), digits(image(5, 1, 28, 28)))
    assert loaded.labels == digits.labels and path.read_bytes() == loaded.to_bytes() == digits.to_bytes()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    for damaged in [bytes(data[:100]), b"", b"not a model" * 1000]:
        broken = tmp_path / "broken.netc"
        broken.write_bytes(damaged)
        with pytest.raises(netc.ModelError, match="broken.netc"):
            netc.load(broken)
    with pytest.raises(FileNotFoundError):
        netc.load(tmp_path / "none.netc")


def test_a_model_is_opened_from_its_bytes(digits: netc.Model) -> None:
    x = image(5, 1, 28, 28)
    np.testing.assert_array_equal(netc.load(digits.to_bytes(), threads=1)(x), digits(x))
    with pytest.raises(netc.ModelError):
        netc.load(digits.to_bytes()[:1000])


def test_ports_and_models_are_objects_like_others(digits: netc.Model) -> None:
    assert len({digits.inputs[0], digits.inputs[0], digits.outputs[0]}) == 2
    model = netc.compile(PICTURES, seed=1)
    known = weakref.ref(model)
    assert known() is model
    result = model(image(1, 1, 3, 16, 16))
    del model
    gc.collect()
    assert known() is None and np.isfinite(result).all()


def test_mistakes_travel_between_processes() -> None:
    with pytest.raises(netc.SpecError) as caught:
        netc.compile("netc 1\nmodel m { conv2d(3) }")
    there = pickle.loads(pickle.dumps(caught.value))
    assert type(there) is netc.SpecError and there.diagnostics == caught.value.diagnostics
    assert str(there) == str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="takes a pipe with a name")
def test_control_c_ends_compiling(tmp_path: pathlib.Path) -> None:
    # A text that does not come.
    path = tmp_path / "slow.net"
    os.mkfifo(path)
    threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        netc.compile(path)
    with open(path, "w") as pipe:
        pipe.write("netc 1")


def test_models_are_pickled(digits: netc.Model, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "digits.netc"
    digits.save(path)
    expected = digits(image(6, 1, 28, 28))
    by_file, by_bytes = pickle.dumps(netc.load(path, threads=1)), pickle.dumps(digits)
    assert len(by_file) < 1000 < len(by_bytes)
    for data in [by_file, by_bytes]:
        np.testing.assert_array_equal(pickle.loads(data)(image(6, 1, 28, 28)), expected)
    code = "import pickle, sys, numpy; m = pickle.load(sys.stdin.buffer); print(m(numpy.zeros((1, 28, 28), 'f4')).shape)"
    ran = subprocess.run([sys.executable, "-c", code], input=by_bytes, capture_output=True, check=True)
    assert ran.stdout.strip() == b"(1, 10)"


def test_threads_share_a_model(digits: netc.Model) -> None:
    images = [image(seed, 1, 28, 28) for seed in range(8)]
    expected = [digits(x) for x in images]

    def work(seed: int) -> bool:
        return all(np.array_equal(digits(images[seed % 8]), expected[seed % 8]) for _ in range(50))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(16)))


def test_an_array_lives_as_long_as_its_run(digits: netc.Model) -> None:
    result = digits(image(7, 1, 28, 28))
    kept = result.copy()
    gc.collect()
    for seed in range(20):
        digits(image(seed, 1, 28, 28))
    np.testing.assert_array_equal(result, kept)


def test_other_sizes_are_compiled_for() -> None:
    text = """netc 1
    model any {
        input image: f32[N, 3, 16, 16]
        conv(4, 3, pad = 1)  relu
        output map
        global_avg_pool  flatten
        linear(2)
        output y
    }
    """
    model = netc.compile(text, seed=1)
    small, large = image(1, 2, 3, 16, 16), image(2, 3, 3, 24, 40)
    assert model(small)["map"].shape == (2, 4, 16, 16)
    first = model(large)
    assert first["map"].shape == (3, 4, 24, 40) and first["y"].shape == (3, 2)
    np.testing.assert_array_equal(model(large)["map"], first["map"])
    fixed = netc.compile(text, seed=1, shapes={"image": [1, 3, 24, 40]})
    np.testing.assert_array_equal(fixed(large)["map"], first["map"])
    # As many sizes as one likes; the latest are kept.
    for size in range(17, 30):
        assert model(image(size, 1, 3, size, 16))["map"].shape == (1, 4, size, 16)
    assert model.inputs[0].shape == [1, 3, 16, 16]
    # A single image of another size may lack the first axis, too.
    np.testing.assert_array_equal(model(large[1])["y"], model(large[1:2])["y"])
    with pytest.raises(ValueError, match="cannot take .*28.*29"):
        netc.compile(DIGITS / "digits.net", until="fc", from_="layer3.1")(image(0, 1, 64, 28, 29))


def test_networks_in_memory(tmp_path: pathlib.Path) -> None:
    path = DIGITS.parents[1] / "tests" / "import" / "small.onnx"
    of_file = netc.compile(path)
    x = image(1, *of_file.inputs[0].shape)
    expected = of_file.run({of_file.inputs[0].name: x})
    contents = path.read_bytes()

    class Proto:
        def SerializeToString(self) -> bytes:
            return contents

    sources: list[Any] = [contents, bytearray(contents), memoryview(contents), Proto()]
    for source in sources:
        model = netc.compile(source, cache=tmp_path)
        for name, array in model.run({model.inputs[0].name: x}).items():
            np.testing.assert_array_equal(array, expected[name])
    assert len(kept(tmp_path)) == 2
    assert netc.compile(PICTURES.encode(), seed=1).name == "any"
    with pytest.raises(netc.NetcError, match="<bytes>"):
        netc.compile(contents[:40])
    with pytest.raises(netc.NetcError, match="<bytes>: this is a text, but no network"):
        netc.compile(b"hello")
    loaded = netc.load(memoryview(of_file.to_bytes())).run({of_file.inputs[0].name: x})
    assert all(np.array_equal(loaded[name], expected[name]) for name in expected)


PICTURES = """netc 1
model any {
    input image: f32[N, 3, 16, 16]
    conv(4, 3, pad = 1)  relu
    global_avg_pool  flatten
    linear(2)
    output y
}
"""


def test_one_model_of_several_sizes(tmp_path: pathlib.Path) -> None:
    model = netc.compile(PICTURES, seed=1, sizes=[(16, 16), (24, 40)], batch=[1, 4], threads=1)
    assert model.sizes == [{"image": [1, 3, 16, 16]}, {"image": [1, 3, 24, 40]}] and model.batches == [1, 4]
    small, large = image(1, 6, 3, 16, 16), image(2, 3, 3, 24, 40)
    alone = netc.compile(PICTURES, seed=1, shapes={"image": [1, 3, 24, 40]})
    np.testing.assert_allclose(model(large), alone(large), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(model(large[1])[0], model(large[1:2])[0])
    assert model(small).shape == (6, 2)
    path = tmp_path / "any.netc"
    model.save(path)
    for other in [netc.load(path), pickle.loads(pickle.dumps(model)), pickle.loads(pickle.dumps(netc.load(path)))]:
        assert other.sizes == model.sizes
        np.testing.assert_array_equal(other(large), model(large))
    # The file's texts say what it was made of.
    assert netc.load(path)(image(3, 1, 3, 20, 20)).shape == (1, 2)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model))(image(3, 1, 3, 20, 20)), model(image(3, 1, 3, 20, 20)))
    with pytest.raises(ValueError, match="the size 16x16 is listed twice"):
        netc.compile(PICTURES, seed=1, sizes=[(16, 16), (16, 16)])
    with pytest.raises(ValueError, match="64 are the most"):
        netc.compile(PICTURES, sizes=[(side, 16) for side in range(1, 34)], batch=[1, 2])
    with pytest.raises(ValueError, match="batch lists no number"):
        netc.compile(PICTURES, batch=[])


def kept(cache: pathlib.Path) -> list[str]:
    """The files of a cache that are models and what they were made of."""
    return sorted(path.name for path in cache.iterdir() if path.name != "lock")


def test_a_cache_keeps_what_is_compiled(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "cache"
    first = netc.compile(PICTURES, seed=1, cache=folder)
    made = kept(folder)
    second = netc.compile(PICTURES, seed=1, cache=folder)
    x = image(1, 2, 3, 16, 16)
    np.testing.assert_array_equal(first(x), second(x))
    assert kept(folder) == made and len(made) == 2
    assert second(image(2, 1, 3, 32, 16)).shape == (1, 2) and len(kept(folder)) == 4
    folder.chmod(0o777)
    with pytest.raises(netc.NetcError, match="others may write to it"):
        netc.compile(PICTURES, seed=1, cache=folder)


def test_random_weights_are_warned_of() -> None:
    with pytest.warns(netc.NetcWarning, match="any: no weights were given or found: they are random, as by seed=0") as caught:
        random = netc.compile(PICTURES)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = image(1, 1, 3, 16, 16)
        np.testing.assert_array_equal(netc.compile(PICTURES, seed=0)(x), random(x))
        netc.compile(DIGITS / "digits.net")
        netc.compile("netc 1  model m { input x: f32[N, 3]  relu  output y }")


def test_mistakes_have_colours_in_a_notebook() -> None:
    with pytest.raises(netc.SpecError) as caught:
        netc.compile("netc 1\nmodel m { input x: f32[N, 3, 8, 8]  conv2d(3)  output <y }\n")
    shown = caught.value._repr_html_()
    assert shown.startswith("<pre>") and "<span style=" in shown and "&lt;y" in shown and "\x1b" not in shown
    assert any("\x1b[" in line for line in caught.value._render_traceback_())
    with pytest.raises(netc.NetcError) as plain:
        netc.compile(PICTURES, cache=DIGITS / "digits.net")
    shown = plain.value._repr_html_()
    assert shown.startswith("<pre>") and "the cache " in shown


def test_an_old_numpy_is_refused_in_words() -> None:
    code = "import numpy; numpy.__version__ = '1.19.5'; import netc"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 1 and "ImportError: netc needs NumPy 1.23 or newer, this is 1.19.5" in ran.stderr


def test_whole_numbers_and_truth_values() -> None:
    text = """netc 1
    model ids {
        input tokens: i64[N, 6]
        tokens_f: cast
        greater_than(2)
        cast("bool")
        output large
        from(tokens_f)
        argmax(axis = 1)
        cast("i64")
        output place
    }
    """
    model = netc.compile(text, seed=1)
    assert [(p.name, p.dtype) for p in model.outputs] == [("large", "bool"), ("place", "int64")]
    x = np.array([[0, 1, 2, 3, 4, 2], [9, 1, 1, 1, 1, 1]])
    results = model(x)
    assert results["large"].dtype == np.bool_ and results["place"].dtype == np.int64
    np.testing.assert_array_equal(results["large"], x > 2)
    np.testing.assert_array_equal(results["place"], x.argmax(axis=1))
    with pytest.raises(TypeError, match="takes int64, not float32"):
        model(x.astype(np.float32))
    with pytest.raises(TypeError, match="of which a new array is made"):
        model.run({"tokens": x}, out={"place": np.zeros(2, np.int64)})
    x[1, 2] = 2**24 + 1
    with pytest.raises(ValueError, match="tokens has the number 16777217; whole numbers up to 16777216 are exact"):
        model(x)


def test_parts_of_a_network(digits: netc.Model) -> None:
    first = netc.compile(DIGITS / "digits.net", until="layer2.1")
    second = netc.compile(DIGITS / "digits.net", from_="layer2.1")
    x = image(8, 1, 28, 28)
    np.testing.assert_allclose(second(first(x)), digits(x), rtol=1e-4, atol=1e-4)


def test_everything_has_a_text() -> None:
    for kind in [netc.Model, netc.Port, netc.Training, netc.Quantized]:
        for name, member in vars(kind).items():
            if not name.startswith("_"):
                assert (getattr(member, "__doc__", None) or "").strip(), f"{kind.__name__}.{name}"
    assert "Raises:" in (netc.Model.run.__doc__ or "") and "float32" in (netc.Model.__doc__ or "")


def test_the_command() -> None:
    ran = subprocess.run([sys.executable, "-m", "netc", "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("netc ") and netc.__version__ in ran.stdout
    assert subprocess.run([sys.executable, "-m", "netc", "check", "none.net"], capture_output=True).returncode == 1
