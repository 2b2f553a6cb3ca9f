"""Values in TOML files: read strictly, with the file and field in the message; written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TypeVar

import msgspec

from compoundnet.arch.errors import CompoundNetError

Value = TypeVar("Value")


def decode_toml(text: str | bytes, kind: type[Value], source: str) -> Value:
    """A value of TOML text. An unknown field, a wrong type, an impossible value: an error naming source and field."""
    try:
        return msgspec.toml.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CompoundNetError(f"{source}: {_readable(str(error))}") from error


def read_toml(path: str | os.PathLike[str], kind: type[Value]) -> Value:
    """A value of a TOML file."""
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise CompoundNetError(f"{path}: cannot be read: {error.strerror or error}") from error
    return decode_toml(text, kind, str(path))


def check_folder_of(path: str | os.PathLike[str]) -> None:
    """Raise where a file has no folder to go to: to be asked before the work whose result it is."""
    target = Path(path)
    if not target.parent.is_dir():
        raise CompoundNetError(f"{target}: there is no folder {target.parent}")


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file under a temporary name and rename it, so that an interruption leaves the old file or none."""
    target = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise CompoundNetError(f"{target}: cannot be written: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)  # mkstemp makes private files
        Path(temporary).replace(target)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise CompoundNetError(f"{target}: cannot be written: {error.strerror or error}") from error
        raise


def _readable(message: str) -> str:
    """msgspec's "Expected ... - at `$.stages[0].channels`" with the field first."""
    problem, _, path = message.rpartition(" - at `$")
    field = path.rstrip("`").lstrip(".")
    return f"field {field}: {problem}" if problem and field else problem or message
