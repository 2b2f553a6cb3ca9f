"""The error class for users: its message states what was given, what was expected and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from types import MappingProxyType

from compoundnet.base import limits

_NO_NAMES: Mapping[str, str] = MappingProxyType({})


class CompoundNetError(ValueError):
    """Input of the user cannot be used. The command line prints it without a traceback.

    The middle of a message of more than `limits.MESSAGE_CHARACTERS` is left out: it names what a file holds, which may
    be a key of thousands of letters.
    """

    def __str__(self) -> str:
        message, kept = super().__str__(), limits.MESSAGE_CHARACTERS // 2
        if len(message) <= 2 * kept:
            return message
        return f"{message[:kept]} [{len(message) - 2 * kept:,} characters left out] {message[-kept:]}"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that there is not enough memory, of this machine or of a GPU; torch's are
    RuntimeErrors."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error message, or the error's type if the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def shortened(names: Collection[str], most: int) -> str:
    """Return the first names, for a message, and how many more there are."""
    shown = ", ".join(islice(names, most))
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def did_you_mean(given: str, known: Iterable[str], elsewhere: Mapping[str, str] = _NO_NAMES) -> str:
    """Return the end of an error message: the known names closest to `given`, or all of them if there are few.

    Args:
        given: The name that is not known.
        known: The known names.
        elsewhere: What other libraries call them: the known name of each such name, in lower case.
    """
    if given.lower() in elsewhere:
        return f"; did you mean {elsewhere[given.lower()]}?"
    names = sorted(known)
    likeness = {name: difflib.SequenceMatcher(None, given, name).ratio() for name in names}
    close = sorted((name for name in names if likeness[name] >= 0.5), key=lambda name: -likeness[name])[:3]
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; known: {', '.join(names)}" if len(names) <= 12 else ""
