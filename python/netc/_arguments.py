"""What functions are given, checked under the names that their callers wrote."""

from __future__ import annotations

import contextlib
import operator
import os
import pathlib
import reprlib
import tempfile
import typing
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

Path = typing.Union[str, os.PathLike[str]]
Arrays = Mapping[str, typing.Any]
_Read = typing.TypeVar("_Read")


def _short(given: object) -> str:
    """What was given, on a line."""
    return reprlib.repr(given)


def natural(**numbers: int | None) -> None:
    """Refuses what is no whole number, negative ones, and those of more than 64 bits."""
    for name, number in numbers.items():
        if number is None:
            continue
        if not isinstance(number, (int, np.integer)):
            raise TypeError(f"{name} is a whole number, not {_short(number)}")
        if number < 0:
            raise ValueError(f"{name} is a number from 0 on, not {number}")
        if number >= 1 << 64:
            raise ValueError(f"{name} is a number of 64 bits, not {number}")


def text(**texts: str | None) -> None:
    """Refuses what is no string."""
    for name, given in texts.items():
        if given is not None and not isinstance(given, str):
            raise TypeError(f"{name} is a string, not {_short(given)}")


def is_path(given: object) -> bool:
    """Whether something names a file."""
    return isinstance(given, (str, os.PathLike))


def path(**paths: Path | None) -> None:
    """Refuses what names no file."""
    for name, given in paths.items():
        if given is not None and not is_path(given):
            raise TypeError(f"{name} is a path, not {_short(given)}")


def paths(name: str, given: Path | Sequence[Path] | None) -> list[Path]:
    """One path or several as a list."""
    listed = _listed(name, given, "a path, or a list of paths")
    path(**{name: wrong for wrong in listed if not is_path(wrong)})
    return listed


def write_arrays(path: pathlib.Path, name: str, arrays: Arrays) -> None:
    """Writes an archive of arrays. Tensors of PyTorch are arrays, too."""
    with zipfile.ZipFile(path, "w") as archive:
        for key, given in arrays.items():
            if not isinstance(key, str):
                raise TypeError(f"{name} are arrays by name, and {_short(key)} is no string")
            array = np.asarray(_as_numpy(given))
            if array.dtype.kind == "V" and array.dtype.name.startswith(("bfloat", "float")):
                # Of ml_dtypes.
                array = array.astype(np.float32)
            if array.dtype.kind not in "fiub":
                raise TypeError(f"{name}[{key!r}] is an array of numbers, not of {array.dtype}")
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _as_numpy(given: typing.Any) -> typing.Any:
    """A tensor of PyTorch as an array of what NumPy has."""
    if not hasattr(given, "detach"):
        return given
    tensor = given.detach()
    is_narrow = str(tensor.dtype).startswith(("torch.bfloat", "torch.float8"))
    return (tensor.float() if is_narrow else tensor).cpu().numpy()


@contextlib.contextmanager
def weights_in(folders: list[tempfile.TemporaryDirectory[str]], given: typing.Any) -> Iterator[list[Path]]:
    """The files of weights. Arrays by name become one, in a folder that is added to `folders` if the block ends well."""
    if not isinstance(given, Mapping):
        yield paths("weights", given)
        return
    folder = tempfile.TemporaryDirectory(prefix="netc-")
    try:
        path = pathlib.Path(folder.name) / "weights.npz"
        write_arrays(path, "weights", given)
        yield [path]
    except BaseException:
        folder.cleanup()
        raise
    folders.append(folder)


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
        raise TypeError(f"{name} is {wanted}, not {_short(given)}")
    return list(given)


def named(
    name: str, given: Mapping[str, typing.Any] | None, wanted: str, read: typing.Callable[[typing.Any], _Read]
) -> dict[str, _Read]:
    """A mapping by names; `read` gives its values, or raises TypeError or ValueError where they are not `wanted`."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f"{name} is a dictionary by name, not {_short(given)}")
    made: dict[str, _Read] = {}
    for key, value in given.items():
        if not isinstance(key, str):
            raise TypeError(f"{name} is a dictionary by name, and {key!r} is no string")
        try:
            made[key] = read(value)
        except (TypeError, ValueError, OverflowError):
            raise TypeError(f"{name}[{key!r}] is {wanted}, not {_short(value)}") from None
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
    wrong = TypeError(f"{name} is a list of (height, width), not {_short(given)}")
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
