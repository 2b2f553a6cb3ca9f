"""The output of all commands: results on stdout, notes and progress on stderr."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from rich.table import Table


# The exit code of work that was stopped on request and can be resumed: neither done nor failed.
STOPPED = 3


def print_json(value: Any) -> None:
    """One JSON document on stdout. Structs are written field by field."""
    print(json.dumps(msgspec.to_builtins(value), indent=2))


def table(*columns: str, title: str | None = None) -> Table:
    """A plain table whose columns from the second on are right-aligned where the name starts with `>`."""
    from rich import box  # noqa: PLC0415  JSON is printed without waiting for rich
    from rich.table import Table  # noqa: PLC0415

    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return made


def show(*parts: Any) -> None:
    """Print text or tables on stdout, at full width if stdout is not a terminal."""
    from rich.console import Console  # noqa: PLC0415  as above

    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, emoji=False, markup=False)
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str))


def note(text: str) -> None:
    """A remark on stderr."""
    print(text, file=sys.stderr)
