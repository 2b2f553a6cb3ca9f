"""A struct as plain values, the same for equal structs."""

from __future__ import annotations

from typing import Any

import msgspec


def plain_values(value: Any) -> Any:
    """Every field by name. msgspec.to_builtins leaves defaults out, which it knows by object identity: a default that
    was read from a file stays in, so that equal networks may be encoded differently."""
    if isinstance(value, msgspec.Struct):
        fields = {name: plain_values(getattr(value, name)) for name in value.__struct_fields__}
        tag = value.__struct_config__.tag
        return fields if tag is None else fields | {"kind": tag}
    return [plain_values(item) for item in value] if isinstance(value, tuple) else value
