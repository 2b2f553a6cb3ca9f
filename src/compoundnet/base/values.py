"""Values: read strictly from TOML files, checked field by field, and converted to plain dicts and lists."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from compoundnet.base.errors import CompoundNetError
from compoundnet.base.files import write_whole

Value = TypeVar("Value")


def decode_toml(text: str | bytes, kind: type[Value], source: str) -> Value:
    """Decode TOML text as a value of type `kind`.

    Args:
        text: The TOML document.
        kind: A msgspec type.
        source: The name of the document in error messages.

    Raises:
        CompoundNetError: an unknown field, a wrong type or an impossible value; the message names source and field.
    """
    try:
        return msgspec.toml.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CompoundNetError(f"{source}: {_readable(str(error))}") from error


def read_toml(path: str | os.PathLike[str], kind: type[Value]) -> Value:
    """Read a TOML file as a value of type `kind`; errors as in `decode_toml`, and for a file that cannot be read."""
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise CompoundNetError(f"{path}: cannot be read: {error.strerror or error}") from error
    return decode_toml(text, kind, str(path))


class TomlStruct(msgspec.Struct, frozen=True):
    """The base of values that are TOML files: read strictly, and written so that they are read back equal."""

    @classmethod
    def loads(cls, text: str | bytes, source: str = "<text>") -> Self:
        """Read a value from TOML text.

        Args:
            text: The document.
            source: The name of the document in error messages.

        Raises:
            CompoundNetError: An unknown field, a wrong type or an impossible value; the message names the field.
        """
        return decode_toml(text, cls, source)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a TOML file; errors as those of `loads`, and for a file that cannot be read."""
        return read_toml(path, cls)

    def dumps(self) -> str:
        """Return this as TOML, which `loads` reads back to an equal value."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return msgspec.toml.encode({name: value for name, value in fields.items() if value is not None}).decode()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the TOML file whole or not at all."""
        write_whole(path, self.dumps().encode())


def check(condition: bool, message: str) -> None:
    """Raise CompoundNetError if a field has an impossible value.

    For `__post_init__` of structs: while a struct is read from TOML, msgspec adds the field's path to the message.
    """
    if not condition:
        raise CompoundNetError(message)


def plain_values(value: Any) -> Any:
    """Return a struct as nested dicts and lists with every field by name; equal structs give equal results.

    `msgspec.to_builtins` omits defaults, which it recognises by object identity: a default that was read from a file is
    included, so equal networks could be encoded differently.
    """
    if isinstance(value, msgspec.Struct):
        fields = {name: plain_values(getattr(value, name)) for name in value.__struct_fields__}
        tag = value.__struct_config__.tag
        return fields if tag is None else fields | {"kind": tag}
    return [plain_values(item) for item in value] if isinstance(value, tuple) else value


def _readable(message: str) -> str:
    """Put the field first in msgspec's "Expected ... - at `$.stages[0].channels`"."""
    problem, _, path = message.rpartition(" - at `$")
    field = path.rstrip("`").lstrip(".")
    return f"field {field}: {problem}" if problem and field else problem or message
