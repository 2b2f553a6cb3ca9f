"""Values in TOML files, read strictly: an error names the file and the field."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import msgspec

from compoundnet.base.errors import CompoundNetError

Value = TypeVar("Value")


def decode_toml(text: str | bytes, kind: type[Value], source: str) -> Value:
    """Decode TOML text as a value of type `kind`.

    Args:
        text: the TOML document.
        kind: a msgspec type.
        source: what error messages call the document.

    Raises:
        CompoundNetError: an unknown field, a wrong type or an impossible value; the message names source and field.
    """
    try:
        return msgspec.toml.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CompoundNetError(f"{source}: {_readable(str(error))}") from error


def read_toml(path: str | os.PathLike[str], kind: type[Value]) -> Value:
    """Read a TOML file as a value of type `kind`; errors as `decode_toml`'s, and for a file that cannot be read."""
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise CompoundNetError(f"{path}: cannot be read: {error.strerror or error}") from error
    return decode_toml(text, kind, str(path))


def _readable(message: str) -> str:
    """Put the field first in msgspec's "Expected ... - at `$.stages[0].channels`"."""
    problem, _, path = message.rpartition(" - at `$")
    field = path.rstrip("`").lstrip(".")
    return f"field {field}: {problem}" if problem and field else problem or message
