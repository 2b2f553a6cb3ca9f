"""Weights files: checksums, and safetensors, whose header is read without torch. Damage is reported as such."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from compoundnet.base import CompoundNetError, check_file, limits, write_whole

if TYPE_CHECKING:
    from torch import Tensor


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    check_file(path, limits.WEIGHTS_BYTES)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


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

    check_file(path, limits.WEIGHTS_BYTES)
    try:
        with safe_open(path, framework="np") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  # no mapping
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, on the CPU."""
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415  imports torch

    check_file(path, limits.WEIGHTS_BYTES)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from error


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
        content = io.BytesIO()  # torch's writer aborts the process if it cannot write to a file
        torch.save(state, content)
        write_whole(path, content.getvalue())
    else:
        tensors = {name: tensor.contiguous() for name, tensor in state.items()}
        write_whole(path, save(tensors, metadata={"format": "pt"}))


def damaged(path: Path, error: Exception) -> CompoundNetError:
    """The error for a file that breaks off, or that cannot be opened."""
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return unreadable(path, error)
    reason = str(error).split(". ")[0].strip() or type(error).__name__
    return CompoundNetError(f"{path} is truncated or damaged: {reason}; get the file again")


def unreadable(path: Path, error: OSError) -> CompoundNetError:
    """The error for a file that the operating system does not let us read."""
    return CompoundNetError(f"{path}: cannot be read: {error.strerror or error}")
