"""The one error a person is meant to read: what was given, what was expected, what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CompoundNetError(ValueError):
    """Something the user gave cannot be used. The command line prints it without a traceback."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """The end of an error message that names the closest known names, or lists them all where there are few."""
    names = sorted(known)
    close = difflib.get_close_matches(given, names, n=3, cutoff=0.5)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; known: {', '.join(names)}" if len(names) <= 12 else ""
