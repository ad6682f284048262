"""How exceptions look in a notebook: with the colours of the terminal."""

from __future__ import annotations

import html
import re

from ._netc import NetcError

# The codes of terminals that diagnostics use, as colours that are read on white and on black.
_COLOURS = {1: "#c00", 2: "#2a2", 3: "#b80", 4: "#36c", 5: "#a3a", 6: "#189"}
_CODE = re.compile("\\x1b\\[([0-9;]*)m")


def _style(codes: list[int]) -> str:
    """The style that codes ask for, in the words of CSS."""
    styles = []
    for code in codes:
        if code == 1:
            styles.append("font-weight:bold")
        elif code % 10 in _COLOURS and code // 10 in (3, 9):
            styles.append(f"color:{_COLOURS[code % 10]}")
    return ";".join(styles)


def as_html(text: str) -> str:
    """A text with the colours of a terminal as HTML; what it quotes stays text.

    >>> as_html("\\x1b[1;91merror\\x1b[0m: <x>")
    '<pre><span style="font-weight:bold;color:#c00">error</span>: &lt;x&gt;</pre>'
    """
    made: list[str] = []
    codes: list[int] = []
    end = 0
    for code in _CODE.finditer(text):
        made.append(_shown(text[end : code.start()], codes))
        numbers = [int(number or 0) for number in code.group(1).split(";")]
        codes = [] if 0 in numbers else codes + numbers
        end = code.end()
    made.append(_shown(text[end:], codes))
    return f"<pre>{''.join(made)}</pre>"


def _shown(text: str, codes: list[int]) -> str:
    style = _style(codes) if text else ""
    return f'<span style="{style}">{html.escape(text, quote=False)}</span>' if style else html.escape(text, quote=False)


def _coloured(error: NetcError) -> str:
    return getattr(error, "_coloured", None) or str(error)


def _repr_html_(self: NetcError) -> str:
    return as_html(_coloured(self))


def _render_traceback_(self: NetcError) -> list[str]:
    """What IPython shows in place of a trace: mistakes are in the network's text, not in Python's."""
    return [f"{type(self).__name__}:", *_coloured(self).splitlines()]


setattr(NetcError, "_repr_html_", _repr_html_)
setattr(NetcError, "_render_traceback_", _render_traceback_)
