"""What the tests of the Python package run on."""

from __future__ import annotations

import pathlib

import pytest

import netc

ROOT = pathlib.Path(__file__).parent.parent.parent
DIGITS = ROOT / "models" / "digits"


@pytest.fixture(autouse=True)
def _in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples name files from the repository's folder."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="session")
def digits() -> netc.Model:
    """The network of the README, trained."""
    return netc.compile(DIGITS / "digits.net", threads=1)
