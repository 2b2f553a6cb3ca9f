"""The one error a person is meant to read: what was given, what was expected, what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CompoundNetError(ValueError):
    """Something the user gave cannot be used. The command line prints it without a traceback."""


def first_line(error: BaseException) -> str:
    """Of what an error of another library says, which may go on for pages; its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """The end of an error message that names the closest known names, or lists them all where there are few."""
    names = sorted(known)
    likeness = {name: difflib.SequenceMatcher(None, given, name).ratio() for name in names}
    close = sorted((name for name in names if likeness[name] >= 0.5), key=lambda name: -likeness[name])[:3]
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; known: {', '.join(names)}" if len(names) <= 12 else ""
