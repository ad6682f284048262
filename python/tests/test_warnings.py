"""What is likely not meant is warned of, at the line of whoever called the package."""

from __future__ import annotations

import pathlib
import pickle
import subprocess
import sys
import warnings
from typing import Any, Callable

import numpy as np
import pytest

import netc

DIGITS = pathlib.Path(__file__).parents[2] / "models" / "digits"

SPARE = """netc 1
model small(spare = 1) {
    input image: f32[N, 3, 8, 8]
    conv(4, 3)
    output y
}
"""


def told(call: Callable[[], Any]) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert all(found.category is netc.NetcWarning for found in caught)
    return caught


def test_a_finding_is_told_with_its_lines_and_as_data() -> None:
    (found,) = told(lambda: netc.compile(SPARE, seed=1))
    assert found.filename == __file__
    warning = found.message
    assert isinstance(warning, netc.NetcWarning) and isinstance(warning, UserWarning)
    assert str(warning).startswith("warning[unused-name]: nothing uses the parameter `spare`\n --> <text>:2:13\n")
    assert warning.diagnostic is not None
    label = warning.diagnostic["labels"][0]
    assert (warning.diagnostic["code"], label["line"], label["column"]) == ("unused-name", 2, 13)
    again = pickle.loads(pickle.dumps(warning))
    assert str(again) == str(warning) and again.diagnostic == warning.diagnostic


def test_a_finding_is_told_once_for_all_sizes() -> None:
    models: list[netc.Model] = []
    assert len(told(lambda: models.append(netc.compile(SPARE, seed=1, sizes=[(8, 8), (10, 12)], batch=[1, 2])))) == 1
    # Nothing is said of the same network again.
    assert not told(lambda: models[0](np.zeros((1, 3, 9, 9), np.float32)))
    assert not told(lambda: netc.load(models[0].to_bytes())(np.zeros((1, 3, 20, 9), np.float32)))


def test_random_weights_and_those_that_are_missing_are_told(tmp_path: pathlib.Path) -> None:
    text = SPARE.replace("spare = 1", "")
    (found,) = told(lambda: netc.compile(text))
    assert "small: no weights were given or found: they are random, as by seed=0" in str(found.message)
    weights = tmp_path / "part.npz"
    arrays: dict[str, Any] = {"conv_0.weight": np.zeros((4, 3, 3, 3), np.float32), "more": np.zeros(1, np.float32)}
    np.savez(weights, **arrays)
    labelled = text.replace("conv(4, 3)", "conv_0: conv(4, 3)")
    missing, extra = told(lambda: netc.compile(labelled, weights=weights, allow_missing=True, allow_extra=True))
    assert str(missing.message).startswith("note[missing-weights]: ") and "conv_0.bias" in str(missing.message)
    assert str(extra.message).startswith("note[extra-weights]: ") and "more" in str(extra.message)


def test_what_renames_nothing_is_told() -> None:
    found = told(lambda: netc.compile(DIGITS / "digits.net", rename={"^module\\.": ""}))
    assert [str(one.message).split(":")[0] for one in found] == ["note[idle-rename]"]
    assert "--" not in str(found[0].message).replace("-->", "")


def test_commands_tell_as_well() -> None:
    (found,) = told(lambda: netc.stats(SPARE))
    assert found.filename == __file__ and "unused-name" in str(found.message)


def test_warnings_may_be_errors() -> None:
    program = "import sys, netc\ntry:\n    netc.compile(sys.argv[1])\nexcept netc.NetcWarning as w:\n    print('raised', w)"
    run = [sys.executable, "-W", "error", "-c", program, SPARE]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout.startswith("raised warning[unused-name]")
