"""The examples in the package's own texts."""

from __future__ import annotations

import doctest

import netc
from netc import _commands, _errors, _requirements


def test_examples() -> None:
    for module, least in [(netc, 2), (_commands, 1), (_errors, 0), (_requirements, 1)]:
        found = doctest.testmod(module)
        assert found.failed == 0 and found.attempted > least
