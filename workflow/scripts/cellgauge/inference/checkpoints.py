"""Read published checkpoints: tensors, dictionaries and settings. Nothing in them is executed.

A `Checkpoint` holds the tensors of one file by name. Where the format allows, a tensor is read from disk only when used.
Networks are built without memory (torch's "meta" device). A checkpoint must have exactly the tensors that the network names;
the error names the first that is missing, left over or of another shape.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from cellgauge.core.digest import digest_of
from cellgauge.core.errors import CellgaugeError, one_line, reading
from cellgauge.files.text_columns import shorten

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

REMEDY = "remove it to download it again"
INERT_LIBRARIES = ("numpy", "pandas", "scvi", "anndata", "lightning", "torch", "collections", "copyreg", "datetime")
INERT_BUILTINS = (bool, bytes, dict, float, frozenset, int, list, object, range, slice, str, tuple)
INERT_NAMES = {f"builtins.{kind.__name__}" for kind in INERT_BUILTINS}
NO_CHECKPOINT = "not a checkpoint of torch, truncated or corrupt"


class CheckpointError(CellgaugeError):
    """A file of a checkpoint is missing, damaged, unsafe, or belongs to another model."""


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a checkpoint.

    Attributes:
        path: the file.
        tensors: the tensors by name, on the CPU; read from disk when used.
    """

    path: Path
    tensors: Mapping[str, torch.Tensor]

    @classmethod
    def open(cls, path: Path) -> Checkpoint:
        """Open a .safetensors file, or a state dict that torch saved; raise CheckpointError if it is neither."""
        import torch

        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            with reading_file(path, "not readable as safetensors, truncated or corrupt"):
                tensors = load_file(path)
        else:
            tensors = _load_torch(path)
        if not isinstance(tensors, Mapping):
            raise CheckpointError(f"{path}: holds a {type(tensors).__name__}, not a dict of tensors by name")
        wrong = next((name for name, value in tensors.items() if not isinstance(value, torch.Tensor)), None)
        if wrong is not None or not tensors:
            fault = "it is empty" if wrong is None else f"'{wrong}' is of type {type(tensors[wrong]).__name__}"
            raise CheckpointError(f"{path}: not a dict of tensors by name ({fault}); is this the right file?")
        return cls(path, tensors)

    def renamed(self, rename: Callable[[str], str]) -> Checkpoint:
        """Return the same tensors under the names that `rename` gives them."""
        return Checkpoint(self.path, {rename(name): tensor for name, tensor in self.tensors.items()})

    def shape(self, name: str, ndim: int) -> tuple[int, ...]:
        """Return the shape of a tensor, which must have `ndim` axes."""
        if name not in self.tensors:
            raise self._other_model(f"has no tensor '{name}'")
        _check_tensor(self.tensors[name], f"{self.path}: '{name}'")
        shape = tuple(self.tensors[name].shape)
        if len(shape) != ndim or 0 in shape:
            raise CheckpointError(
                f"{self.path}: '{name}' has shape {shape}, but must have {ndim} axes and no empty one"
            )
        return shape

    def count(self, prefix: str) -> int:
        """Return the number of layers under `prefix`, such as "encoder.layers"; raise CheckpointError if one is missing."""
        pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
        numbers = {int(match[1]) for name in self.tensors if (match := pattern.match(name))}
        if not numbers:
            raise self._other_model(f"no layer '{prefix}.0'")
        if max(numbers) >= len(numbers):
            missing = min(set(range(max(numbers))) - numbers)
            raise CheckpointError(f"{self.path}: has no layer '{prefix}.{missing}' but has '{prefix}.{max(numbers)}'")
        return len(numbers)

    def check_heads(self, width: int, heads: int) -> None:
        """Raise CheckpointError unless `width` is a multiple of `heads`, the number of attention heads."""
        if heads < 1 or width % heads:
            raise CheckpointError(f"{self.path}: its width {width} is not a multiple of the {heads} attention heads")

    def load(self, build: Callable[[], torch.nn.Module], ignore: Sequence[str] = ()) -> torch.nn.Module:
        """Return the module of `build` with these tensors, in float32 and evaluation mode.

        Args:
            build: creates the module; it is called on torch's meta device, where tensors have no memory.
            ignore: regular expressions. Tensors whose names match one from the beginning are left out.

        Raises:
            CheckpointError: a tensor is missing, left over or of another shape. The message names the first.
        """
        import torch

        with torch.device("meta"):
            module = build()
        expected = module.state_dict()
        unused = re.compile("|".join(f"(?:{pattern})" for pattern in ignore) or r"(?!)")
        for name, tensor in expected.items():
            if self.shape(name, tensor.ndim) != tuple(tensor.shape):
                shape = tuple(self.tensors[name].shape)
                raise CheckpointError(
                    f"{self.path}: '{name}' has shape {shape}, but the other tensors require {tuple(tensor.shape)}"
                )
        extra = [name for name in self.tensors if name not in expected and not unused.match(name)]
        if extra:
            raise CheckpointError(
                f"{self.path}: the model has no tensor '{extra[0]}' ({len(extra)} such tensors in the file)"
            )
        state = {name: self.tensors[name] for name in expected}
        state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
        module.load_state_dict(state, assign=True)
        _fill_unsaved_buffers(module, build)
        return module.requires_grad_(False).eval()

    def revision(self) -> str:
        """Return "sha256:" and the hash of the file, which identifies the checkpoint in an embedding's provenance."""
        return f"sha256:{digest_of(self.path)}"

    def _other_model(self, fault: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path}: {fault} (it has {shorten(sorted(self.tensors), 3)}); is this the right model?"
        )


_last: list[tuple[object, tuple[Checkpoint, Any]]] = []
"""What `read_once` returned last, below what it was asked for."""


def read_once(load: Callable[..., T], path: Path, *args: object, **kwargs: object) -> tuple[Checkpoint, T]:
    """Return a checkpoint, and what `load` makes of it and the other arguments: a network.

    Both are kept until another file, or the same with other arguments, is asked for: a job of several splits reads a
    checkpoint once.
    """
    with reading_file(path, "cannot be read"):
        stat = path.stat()
    request = (load, path, stat.st_size, stat.st_mtime_ns, args, kwargs)
    if not _last or _last[0][0] != request:
        _last.clear()  # first: two networks may be more than memory holds
        checkpoint = Checkpoint.open(path)
        _last.append((request, (checkpoint, load(checkpoint, *args, **kwargs))))
    return _last[0][1]


def _fill_unsaved_buffers(module: torch.nn.Module, build: Callable[[], torch.nn.Module]) -> None:
    """Fill buffers that no checkpoint holds, such as position numbers, from a module that is built with memory."""
    empty = [name for name, buffer in module.named_buffers() if buffer.is_meta]
    filled = dict(build().named_buffers()) if empty else {}
    for name in empty:
        parent, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(parent), attribute, filled[name])


# --- files -----------------------------------------------------------------------------------------------------------


def weights_folder(weights: Path | None, model: str) -> Path:
    """Return the folder of a checkpoint; raise CheckpointError if none is given or it does not exist."""
    if weights is None:
        raise CheckpointError(f"{model} needs a checkpoint: set `weights` in its entry (by hand: --weights FOLDER)")
    if not weights.is_dir():
        raise CheckpointError(f"{weights}: no such folder; {model} needs the folder with its files")
    return weights


def find_file(folder: Path, *names: str) -> Path:
    """Return the file in `folder` that matches the first of `names` that any file matches.

    Args:
        names: file names, in order of preference. They may have wildcards.

    Raises:
        CheckpointError: no file matches, or several match the same name.
    """
    for name in names:
        matches = sorted(path for path in folder.glob(name) if path.is_file())
        if len(matches) > 1:
            raise CheckpointError(
                f"{folder}: several files match {name}: {', '.join(path.name for path in matches)}; remove all"
                " but one, or set the model's option that names the file, if it has one"
            )
        if matches:
            return matches[0]
    files = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) if folder.is_dir() else "nothing"
    raise CheckpointError(f"{folder}: no file {' or '.join(names)} (found: {files or 'nothing'})")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; raise CheckpointError if it is missing, damaged or holds something else."""
    with reading_file(path, "not readable as JSON"):
        value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: holds a value of type {type(value).__name__}, not a mapping")
    return value


def read_vocabulary(path: Path, special: str) -> dict[str, int]:
    """Return the ids by symbol of a vocabulary of scGPT; raise CheckpointError if it lacks the token `special`."""
    vocabulary = read_json(path)
    wrong = next((key for key, value in vocabulary.items() if type(value) is not int or not 0 <= value < 2**31), None)
    if wrong is not None or special not in vocabulary:
        fault = f"it lacks '{special}'" if wrong is None else f"it gives '{wrong}' the id {vocabulary[wrong]!r}"
        raise CheckpointError(f"{path}: not a vocabulary of scGPT ({fault})")
    return vocabulary


def read_pickled_dict(path: Path, values: type | tuple[type, ...]) -> dict[str, Any]:
    """Return a pickled {str: value} without executing the pickle: one that names a class or function is refused.

    numpy's scalars, which some dictionaries hold, become Python's numbers and strings.

    Args:
        values: the type or types of the values: int, float or str.

    Raises:
        CheckpointError: the file is missing, damaged, unsafe, or holds other keys or values.
    """
    with reading_file(path, "not readable as a pickled dictionary"), path.open("rb") as file:
        try:
            content = _plain_unpickler()(file).load()
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a dictionary")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, values) or isinstance(value, bool):
            kinds = " or ".join(kind.__name__ for kind in (values if isinstance(values, tuple) else (values,)))
            pair = f"{one_line(repr(key))[:40]} -> {type(value).__name__}"
            raise CheckpointError(f"{path}: holds {pair}, but keys must be str and values {kinds}")
    return content


def open_tensor(path: Path, ndim: int) -> torch.Tensor:
    """Return the single tensor that torch saved in a file, which must have `ndim` axes; it is read from disk when used."""
    import torch

    content = _load_torch(path)
    is_tensor = isinstance(content, torch.Tensor)
    if not is_tensor or content.ndim != ndim:
        kind = f"a tensor of shape {tuple(content.shape)}" if is_tensor else type(content).__name__
        raise CheckpointError(f"{path}: holds {kind}, not a tensor of {ndim} axes")
    _check_tensor(content, f"{path}: the tensor")
    return content


def _check_tensor(tensor: torch.Tensor, where: str) -> None:
    """Refuse a tensor that is a view of less than its shape: to compute with it takes memory that the file has not."""
    import torch

    plain = tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_quantized
    if not plain or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointError(
            f"{where} is not stored in full (shape {tuple(tensor.shape)}); save it as a contiguous tensor"
        )


def read_torch_dict(path: Path) -> dict[str, Any]:
    """Return the dict that torch saved in a file: tensors, plain values, arrays of text, and stand-ins for other objects.

    Some files hold data frames and settings beside their tensors. Objects of the usual libraries become an `Inert`, which
    does nothing. A file that names anything else that could execute code is refused.

    Raises:
        CheckpointError: the file is missing, damaged, unsafe, or does not hold a dict.
    """
    import torch

    with reading_file(path, NO_CHECKPOINT):
        named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    for name in named:
        if name not in INERT_NAMES and name.partition(".")[0] not in INERT_LIBRARIES:
            raise CheckpointError(f"{path}: refused, it names {name}, which could run code")
    with torch.serialization.safe_globals([(_stand_in(name), name) for name in named]):
        content = _load_torch(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a dict")
    return content


@contextmanager
def reading_file(path: Path, fault: str) -> Iterator[None]:
    """Read a file; raise CheckpointError where it is missing, or with `fault` whatever a library raises."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    with reading(f"{path}: {fault}", CheckpointError, f"; {REMEDY}"):
        yield


def _load_torch(path: Path) -> Any:
    from pickle import UnpicklingError
    from zipfile import is_zipfile

    import torch

    with reading_file(path, NO_CHECKPOINT):
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
        except UnpicklingError as error:  # its text advises to load the file unsafely
            name = re.search(r"GLOBAL ([\w.]+)", str(error))
            fault = f"refused, it names {name[1]}, which could run code" if name else f"{NO_CHECKPOINT}; {REMEDY}"
            raise CheckpointError(f"{path}: {fault}") from None


# --- pickles without globals -----------------------------------------------------------------------------------------


class _PlainType:
    """Stand-in for numpy.dtype in a pickle; refuses types other than plain numbers and text."""

    def __init__(self, code: str, *_: object) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"f[48]|i[248]|u[1248]|U\d{1,4}", code):
            raise CheckpointError(f"refused, it contains numpy values of type {one_line(repr(code))[:20]}")
        self.code = code

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or state[1:2] not in (("<",), ("|",)):
            raise CheckpointError("refused, it contains numpy values that are not plain little-endian numbers or text")


def _scalar(kind: _PlainType, raw: bytes) -> int | float | str:
    import numpy as np

    return np.frombuffer(raw, f"<{kind.code}", count=1)[0].item()


def _refuse_code(unpickler: Any) -> None:
    raise CheckpointError("refused, it contains sets")


def _plain_keys(load: Callable[[Any], None], is_single: bool) -> Callable[[Any], None]:
    """Return an instruction that fills a dictionary and refuses keys that are made of others, before one is hashed."""

    def checked(unpickler: Any) -> None:
        keys = unpickler.stack[-2:-1] if is_single else unpickler.stack[::2]
        if not all(isinstance(key, str | bytes | int | float | None) for key in keys):
            raise CheckpointError("refused, it contains keys that are no text")
        load(unpickler)

    return checked


def _plain_unpickler() -> type:
    from pickle import DICT, EMPTY_SET, FROZENSET, SETITEM, SETITEMS, _Unpickler

    safe = {f"numpy.{module}.multiarray scalar": _scalar for module in ("core", "_core")} | {"numpy dtype": _PlainType}

    class PlainUnpickler(_Unpickler):
        """Unpickler that refuses all classes and functions but the stand-ins for numpy's numbers and text.

        It is the one in Python: that in C gives as much memory as the file says, and both hash a key that is made of
        itself many times over for ever. So keys are text or numbers, and there are no sets.
        """

        dispatch: ClassVar = dict(_Unpickler.dispatch)

        def find_class(self, module: str, name: str) -> Any:
            if f"{module} {name}" not in safe:
                raise CheckpointError(f"refused, it names {module}.{name}, which could run code")
            return safe[f"{module} {name}"]

    for code in (EMPTY_SET, FROZENSET):
        PlainUnpickler.dispatch[code[0]] = _refuse_code
    for code in (SETITEM, SETITEMS, DICT):
        PlainUnpickler.dispatch[code[0]] = _plain_keys(_Unpickler.dispatch[code[0]], code == SETITEM)
    return PlainUnpickler


# --- files of torch that hold more than tensors ----------------------------------------------------------------------


class Inert:
    """Stand-in for an object of a library: it ignores its arguments and its state."""

    def __new__(cls, *_: object, **__: object) -> Inert:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class TextArray(Inert):
    """Stand-in for a numpy array.

    Attributes:
        items: the elements of an array of objects, without its shape; None for other arrays.
    """

    items: list[Any] | None = None

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) == 5 and isinstance(state[4], list):
            self.items = state[4]


def _stand_in(name: str) -> Callable[..., Any]:
    """Return the stand-in for a class or function that a file names."""
    if name.startswith("numpy.") and name.rpartition(".")[2] == "_reconstruct":
        return TextArray
    if name == "collections.defaultdict":
        return lambda *_: {}
    return Inert
