"""Files that torch.save wrote, read without running anything that they hold.

Training programs store more than tensors in a checkpoint: their arguments, paths, dates, settings of the optimiser. The
objects of well-known classes that only hold data become `Record`s; the class itself is never imported. A file that
refers to anything else is refused before a single object is made.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from compoundnet.base import CompoundNetError
from compoundnet.models.weights_files import damaged

ZIP, PICKLE = b"PK\x03\x04", b"\x80"
_NAMED = 3  # how many classes an error names


class _DataClasses(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`data_classes.toml`."""

    records: frozenset[str]
    packages: tuple[str, ...]
    dictionaries: frozenset[str]
    lists: frozenset[str]


@cache
def _known() -> _DataClasses:
    text = resources.files("compoundnet.models").joinpath("data_classes.toml").read_bytes()
    return msgspec.toml.decode(text, type=_DataClasses)


class Record:
    """What a checkpoint holds of an object: the name of its class, and the values that the class would have received.

    Attributes:
        of: The full name of the class.
        arguments: The positional arguments of its constructor.
        values: The attributes that were stored.
    """

    of = ""

    def __new__(cls, *arguments: object, **_: object) -> Record:
        made = super().__new__(cls)
        made.arguments = arguments
        made.values = {}
        return made

    def __init__(self, *_: object, **__: object) -> None:
        self.arguments: tuple[object, ...]
        self.values: dict[str, object]

    def __setstate__(self, state: object) -> None:
        if isinstance(state, Mapping):
            self.values = {str(name): value for name, value in state.items()}
        else:
            self.values = {"state": state}


class _List(list[Any]):
    """Stands for a sequence type of the standard library."""

    def __init__(self, *_: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        """Ignore what is stored beside the items."""


class _Dictionary:
    """Stands for a subclass of dict: what is unpickled is a plain dictionary, whatever the arguments."""

    def __new__(cls, *_: object) -> Any:
        return OrderedDict()


def read_torch(path: Path) -> Any:
    """Read the content of a torch file, zipped or legacy: tensors on the CPU, builtin values and `Record`s.

    Raises:
        CompoundNetError: The file is damaged, or refers to functions or to classes that are not known as mere data.
    """
    names = _globals_of(path)
    stand_ins: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (_stand_in(name), name) for name in sorted(names) if _is_data(name)
    ]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
            warnings.simplefilter("ignore")  # warnings about pickle protocols; an unreadable file is an error below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from error
    except Exception as error:  # a truncated file can raise any exception inside torch
        raise damaged(path, error) from error


def array_of(value: object) -> np.ndarray | None:
    """Return the numpy array of floating-point or whole numbers that a `Record` describes; None for other values."""
    if not isinstance(value, Record) or not value.of.endswith(("multiarray._reconstruct", "numeric._frombuffer")):
        return None
    match value.values.get("state"):
        case (_, tuple(shape), Record(of="numpy.dtype", arguments=(str(kind), *_)) as dtype, bool(columns), bytes(raw)):
            order = dtype.values.get("state", ())
            little = not (isinstance(order, tuple) and len(order) > 1 and order[1] == ">")
            if not re.fullmatch(r"[fiu][1248]", kind) or not all(isinstance(side, int) for side in shape):
                return None
            try:
                found = np.frombuffer(raw, ("<" if little else ">") + kind)
            except (TypeError, ValueError):  # no such type, or not a whole number of values
                return None
            if found.size != int(np.prod(shape)):
                return None
            return found.astype(kind).reshape(shape, order="F" if columns else "C")
    return None


def _is_data(name: str) -> bool:
    """Whether a pickle may refer to this class: it is known, and stands for data alone."""
    known = _known()
    if name in known.records | known.dictionaries | known.lists:
        return True
    is_class = name.rpartition(".")[2][:1].isupper()
    return is_class and name.startswith(tuple(f"{package}." for package in known.packages))


def _stand_in(name: str) -> Any:
    if name in _known().dictionaries:
        return type("Dictionary", (_Dictionary,), {})
    if name in _known().lists:
        return type("List", (_List,), {})
    return type("Record", (Record,), {"of": name})


def _globals_of(path: Path) -> set[str]:
    """The full names of the functions and classes to which the pickles of a file refer; nothing is executed."""
    found: set[str] = set()
    try:
        for operation, argument in _operations(path):
            if operation in ("GLOBAL", "INST"):
                module, _, name = str(argument).partition(" ")
                found.add(f"{'builtins' if module == '__builtin__' else module}.{name}")
    except Exception:  # damage, such as a length of exabytes, can raise anything
        pass  # torch finds the same fault, and its error is reported
    return found


def _operations(path: Path) -> Iterator[tuple[str, object]]:
    """The operations of the pickles in a torch file: `data.pkl` of a zip, or the five of a legacy file (magic number,
    protocol, system, data, keys)."""
    with path.open("rb") as file:
        if file.peek(4)[:4] == ZIP:
            with zipfile.ZipFile(file) as archive:
                for entry in archive.namelist():
                    if entry.endswith("/data.pkl"):
                        with archive.open(entry) as member:
                            yield from _named(pickletools.genops(member))
            return
        for _ in range(5):
            if file.peek(1)[:1] == PICKLE:
                yield from _named(pickletools.genops(file))


def _named(operations: Iterable[tuple[Any, object, object]]) -> Iterator[tuple[str, object]]:
    return ((operation.name, argument) for operation, argument, _ in operations)


def _damage(path: Path) -> Exception | None:
    """The error at which reading the pickles of a torch file ends, if it does."""
    try:
        for _ in _operations(path):
            pass
    except Exception as error:  # damage can raise anything: a wrong checksum of a zip, a length of exabytes
        return error
    return None


def _refused(path: Path, error: pickle.UnpicklingError) -> CompoundNetError:
    # torch has several messages for it and no attribute; the name after GLOBAL is the function that the pickle would
    # call.
    names = _globals_of(path)
    fastai = sorted(name for name in names if name.startswith(("fastai.", "fastcore.")))
    if fastai:
        return CompoundNetError(
            f"{path} holds a learner of fastai's `export`, a pickle that wants to run {fastai[0]}; it was refused and"
            " nothing was run. Where you trust the file's author, save the weights alone there:"
            " torch.save(load_learner(FILE).model.state_dict(), ...)"
        )
    wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
    if wanted is None:
        what = "DTensors, the parts of a model that was trained sharded: gather the full state dict and save that"
        held = what if "DTensor" in str(error) else "something other than tensors, or it is damaged; nothing was read"
        return CompoundNetError(f"{path} holds {held}")
    if (found := _damage(path)) is not None:  # the match may be inside a harmless name
        return damaged(path, found)
    others = sorted(names - {wanted[1], f"builtins.{wanted[1]}"})
    others = [name for name in others if not name.startswith("torch.") and name not in _OF_TORCH and not _is_data(name)]
    also = f" (and {', '.join(others[:_NAMED])})" if others else ""
    return CompoundNetError(
        f"{path} is a pickle that wants to run {wanted[1]}{also}; it was refused and nothing was run. Weights alone "
        "need no code: where you trust the file's author, save them there with torch.save(model.state_dict(), ...) "
        "or as safetensors"
    )


# What torch itself allows besides tensors.
_OF_TORCH = frozenset({"collections.OrderedDict", "collections.Counter", "_codecs.encode", "builtins.set"})
