"""What takes minutes, in a process of its own: training, quantizing, verifying, counting.

Each is a command of the program `netc`, which tells its results as JSON. A process of its own can be stopped at any time,
and takes its memory with it when it ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from . import _netc
from ._arguments import is_path, write_arrays
from ._netc import Model, NetcError, SpecError
from ._warnings import warn

_Path = typing.Union[str, os.PathLike[str]]
_Json = dict[str, typing.Any]


@dataclasses.dataclass(frozen=True)
class Training:
    """What came of a training."""

    weights: pathlib.Path
    """The file of weights, which `compile` takes."""
    epochs: list[_Json]
    """Each epoch: losses and metrics by name, seconds, and those of the validation where there is one."""


@dataclasses.dataclass(frozen=True)
class Quantized:
    """A network of 8 bits."""

    text: pathlib.Path
    """The network, to be compiled, read and changed like others; its weights lie beside it."""
    report: _Json
    """What each layer became, and the signal to noise of each output in decibels."""


def _run(arguments: Sequence[str], told: Callable[[_Json], None] | None = None) -> list[_Json]:
    """Runs a command; `told` gets each object of JSON as it comes, and all of them are given at the end.

    What it finds is warned of as `netc.compile` does, and its mistakes are raised.
    """
    command = [sys.executable, "-m", "netc", *arguments, "--json", "--quiet", "--message-format", "json"]
    results: list[_Json] = []
    mistakes: list[_Json] = []

    def take(found: _Json) -> None:
        if found.keys() >= {"severity", "rendered"}:
            found = _worded(found)
            if found["severity"] == "error":
                mistakes.append(found)
            else:
                warn(found["rendered"].strip(), found)
            return
        results.append(found)
        if told is not None:
            told(found)

    decoder, rest = json.JSONDecoder(), ""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8")
        assert process.stdout is not None
        try:
            for line in process.stdout:
                rest += line
                # An object may take a line or many.
                with contextlib.suppress(json.JSONDecodeError):
                    found, end = decoder.raw_decode(rest.lstrip())
                    rest = rest.lstrip()[end:]
                    take(found)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        finally:
            process.stdout.close()
        if process.wait() != 0:
            errors.seek(0)
            raise _raised(mistakes, errors.read().strip(), process.returncode)
    return results


def _worded(found: _Json) -> _Json:
    """A diagnostic whose advice is in the words of Python."""
    said = dict(found)
    said["message"] = _netc.worded(found["message"])
    # Lines of the text, ` 12 | …`, and its place, ` --> FILE:1:2`, stay what they are.
    is_quote = re.compile(r"\s*(\d+ )?\||\s*(-->|:::) ").match
    lines = found["rendered"].split("\n")
    said["rendered"] = "\n".join(line if is_quote(line) else _netc.worded(line) for line in lines)
    for name in ("notes", "help"):
        said[name] = [_netc.worded(text) for text in found[name]]
    return said


def _raised(mistakes: list[_Json], text: str, code: int) -> NetcError:
    """A command's failure: mistakes with places are those of a text."""
    if any(mistake["labels"] for mistake in mistakes):
        error = SpecError("\n\n".join(mistake["rendered"].strip() for mistake in mistakes))
        error.diagnostics = mistakes
        return error
    said = "\n".join(mistake["message"] for mistake in mistakes) or text.removeprefix("error: ")
    return NetcError(said or f"netc ended with the code {code}")


@contextlib.contextmanager
def _source(source: _Path | Model) -> Iterator[str]:
    """The path of a network; a text or a model in memory becomes a file for as long as the block lasts."""
    if isinstance(source, Model):
        with tempfile.TemporaryDirectory(prefix="netc-") as folder:
            path = pathlib.Path(folder) / "model.netc"
            source.save(path)
            yield str(path)
        return
    if not is_path(source):
        raise TypeError(f"a network is a path or a text in netc's language, not {source!r}")
    text = os.fspath(source)
    if "\n" not in text and not text.lstrip().startswith("netc "):
        yield text
        return
    with tempfile.TemporaryDirectory(prefix="netc-") as folder:
        path = pathlib.Path(folder) / "network.net"
        path.write_text(text, encoding="utf-8")
        yield str(path)


@contextlib.contextmanager
def _data(data: typing.Any) -> Iterator[str]:
    """The path of a data set; arrays become an archive for as long as the block lasts."""
    if isinstance(data, (str, os.PathLike)):
        yield os.fspath(data)
        return
    arrays = dict(data) if isinstance(data, Mapping) else {"images": data}
    with tempfile.TemporaryDirectory(prefix="netc-") as folder:
        path = pathlib.Path(folder) / "data.npz"
        write_arrays(path, "data", arrays)
        yield str(path)


def _flags(**values: typing.Any) -> list[str]:
    """`--name value` for each that is given."""
    flags: list[str] = []
    for name, value in values.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            flags.append(flag)
        elif value is not None and value is not False:
            flags += [flag, os.fspath(value) if isinstance(value, os.PathLike) else str(value)]
    return flags


def _pairs(flag: str, values: Mapping[str, typing.Any] | None) -> list[str]:
    def text(value: typing.Any) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        return ",".join(map(str, value)) if flag == "--shape" else str(value)

    return [part for name, value in (values or {}).items() for part in (flag, f"{name}={text(value)}")]


def stats(
    source: _Path,
    *,
    model: str | None = None,
    set: Mapping[str, typing.Any] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    batch: int | None = None,
    phase: str = "infer",
) -> _Json:
    """What each layer of a network costs: shapes, parameters, multiply-adds, receptive field.

    >>> import netc
    >>> netc.stats("models/digits/digits.net")["params"]
    170298

    Raises:
        NetcError: The network has mistakes; the text shows them.
    """
    with _source(source) as path:
        flags = _flags(model=model, batch=batch, phase=phase) + _pairs("--set", set) + _pairs("--shape", shapes)
        return _run(["stats", path, *flags])[-1]


def profile(
    source: _Path | Model,
    *,
    weights: _Path | None = None,
    set: Mapping[str, typing.Any] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    batch: int | None = None,
    threads: int | None = None,
    runs: int | None = None,
) -> _Json:
    """Measures where the time of a run goes, step by step.

    Args:
        source: The network, or its path; a compiled model, or its path.
        weights, set, shapes, batch: As `compile` takes them; not of a compiled model.
        threads: Threads of a run; one for each CPU without it.
        runs: How many runs are averaged.

    Returns:
        `steps`, a row for each: name, op, algorithm, us (microseconds of a run), share of the whole, gflops, gb_per_s, the line
        of the text and more, which `pandas.DataFrame` makes a table of; and what this machine reaches at most, `peak_gflops`
        and `peak_gb_per_s`.

    Raises:
        NetcError: The network has mistakes.
    """
    with _source(source) as path:
        flags = _flags(weights=weights, batch=batch, threads=threads, runs=runs)
        return _run(["profile", path, *flags, *_pairs("--set", set), *_pairs("--shape", shapes)])[-1]


def verify(
    source: _Path,
    *,
    weights: _Path | None = None,
    against: _Path | None = None,
    random: int | None = None,
    tolerance: float | None = None,
) -> _Json:
    """Compares compiled code with the network's definition, or with other outputs: an ONNX model, arrays of a framework.

    Raises:
        NetcError: They differ, or cannot be compared.
    """
    with _source(source) as path:
        flags = _flags(weights=weights, against=against, random=random, tolerance=tolerance)
        return _run(["verify", path, *flags])[-1]


def train(
    source: _Path,
    data: typing.Any,
    *,
    output: _Path,
    validate: typing.Any = None,
    hold_out: float | None = None,
    folder: _Path | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    seed: int | None = None,
    weights: _Path | None = None,
    keep: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    memory: str | None = None,
    threads: int | None = None,
    strict: bool = False,
    on_epoch: Callable[[_Json], None] | None = None,
) -> Training:
    """Trains a network by the `train` block of its text.

    Args:
        source: The text, or its path.
        data: A data set that `netc train` reads (a folder of pictures, idx, CIFAR, .npz), or arrays by name, such as
            `{"images": x, "labels": y}`.
        output: Where the weights go (.safetensors).
        validate: A data set like `data` that each epoch is evaluated on.
        hold_out: The share of the data that is kept for that instead.
        folder: Where checkpoints, the table and the curves go; beside the weights without it.
        epochs, batch, seed: In place of what the text says.
        weights: The weights to begin with.
        keep: "best" or "last".
        resume: Go on from the checkpoint in `folder`.
        overwrite: Begin anew where there is one.
        memory: What a step may take, such as "512MiB".
        threads: Threads; one for each CPU without it.
        strict: The same bits on every CPU.
        on_epoch: Called after each epoch with its losses and metrics.

    Raises:
        NetcError: The text, the data or the weights have mistakes, or numbers stopped being finite.
    """
    epochs_told: list[_Json] = []

    def told(result: _Json) -> None:
        if "epoch" in result:
            epochs_told.append(result)
            if on_epoch is not None:
                on_epoch(result)

    with contextlib.ExitStack() as stack:
        path = stack.enter_context(_source(source))
        flags = ["--data", stack.enter_context(_data(data))]
        if validate is not None:
            flags += ["--validate", stack.enter_context(_data(validate))]
        folder = folder if folder is not None else pathlib.Path(output).with_suffix(".training")
        flags += _flags(
            output=output, hold_out=hold_out, folder=folder, epochs=epochs, batch=batch, seed=seed, weights=weights,
            keep=keep, resume=resume, overwrite=overwrite, memory=memory, threads=threads, strict=strict,
        )
        results = _run(["train", path, *flags], told)
    last = results[-1]
    return Training(pathlib.Path(last["weights"]), epochs_told)


def quantize(
    source: _Path,
    calibrate: typing.Any = None,
    *,
    output: _Path,
    weights: _Path | None = None,
    weights_only: bool = False,
    samples: int | None = None,
    method: str | None = None,
    input_type: str | None = None,
    keep: Sequence[str] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    threads: int | None = None,
    force: bool = False,
) -> Quantized:
    """Makes a network of 8 bits of one of float32.

    Args:
        source: The network, or its path; an ONNX model's too.
        calibrate: A hundred samples of the input, which need no labels: a folder of pictures, a file of arrays, or an array.
        output: The text that is written (.net); its weights go beside it.
        weights: The weights of the network of float32.
        weights_only: Give linear layers weights of 8 bits and let all values stay float32; needs no samples.
        samples: Take so many of them.
        method: "minmax", "percentile", "entropy" or "mse".
        input_type: "u8" for a network that takes pixels as they are.
        keep: Labels of layers that stay float32.
        shapes: Whole shapes of an ONNX model's inputs, where it leaves sizes open.
        threads: Threads; one for each CPU without it.
        force: Replace what is there already.

    Raises:
        NetcError: The network or the samples have mistakes.
    """
    if calibrate is None and not weights_only:
        raise TypeError("calibrate is missing: samples of the input; weights_only=True needs none")
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(_source(source))
        flags = _pairs("--shape", shapes) + [part for label in keep for part in ("--keep", label)]
        if calibrate is not None:
            flags += ["--calibrate", stack.enter_context(_data(calibrate))]
        flags += _flags(
            output=output, weights=weights, weights_only=weights_only, samples=samples, method=method,
            input_type=input_type, threads=threads, force=force,
        )
        report = _run(["quantize", path, *flags])[-1]
    return Quantized(pathlib.Path(output), report)
