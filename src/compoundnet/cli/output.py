"""The output of all commands: results on stdout, notes and progress on stderr."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from rich.table import Table


# All but tab and line feed; file names are text with surrogates in place of bytes that are no UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# The exit code of work that was stopped on request and can be resumed: neither done nor failed.
STOPPED = 3
# The exit code of a start that nobody confirmed.
UNCONFIRMED = 2


def print_json(value: Any) -> None:
    """One JSON document on stdout. Structs are written field by field."""
    print(json.dumps(msgspec.to_builtins(value), indent=2))


def table(*columns: str, title: str | None = None) -> Table:
    """A plain table whose columns from the second on are right-aligned where the name starts with `>`."""
    from rich import box  # noqa: PLC0415  JSON is printed without waiting for rich
    from rich.table import Table  # noqa: PLC0415

    class PrintableTable(Table):
        """A table whose cells hold no control characters."""

        def add_row(self, *cells: Any, **options: Any) -> None:
            super().add_row(*(printable(cell) if isinstance(cell, str) else cell for cell in cells), **options)

    made = PrintableTable(
        box=box.SIMPLE_HEAD,
        title=printable(title) if title is not None else None,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
    )
    for column in columns:
        made.add_column(printable(column.removeprefix(">")), justify="right" if column.startswith(">") else "left")
    return made


def show(*parts: Any) -> None:
    """Print text or tables on stdout, at full width if stdout is not a terminal."""
    from rich.console import Console  # noqa: PLC0415  as above

    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, emoji=False, markup=False)
    for part in parts:
        console.print(printable(part) if isinstance(part, str) else part, soft_wrap=isinstance(part, str))


def note(text: str) -> None:
    """A remark on stderr."""
    print(printable(text), file=sys.stderr)


def printable(text: str) -> str:
    """Return text without what file names can hold besides letters: control characters, those that turn the direction
    of what follows, and bytes that are no UTF-8."""
    return _UNPRINTABLE.sub("\ufffd", text)
