"""JSON of structs, and of what went wrong."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response


def document(value: Any, status: int = 200) -> Response:
    """A value, structs field by field, as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def problem(message: str, status: int) -> Response:
    """`{"error": message}`, the message written for the person before the page."""
    return document({"error": message}, status)
