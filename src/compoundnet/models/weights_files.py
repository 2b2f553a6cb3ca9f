"""Weights files of torch, read safely. Pickles that could run code are rejected, and damage is reported as such."""

from __future__ import annotations

import hashlib
import pickle
import re
import warnings
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compoundnet.base import CompoundNetError, whole_file, write_whole

if TYPE_CHECKING:
    from torch import Tensor

# The keys under which training programs store the weights in a checkpoint.
_CONTAINERS = ("state_dict", "model_state_dict", "model")
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def check_sha256(path: Path, expected: str, remedy: str) -> None:
    """Raise a CompoundNetError that ends in `remedy` if the content of the file is not the expected one."""
    found = sha256_of(path)
    if found != expected.lower():
        raise CompoundNetError(
            f"{path} is damaged or has been changed: its sha256 is {found}, and should be {expected.lower()}; {remedy}"
        )


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes in a safetensors file, which must be complete. Reads only the header, without
    torch."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415  exported files need none of it

    try:
        with safe_open(path, framework="np") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  # no mapping
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, on the CPU."""
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415  imports torch

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def write_state(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors whole or not at all: as `.safetensors`, or as `.pth` for torch.load.

    Raises:
        CompoundNetError: The path has another suffix, or cannot be written.
    """
    if path.suffix not in (".safetensors", ".pth"):
        raise CompoundNetError(f"{path}: weights of torch are written to a file that ends in .safetensors or .pth")
    import torch  # noqa: PLC0415  reading shapes and checksums, which others import this module for, does without
    from safetensors.torch import save  # noqa: PLC0415

    if path.suffix == ".pth":
        with whole_file(path) as written:
            torch.save(state, written)
    else:
        tensors = {name: tensor.contiguous() for name, tensor in state.items()}
        write_whole(path, save(tensors, metadata={"format": "pt"}))


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors or torch file (zip or legacy), distinguished by content.

    The entry `state_dict` or `model` of a checkpoint is used, and the prefix `module.` of DistributedDataParallel is
    removed. Raises CompoundNetError for a damaged file, a pickle that would run code, or one with other content.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise _unreadable(path, error) from error
    if start.startswith((_ZIP, _PICKLE)):
        return _plain(_unpickle(path), path)
    if start[8:9] == b"{":
        return read_safetensors(path)
    if start.startswith(b"\x89HDF"):
        raise CompoundNetError(f"{path} is an HDF5 file, as Keras writes them; the layout for it is keras")
    raise CompoundNetError(f"{path} is neither a safetensors nor a torch file, or it is damaged at its very start")


def _unpickle(path: Path) -> Any:
    import torch  # noqa: PLC0415  as above

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about pickle protocols; an unreadable file is an error below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch has several messages for it and no attribute; the name after GLOBAL is the function that the pickle
        # would call.
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        if wanted is None:
            raise CompoundNetError(
                f"{path} holds something other than tensors, or it is damaged; nothing was read"
            ) from error
        if _breaks_off(path):  # the match may be inside a harmless name
            raise _damaged(path, EOFError()) from error
        raise CompoundNetError(
            f"{path} is a pickle that wants to run {wanted[1]}; it was refused and nothing was run. Weights alone need "
            "no code: where you trust the file's author, save them there with torch.save(model.state_dict(), ...) "
            "or as safetensors"
        ) from error
    except Exception as error:  # a truncated file can raise any exception inside torch
        raise _damaged(path, error) from error


def _breaks_off(path: Path) -> bool:
    """Whether a legacy torch file ends inside one of its five pickles (magic number, protocol, system, data, keys)."""
    import pickletools  # noqa: PLC0415  only damaged files need it

    with path.open("rb") as file:
        try:
            for _ in range(5):
                if file.peek(1)[:1] == _PICKLE:
                    deque(pickletools.genops(file), maxlen=0)  # reads the operations without executing them
        except ValueError:
            return True
    return False


def _plain(content: Any, path: Path) -> dict[str, Tensor]:
    import torch  # noqa: PLC0415  as above

    for container in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(container), Mapping):
            content = content[container]
            break
    if not isinstance(content, Mapping) or not content:
        raise CompoundNetError(
            f"{path} holds {_described(content)}, not a dictionary of tensors by name (a state dict)"
        )
    others = [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise CompoundNetError(
            f"{path} holds other things than tensors: {', '.join(others[:5])}; expected a state dict"
        )
    prefix = "module." if all(str(name).startswith("module.") for name in content) else ""
    return {str(name).removeprefix(prefix): value for name, value in content.items()}


def _described(content: Any) -> str:
    return "an empty dictionary" if content == {} else f"a {type(content).__name__}"


def _damaged(path: Path, error: Exception) -> CompoundNetError:
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return _unreadable(path, error)
    reason = str(error).split(". ")[0].strip() or type(error).__name__
    return CompoundNetError(f"{path} is truncated or damaged: {reason}; get the file again")


def _unreadable(path: Path, error: OSError) -> CompoundNetError:
    return CompoundNetError(f"{path}: cannot be read: {error.strerror or error}")
