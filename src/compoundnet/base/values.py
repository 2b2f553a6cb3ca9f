"""Values: read strictly from TOML files, checked field by field, and converted to plain dicts and lists."""

from __future__ import annotations

import os
import re
from typing import Any, Self, TypeVar

import msgspec

from compoundnet.base import limits
from compoundnet.base.errors import CompoundNetError, did_you_mean
from compoundnet.base.files import write_whole
from compoundnet.base.inputs import read_file
from compoundnet.base.table_files import utf8
from compoundnet.base.units import format_bytes

Value = TypeVar("Value")

# TOML's strings and comments, in which brackets, dots and digits mean nothing. A string that is not closed ends with
# the line or the document, so that each character is read once: the parser refuses it.
_TEXT = re.compile(
    r'''"""(?:\\.|[^\\])*?(?:"""|\\?\Z)|'{3}.*?(?:'{3}|\Z)|"(?:\\.|[^"\\\n])*"?|'[^'\n]*'?|\#[^\n]*''', re.DOTALL
)
_NUMBER = re.compile(rf"[0-9a-fA-F_]{{{limits.NUMBER_DIGITS},}}")
_KEY = re.compile(r"[\w. \t-]+")


def decode_toml(text: str | bytes, kind: type[Value], source: str) -> Value:
    """Decode TOML text as a value of type `kind`.

    Args:
        text: The TOML document.
        kind: A msgspec type.
        source: The name of the document in error messages.

    Raises:
        CompoundNetError: an unknown field, a wrong type, an impossible value, or a document that would take far more
            memory than its own size; the message names source and field.
    """
    try:
        check_nesting(text if isinstance(text, str) else text.decode(), source)
        return msgspec.toml.decode(text, type=kind)
    except CompoundNetError:
        raise
    except (ValueError, RecursionError) as error:  # msgspec's, tomllib's, and Python's for a number of too many digits
        raise CompoundNetError(f"{source}: {readable_error(error, kind)}") from error


def read_toml(path: str | os.PathLike[str], kind: type[Value]) -> Value:
    """Read a TOML file as a value of type `kind`; errors as in `decode_toml`, and for a file that cannot be read."""
    return decode_toml(read_file(path, limits.TOML_BYTES), kind, str(path))


def check_nesting(text: str, source: str) -> None:
    """Raise a CompoundNetError if a TOML document is nested deeper, or has longer numbers, than any that is meant.

    Parsers need memory that grows with the square of the parts of a dotted key, and a call for each bracket.
    """
    plain = _TEXT.sub("a", text)
    if _NUMBER.search(plain):
        raise CompoundNetError(f"{source}: holds a number of more than {limits.NUMBER_DIGITS} digits")
    depth = 0
    for bracket in re.finditer(r"[\[\]{}]", plain):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > limits.TOML_DEPTH:
            raise CompoundNetError(f"{source}: its brackets are nested more than {limits.TOML_DEPTH} deep")
    if any(key[0].count(".") >= limits.TOML_DEPTH for key in _KEY.finditer(plain)):
        raise CompoundNetError(f"{source}: a key has more than {limits.TOML_DEPTH} parts")


class TomlStruct(msgspec.Struct, frozen=True):
    """The base of values that are TOML files: read strictly, and written so that they are read back equal."""

    @classmethod
    def loads(cls, text: str | bytes, source: str = "<text>") -> Self:
        """Read a value from TOML text.

        Args:
            text: The document.
            source: The name of the document in error messages.

        Raises:
            CompoundNetError: An unknown field, a wrong type or an impossible value, and the message names the field; or
                the text is longer than `limits.TOML_BYTES`.
        """
        if len(text) > limits.TOML_BYTES:  # tables take hundreds of bytes each, also empty ones
            raise CompoundNetError(f"{source}: is larger than {format_bytes(limits.TOML_BYTES)}, the limit")
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


def json_document(value: Any) -> bytes:
    """Return a value as an indented JSON document in UTF-8, structs field by field.

    Bytes in the names of files and classes that are not UTF-8 are written as `\\xNN`.
    """
    try:
        encoded = msgspec.json.encode(value)
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(_in_utf8(msgspec.to_builtins(value)))
    return msgspec.json.format(encoded, indent=2) + b"\n"


def _in_utf8(value: Any) -> Any:
    if isinstance(value, str):
        return utf8(value)
    if isinstance(value, dict):
        return {_in_utf8(name): _in_utf8(item) for name, item in value.items()}
    return [_in_utf8(item) for item in value] if isinstance(value, list | tuple) else value


def readable_error(error: Exception, kind: Any) -> str:
    """Put the field first in msgspec's "Invalid enum value 'x' - at `$.stages[0].skip`", and last what it could be.

    Args:
        error: What msgspec raised when it made a value of type `kind`.
        kind: A msgspec type.
    """
    message = str(error)
    problem, _, path = message.rpartition(" - at `$")
    field = path.rstrip("`")
    if not problem or not field:
        return problem or message
    given = re.fullmatch("Invalid (?:enum )?value '(.*)'", problem, re.DOTALL)
    known = did_you_mean(given[1], _words(kind, field)) if given else ""
    return f"field {field.lstrip('.')}: {problem}{known}"


def _words(kind: Any, path: str) -> set[str]:
    """Return what a field of words may hold, by its path in msgspec's messages, such as `.stages[0].skip`."""
    found = _alternatives([msgspec.inspect.type_info(kind)])
    for part in re.findall(r"\.(\w+)|\[", path):
        found = _alternatives([inner for one in found for inner in _inside(one, part)])
    words = {str(value) for one in found if isinstance(one, msgspec.inspect.LiteralType) for value in one.values}
    numbers = any(isinstance(one, msgspec.inspect.IntType | msgspec.inspect.FloatType) for one in found)
    return words | {"a number"} if numbers else words


def _alternatives(types: list[msgspec.inspect.Type]) -> list[msgspec.inspect.Type]:
    return [inner for one in types for inner in (one.types if isinstance(one, msgspec.inspect.UnionType) else (one,))]


def _inside(one: msgspec.inspect.Type, field: str) -> list[msgspec.inspect.Type]:
    """Return the types of a field of a struct, or for "" of the items of a list or table."""
    if isinstance(one, msgspec.inspect.StructType):
        if one.tag is not None and field == one.tag_field:
            return [msgspec.inspect.LiteralType((one.tag,))]
        return [own.type for own in one.fields if own.encode_name == field]
    inner = [getattr(one, name, None) for name in ("item_type", "value_type")]
    return [*(found for found in inner if found), *getattr(one, "item_types", ())]
