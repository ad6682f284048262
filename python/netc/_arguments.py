"""What functions are given, checked under the names that their callers wrote."""

from __future__ import annotations

import operator
import os
import typing
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

Path = typing.Union[str, os.PathLike[str]]
_Read = typing.TypeVar("_Read")


def natural(**numbers: int | None) -> None:
    """Refuses what is no whole number, negative ones, and those of more than 64 bits."""
    for name, number in numbers.items():
        if number is None:
            continue
        if not isinstance(number, (int, np.integer)):
            raise TypeError(f"{name} is a whole number, not {number!r}")
        if number < 0:
            raise ValueError(f"{name} is a number from 0 on, not {number}")
        if number >= 1 << 64:
            raise ValueError(f"{name} is a number of 64 bits, not {number}")


def text(**texts: str | None) -> None:
    """Refuses what is no string."""
    for name, given in texts.items():
        if given is not None and not isinstance(given, str):
            raise TypeError(f"{name} is a string, not {given!r}")


def is_path(given: object) -> bool:
    """Whether something names a file."""
    return isinstance(given, (str, os.PathLike))


def path(**paths: Path | None) -> None:
    """Refuses what names no file."""
    for name, given in paths.items():
        if given is not None and not is_path(given):
            raise TypeError(f"{name} is a path, not {given!r}")


def paths(name: str, given: Path | Sequence[Path] | None) -> list[Path]:
    """One path or several as a list."""
    listed = _listed(name, given, "a path, or a list of paths")
    path(**{name: wrong for wrong in listed if not is_path(wrong)})
    return listed


def texts(name: str, given: str | Sequence[str] | None) -> list[str]:
    """One string or several as a list."""
    listed = _listed(name, given, "a string, or a list of strings")
    text(**{name: wrong for wrong in listed if not isinstance(wrong, str)})
    return listed


def _listed(name: str, given: typing.Any, wanted: str) -> list[typing.Any]:
    if given is None:
        return []
    if is_path(given):
        return [given]
    if isinstance(given, (bytes, Mapping)) or not isinstance(given, Iterable):
        raise TypeError(f"{name} is {wanted}, not {given!r}")
    return list(given)


def named(
    name: str, given: Mapping[str, typing.Any] | None, wanted: str, read: typing.Callable[[typing.Any], _Read]
) -> dict[str, _Read]:
    """A mapping by names; `read` gives its values, or raises TypeError or ValueError where they are not `wanted`."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f"{name} is a dictionary by name, not {given!r}")
    made: dict[str, _Read] = {}
    for key, value in given.items():
        if not isinstance(key, str):
            raise TypeError(f"{name} is a dictionary by name, and {key!r} is no string")
        try:
            made[key] = read(value)
        except (TypeError, ValueError, OverflowError):
            raise TypeError(f"{name}[{key!r}] is {wanted}, not {value!r}") from None
    return made


def sizes(value: int | Sequence[int]) -> list[int]:
    """A shape, or one size."""
    if isinstance(value, (str, bytes)):
        raise TypeError
    listed = [operator.index(size) for size in value] if isinstance(value, Iterable) else [operator.index(value)]
    if any(not 0 <= size < 1 << 32 for size in listed):
        raise ValueError
    return listed


def numbers(value: float | Sequence[float]) -> list[float]:
    """A number, or several."""
    if isinstance(value, (str, bytes)):
        raise TypeError
    return [float(number) for number in value] if isinstance(value, Iterable) else [float(value)]


def string(value: str) -> str:
    """A string."""
    if not isinstance(value, str):
        raise TypeError
    return value


def pictures(name: str, given: Sequence[tuple[int, int]] | None) -> list[tuple[int, int]]:
    """Heights and widths."""
    wrong = TypeError(f"{name} is a list of (height, width), not {given!r}")
    if given is None:
        return []
    try:
        listed = [sizes(size) for size in given]
    except (TypeError, ValueError):
        raise wrong from None
    if any(len(size) != 2 for size in listed):
        raise wrong
    return [(height, width) for height, width in listed]


def contents(given: typing.Any) -> typing.Any:
    """What an open file holds, or another object's memory, as bytes; anything else as it is."""
    if isinstance(given, (bytes, str, os.PathLike)):
        return given
    if callable(getattr(given, "read", None)):
        read = given.read()
        return read.encode() if isinstance(read, str) else bytes(read)
    try:
        return memoryview(given).tobytes()
    except TypeError:
        return given
