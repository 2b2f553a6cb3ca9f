"""Values: checks of their fields, and structs as plain values."""

from __future__ import annotations

from typing import Any

import msgspec

from compoundnet.base.errors import CompoundNetError


def check(condition: bool, message: str) -> None:
    """Raise CompoundNetError where a field has an impossible value.

    For `__post_init__` of structs: while a struct is read from TOML, msgspec adds the field's path to the message.
    """
    if not condition:
        raise CompoundNetError(message)


def plain_values(value: Any) -> Any:
    """Return a struct as nested dicts and lists with every field by name; equal structs give equal results.

    `msgspec.to_builtins` leaves out defaults, which it recognises by object identity: a default that was read from a
    file stays in, so equal networks could be encoded differently.
    """
    if isinstance(value, msgspec.Struct):
        fields = {name: plain_values(getattr(value, name)) for name in value.__struct_fields__}
        tag = value.__struct_config__.tag
        return fields if tag is None else fields | {"kind": tag}
    return [plain_values(item) for item in value] if isinstance(value, tuple) else value
