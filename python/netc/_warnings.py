"""What is likely not meant, though the network is compiled."""

from __future__ import annotations

import sys
import typing
import warnings


class NetcWarning(UserWarning):
    """Something in a network or its weights that is likely not meant. The text begins with the finding's code."""

    diagnostic: dict[str, typing.Any] | None = None
    """The finding as data, as `SpecError.diagnostics` has them; None where there is no more than the text."""


def warn(text: str, diagnostic: dict[str, typing.Any] | None = None) -> None:
    """Warns at the line that called the package, from however far within."""
    warning = NetcWarning(text)
    warning.diagnostic = diagnostic
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "netc":
        level, frame = level + 1, frame.f_back
    warnings.warn(warning, stacklevel=level)
