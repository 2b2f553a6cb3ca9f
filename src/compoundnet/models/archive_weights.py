"""The weights in a torch.export archive (.pt2), read without torch.export, which runs code that a file holds.

`torch.export.load` unpickles example inputs and weights, evaluates the expressions of dynamic sizes, and loads compiled
libraries. Nothing of this is needed: the metadata state the network, which is built from its description; of the
archive only the plain numbers of the weights are read. Its graph is for torch alone, and is never run here.
"""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from compoundnet.base import CompoundNetError, limits
from compoundnet.models.tensors import Shape, check_shapes
from compoundnet.models.torch_files import ZIP
from compoundnet.models.weights_files import damaged
from compoundnet.models.zip_files import ZIP_ERRORS, check_unpacked, entry_named, read_entry

_CONFIG = "data/weights/model_weights_config.json"
# Weights as older versions of torch store them: a pickle, of which torch reads tensors only.
_PICKLED = ("data/weights/model.pt", "serialized_state_dict.pt")
# torch._export.serde.schema.ScalarType
_TYPES = {6: torch.float16, 7: torch.float32}


class _Number(msgspec.Struct, frozen=True):
    as_int: int


class _Meta(msgspec.Struct, frozen=True):
    """The part of torch.export's `TensorMeta` that plain weights need."""

    dtype: int
    sizes: list[_Number]
    strides: list[_Number]
    storage_offset: _Number


class _Payload(msgspec.Struct, frozen=True):
    path_name: str
    use_pickle: bool
    tensor_meta: _Meta | None = None


class _Config(msgspec.Struct, frozen=True):
    config: dict[str, _Payload]


def read_archive_weights(file: Path, expected: Mapping[str, Shape]) -> dict[str, Tensor]:
    """Read the weights of an archive that `compoundnet export --format torch` wrote.

    Args:
        file: The archive.
        expected: The names and shapes of the tensors that the network needs.

    Raises:
        CompoundNetError: The archive is damaged, its weights are pickled or belong to another network.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            return _read(archive, file, expected)
    except (*ZIP_ERRORS, msgspec.DecodeError) as error:
        raise damaged(file, error) from error


def _read(archive: zipfile.ZipFile, file: Path, expected: Mapping[str, Shape]) -> dict[str, Tensor]:
    wrong = f"{file}: these are not the weights of its network"
    found = entry_named(archive, _CONFIG)
    if found is None:
        state = _unpickled(archive, file)
        check_shapes({name: tuple(tensor.shape) for name, tensor in state.items()}, expected, wrong)
        return state
    config = msgspec.json.decode(read_entry(archive, found, limits.METADATA_BYTES, file), type=_Config).config
    shapes = {name: _shape(payload, name, file) for name, payload in config.items()}
    check_shapes(shapes, expected, wrong)
    folder = found.filename.removesuffix(_CONFIG.rpartition("/")[2])
    stored = {entry.filename: entry for entry in archive.infolist()}
    entries = {name: stored.get(folder + payload.path_name) for name, payload in config.items()}
    check_unpacked(filter(None, entries.values()), file.stat().st_size, file)
    return {name: _tensor(archive, entries[name], payload, name, file) for name, payload in config.items()}


def _shape(payload: _Payload, name: str, file: Path) -> Shape:
    if payload.use_pickle or payload.tensor_meta is None:
        raise CompoundNetError(
            f"{file}: the weight {name} is a pickle, which may run code; it was refused and nothing was run."
            " `compoundnet export --format torch` writes weights as plain numbers"
        )
    return tuple(number.as_int for number in payload.tensor_meta.sizes)


def _tensor(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo | None, payload: _Payload, name: str, file: Path
) -> Tensor:
    meta = payload.tensor_meta
    assert meta is not None
    kind = _TYPES.get(meta.dtype)
    if kind is None or entry is None:
        problem = "is neither float16 nor float32" if entry is not None else f"lacks its entry {payload.path_name}"
        raise CompoundNetError(f"{file} is damaged: the weight {name} {problem}")
    sizes, strides = ([number.as_int for number in numbers] for numbers in (meta.sizes, meta.strides))
    offset = meta.storage_offset.as_int
    # The shape is that of the network, so the size of the entry is known before it is read.
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=False))
    count = entry.file_size // kind.itemsize
    if len(sizes) != len(strides) or min([offset, *strides]) < 0 or last >= count:
        raise CompoundNetError(f"{file} is damaged: the weight {name} reaches beyond its entry {payload.path_name}")
    content = bytearray(read_entry(archive, entry, limits.WEIGHTS_BYTES, file))
    return torch.frombuffer(content, dtype=kind, count=count).as_strided(sizes, strides, offset).contiguous()


def _unpickled(archive: zipfile.ZipFile, file: Path) -> dict[str, Tensor]:
    entry = next((found for name in _PICKLED if (found := entry_named(archive, name)) is not None), None)
    if entry is None:
        raise CompoundNetError(f"{file} holds no weights; it is damaged, or torch.export did not write it")
    check_unpacked([entry], file.stat().st_size, file)
    content = io.BytesIO(read_entry(archive, entry, limits.WEIGHTS_BYTES, file))
    if content.getvalue().startswith(ZIP):
        with zipfile.ZipFile(content) as inner:
            check_unpacked(inner.infolist(), entry.file_size, file)
        content.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about pickle protocols
            state: Any = torch.load(content, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CompoundNetError(
            f"{file}: its weights are a pickle that wants more than tensors; it was refused and nothing was run"
        ) from error
    except Exception as error:  # a truncated file can raise any exception inside torch
        raise damaged(file, error) from error
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise CompoundNetError(f"{file}: its weights are not tensors by name")
    return {str(name): tensor.detach() for name, tensor in state.items()}
