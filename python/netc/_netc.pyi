"""The native part."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Union, final

import numpy
import numpy.typing

__version__: str

_Path = Union[str, os.PathLike[str]]
_Array = numpy.typing.NDArray[numpy.float32]

class NetcError(Exception):
    """What netc refuses or cannot do."""

    def _repr_html_(self) -> str: ...
    def _render_traceback_(self) -> list[str]: ...

class SpecError(NetcError):
    """Mistakes in a network's text."""

    diagnostics: list[dict[str, Any]]
    """Each mistake: severity, code, message, labels (file, line, column, …), notes, help, rendered."""

class ModelError(NetcError):
    """A model file that is damaged, of another version, or not for this CPU."""

class WeightsError(NetcError):
    """A file of weights that cannot be read or does not fit the network."""

@final
class Port:
    """An input or output of a model."""

    def __new__(cls, name: str, shape: Sequence[int], dtype: str) -> Port: ...
    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> list[int]:
        """The first size is the number of images that the code computes at once."""
    @property
    def dtype(self) -> str: ...
    def __eq__(self, other: object) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Model:
    """A compiled network. It may be called from several threads at once."""

    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> list[Port]: ...
    @property
    def outputs(self) -> list[Port]: ...
    @property
    def sizes(self) -> list[dict[str, list[int]]]:
        """The shapes of the inputs, of each size that the model is compiled for."""
    @property
    def batches(self) -> list[int]:
        """Images that are computed at once by each program of the first size, among which runs choose."""
    @property
    def labels(self) -> list[str]:
        """Names of the classes; empty where they are not known."""
    @property
    def batch(self) -> int | None:
        """Images that the code computes at once; `None` of a network that takes one number of images only."""
    @property
    def threads(self) -> int: ...
    @property
    def features(self) -> list[str]:
        """CPU features that the code uses."""
    @property
    def run_memory(self) -> int:
        """Bytes that a run takes besides the weights."""
    @property
    def weights_bytes(self) -> int: ...
    @property
    def steps(self) -> list[tuple[str, str, str, int]]:
        """What a run does: name, operation, algorithm, floating-point operations."""
    def __call__(self, *args: Any, **named: Any) -> Any:
        """Runs the network on one array for each input, in order or by name.

        Arrays are of the ports' shapes, with any number of images; a single image may lack the first axis. Anything with
        `__dlpack__` is an array. One output is given as an array, several as a dictionary.

        Raises ValueError for other shapes, TypeError for other elements.
        """
    def run(self, inputs: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Runs the network; `out` holds arrays that outputs are written to, of NumPy or whatever has `__dlpack__`."""
    def preprocess(self, image: Any, input: str | None = None) -> _Array:
        """A picture as the network's input, `[1, channels, height, width]`, by the steps that its text states.

        The picture is a path (PNG, JPEG, WebP, BMP, GIF, TIFF, PNM), such a file's bytes, an open file, a picture of PIL, or
        uint8 `[height, width]` or `[height, width, 3]`.
        """
    def classify(self, image: Any, top_k: int = 5, labels: Sequence[str] | None = None) -> list[tuple[str, float]]:
        """The likeliest classes of a picture with their probabilities, the likeliest first."""
    def to_bytes(self) -> bytes:
        """The bytes of the compiled file."""
    def save(self, path: _Path) -> None:
        """Writes the compiled file, which appears when it is whole."""
    def _repr_html_(self) -> str: ...

def compile(
    source: _Path | bytes,
    *,
    weights: Sequence[_Path] = ...,
    model: str | None = ...,
    set: Mapping[str, Any] | None = ...,
    batch: Sequence[int] = ...,
    threads: int = ...,
    seed: int | None = ...,
    shapes: Mapping[str, int | Sequence[int]] | None = ...,
    fix: Mapping[str, float | Sequence[float]] | None = ...,
    sizes: Sequence[tuple[int, int]] = ...,
    until: Sequence[str] = ...,
    from_: Sequence[str] = ...,
    precision: str = ...,
    strict: bool = ...,
    target: str = ...,
    allow_missing: bool = ...,
    allow_extra: bool = ...,
    cache: _Path | None = ...,
    cache_size: int | None = ...,
    rename: Mapping[str, str] | None = ...,
    memory: int | None = ...,
    name: str | None = ...,
) -> Model: ...
def load(path: _Path, threads: int = ..., copy_weights: bool = ..., memory: int | None = ...) -> Model: ...
def load_bytes(data: bytes, threads: int = ..., memory: int | None = ...) -> Model: ...
def worded(text: str) -> str: ...
def run_command(args: Sequence[str]) -> int: ...
