"""How long work reports to whoever waits for it: callbacks of two kinds, spelled the same everywhere."""

from __future__ import annotations

from collections.abc import Callable

# Called with the number of items that have just been finished.
Progress = Callable[[int], object]
# Called with one line of text that a person should read now.
Notify = Callable[[str], object]


def ignore(_: object) -> None:
    """The default of both callbacks."""
