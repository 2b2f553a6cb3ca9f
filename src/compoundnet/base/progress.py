"""Progress reports of long work: two kinds of callbacks, with the same names everywhere."""

from __future__ import annotations

from collections.abc import Callable

# Called with the number of items that have just been finished.
Progress = Callable[[int], object]
# Called with one line of text for the user.
Notify = Callable[[str], object]


def ignore(_: object) -> None:
    """The default of both callbacks."""
