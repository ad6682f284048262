"""Compiled convolutional networks for CPUs.

A network is a short text, an ONNX model or a PyTorch module. It becomes machine code for exactly that network and this
CPU, and takes and gives NumPy arrays:

>>> import netc
>>> model = netc.compile("models/digits/digits.net")
>>> label, probability = model.classify("models/digits/images/seven-0.png")[0]
>>> label
'seven'

Arrays of float32 that lie row by row are not copied, whatever library they are of (`__dlpack__`). A model may be called
from several threads at once; Python's lock is released while it runs.
"""

from __future__ import annotations

import os
import tempfile
import typing
import weakref
from collections.abc import Iterable, Mapping

import numpy as np

from . import _requirements  # isort: skip (before the native part, which needs what is asked for)
from . import _arguments, _errors, _netc
from ._commands import Quantized, Training, profile, quantize, stats, train, verify
from ._netc import Model, ModelError, NetcError, Port, SpecError, WeightsError, __version__
from ._warnings import NetcWarning

if typing.TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx
    import torch

    Setting = typing.Union[bool, int, float, str, Sequence["Setting"]]
    Path = typing.Union[str, os.PathLike[str]]
    Buffer = typing.Union[bytes, bytearray, memoryview, np.ndarray[typing.Any, np.dtype[np.uint8]]]

__all__ = [
    "Model",
    "ModelError",
    "NetcError",
    "NetcWarning",
    "Port",
    "Quantized",
    "SpecError",
    "Training",
    "WeightsError",
    "__version__",
    "compile",
    "from_torch",
    "load",
    "profile",
    "quantize",
    "stats",
    "train",
    "verify",
]


def compile(
    source: Path | Buffer | typing.IO[typing.Any] | onnx.ModelProto | torch.onnx.ONNXProgram,
    *,
    weights: Path | Sequence[Path] | Mapping[str, typing.Any] | None = None,
    model: str | None = None,
    set: Mapping[str, Setting] | None = None,
    batch: int | Sequence[int] = 1,
    threads: int = 0,
    seed: int | None = None,
    shapes: Mapping[str, int | Sequence[int]] | None = None,
    fix: Mapping[str, float | Sequence[float]] | None = None,
    sizes: Sequence[tuple[int, int]] | None = None,
    until: str | Sequence[str] | None = None,
    from_: str | Sequence[str] | None = None,
    precision: str = "f32",
    strict: bool = False,
    target: str = "host",
    allow_missing: bool = False,
    allow_extra: bool = False,
    cache: Path | None = None,
    cache_size: int | None = None,
    rename: Mapping[str, str] | None = None,
    memory: int | None = None,
    name: str | None = None,
) -> Model:
    """Compiles a network for this CPU.

    Args:
        source: A path (`.net`, `.onnx`, a portable `.netc`), a text in netc's language, the bytes of such a file, an open file,
            a model of the package `onnx`, or what `torch.onnx.export` gives. Data beside an ONNX model that is no file are looked for in the current folder.
        weights: A file of weights (safetensors, .pth, .npz), or several that hold them together; or arrays by name, such as
            `module.state_dict()`, which no cache keeps. Without it, those beside the text, else random ones, of which a
            NetcWarning tells.
        model: Which model of a text that holds several.
        set: Values of the model's parameters.
        batch: Images that are computed at once. A model takes any number of images, in such batches, unless it mixes them.
            Of several numbers, `[1, 4, 16]`, runs choose those that take the least time.
        threads: Threads of a run; 0 is one for each CPU.
        seed: Initialises the weights by this seed, whatever files there are.
        shapes: Whole shapes of inputs, where an ONNX model leaves sizes open or in place of those that a text states; or
            sizes that an ONNX model names: `{"height": 320}`.
        fix: Numbers that inputs of an ONNX model always have, such as `{"sample_rate": 16000}`: constants of the network
            then, and no inputs.
        sizes: Heights and widths of pictures, in pixels, that one model is compiled for, with the weights once; runs choose
            by their arrays.
        until: Labels of values that become the outputs; what comes after them is left out.
        from_: Labels of values that become inputs; what comes before them is left out.
        precision: "f32", "bf16" or "fastest-within=TOLERANCE".
        strict: The same bits on every CPU, in every batch.
        target: The CPU to compile for; a model for another one cannot be run here.
        allow_missing: Weights that the file lacks keep their initial values.
        allow_extra: The file may have tensors that the network does not have.
        cache: A folder, of this user alone, in which compiled models are kept, and looked for before anything is compiled.
        cache_size: Bytes that the folder may take; 4 GiB otherwise. What was not used for the longest time goes.
        rename: Regular expressions, and what their matches in the names of the file's weights become: `{"^module\\.": ""}`.
        memory: Bytes that compiling may take, and a run; three quarters of the machine's otherwise.
        name: What messages call a network that is no file. Files that it names are looked for beside that path.

    Warns:
        NetcWarning: Something in the network or its weights that is likely not meant: a parameter that nothing uses, weights
            that are random or kept their initial values, what an ONNX model has that became something else. A model that comes
            from the cache warns of random weights only.

    Raises:
        SpecError: Mistakes in the text; `diagnostics` has each of them as data.
        WeightsError: The weights do not fit.
        FileNotFoundError: There is no such file.
        NetcError: Anything else that netc refuses.

    >>> import netc
    >>> netc.compile('''netc 1
    ... model small {
    ...     input image: f32[N, 3, 8, 8]
    ...     conv(4, 3)  relu  global_avg_pool  flatten
    ...     output y
    ... }''', seed=1)
    <netc.Model small(image: f32[N, 3, 8, 8]) -> (y: f32[N, 4])>
    """
    batches = [batch] if isinstance(batch, (int, np.integer)) or not isinstance(batch, Iterable) else list(batch)
    _arguments.natural(threads=threads, seed=seed, cache_size=cache_size, memory=memory)
    for images in batches:
        if images is None:
            raise TypeError("batch is a whole number, not None")
        _arguments.natural(batch=images)
    _arguments.text(model=model, precision=precision, target=target, name=name)
    _arguments.path(cache=cache)
    # What `torch.onnx.export` gives has a model of the package onnx.
    source = getattr(source, "model_proto", source)
    if not isinstance(source, (str, bytes, os.PathLike)) and hasattr(source, "SerializeToString"):
        source = source.SerializeToString()
    file = getattr(source, "name", None)
    if name is None and hasattr(source, "read") and isinstance(file, str):
        # What the text names lies beside it.
        name = file
    if isinstance(weights, Mapping) and cache is not None:
        raise ValueError("weights that are arrays are not kept in a cache; give a file of them")
    folders: list[tempfile.TemporaryDirectory[str]] = []
    with _arguments.weights_in(folders, weights) as files:
        made = _netc.compile(
            _arguments.contents(source),
            weights=files,
            model=model,
            set=_arguments.named("set", set, "a number, a string, True or False, or a list of these", lambda value: value),
            batch=batches,
            threads=threads,
            seed=seed,
            shapes=_arguments.named("shapes", shapes, "a whole number, or a list of them", _arguments.sizes),
            fix=_arguments.named("fix", fix, "a number, or a list of them", _arguments.numbers),
            sizes=_arguments.pictures("sizes", sizes),
            until=_arguments.texts("until", until),
            from_=_arguments.texts("from_", from_),
            precision=precision,
            strict=bool(strict),
            target=target,
            allow_missing=bool(allow_missing),
            allow_extra=bool(allow_extra),
            cache=cache,
            cache_size=cache_size,
            rename=_arguments.named("rename", rename, "a string", _arguments.string),
            memory=memory,
            name=name,
        )
    for folder in folders:
        # It is read again where the model is compiled for other sizes.
        weakref.finalize(made, folder.cleanup)
    return made


def load(
    path: Path | Buffer | typing.BinaryIO,
    *,
    threads: int = 0,
    copy_weights: bool = False,
    memory: int | None = None,
) -> Model:
    """Opens a compiled model (`netc compile`, `Model.save`) in a millisecond, without the compiler.

    A compiled model is a program: load only what you would import as a module. The weights stay in the file, which is
    replaced by renaming another over it, never written to; `copy_weights` reads them into memory instead.

    Args:
        path: The file; or its bytes (`Model.to_bytes`), which are copied, or an open file, which is read.
        threads: Threads of a run; 0 is one for each CPU.
        copy_weights: Whether to read the weights into memory.
        memory: Bytes that a run may take; three quarters of the machine's otherwise.

    Raises:
        ModelError: The file is damaged, of another version of netc, or for another CPU.
        FileNotFoundError: There is no such file.
    """
    _arguments.natural(threads=threads, memory=memory)
    given = _arguments.contents(path)
    if isinstance(given, bytes):
        return _netc.load_bytes(given, threads, memory)
    if not _arguments.is_path(given):
        raise TypeError(f"a compiled model is a path, an open file, or bytes, not {given!r}")
    return _netc.load(given, threads, bool(copy_weights), memory)


def from_torch(
    module: torch.nn.Module,
    example: torch.Tensor | tuple[torch.Tensor, ...],
    *,
    batch: int = 1,
    threads: int = 0,
    precision: str = "f32",
) -> Model:
    """Compiles a PyTorch module, by way of `torch.onnx.export`, which needs the package `onnxscript`.

    Args:
        module: In evaluation mode, with less than 2 GB of weights, which become part of the model. Of a larger one, compile the file
            that `torch.onnx.export` writes.
        example: Its arguments, of the sizes that the model will take. The first size may be another in a run.
        batch: Images that are computed at once.
        threads: Threads of a run; 0 is one for each CPU.
        precision: As for `compile`.

    Raises:
        NetcError: The module takes what netc does not have; the message lists it.
        ValueError: The module is in training mode.
    """
    from ._torch import exported

    name = f"{type(module).__name__.lower()}.onnx"
    return compile(exported(module, example), name=name, batch=batch, threads=threads, precision=precision)
