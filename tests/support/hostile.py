"""Hypothesis strategies for bytes from outside, and the limits that no reader may exceed on them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import strategies as st

from compoundnet.base import CompoundNetError

SECONDS, BYTES = 10.0, 1 << 30

# What formats give a meaning, and what programs get wrong.
_PIECES = st.sampled_from([
    b"", b"\0", b"\0" * 64, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\x80", b"-1", b"0", b"1e999", b"nan", b"9" * 500,
    b"[" * 60, b"{" * 60, b"(" * 60, b"a." * 60, b'"', b"'", b"\n", b"\r\n", b"\t", b",", b"=", b"\x1b[31m", b"../",
    b"/etc/passwd", b"\xed\xa0\x80", b"PK\x03\x04", b"\x80\x02c__builtin__\nprint\n",
])  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, original: bytes) -> bytes:
    """A document with a few edits: bytes changed, removed, repeated, or replaced by something with a meaning."""
    content = bytearray(original)
    for _ in range(draw(st.integers(1, 5))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        length = draw(st.sampled_from([0, 1, 1, 2, 4, 8, 40]))
        kind = draw(st.sampled_from(["flip", "remove", "repeat", "piece", "cut"]))
        if kind == "flip" and content:
            content[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "remove":
            del content[place : place + length]
        elif kind == "repeat":
            content[place:place] = content[place : place + length] * draw(st.sampled_from([1, 2, 100]))
        elif kind == "piece":
            content[place : place + length] = draw(_PIECES)
        elif draw(st.integers(0, 9)) == 0:
            del content[place:]
    return bytes(content)


def _peak() -> int:
    """The most memory that this process has had, in bytes; 0 where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))


@contextmanager
def bounded() -> Iterator[None]:
    """Fail if the block takes too long or too much memory, or raises anything but a CompoundNetError of one line."""
    before, start = _peak(), time.monotonic()
    try:
        yield
    except CompoundNetError as error:
        assert str(error).strip(), "an empty message"
        assert len(str(error)) < 5000, "a message that nobody reads"
    assert time.monotonic() - start < SECONDS
    assert _peak() - before < BYTES
