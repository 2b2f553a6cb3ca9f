"""Text files as people save them: in UTF-8, UTF-16 or UTF-32, with or without a byte-order mark, or in Latin-1."""

from __future__ import annotations

import codecs
from pathlib import Path

from compoundnet.base import limits
from compoundnet.base.errors import CompoundNetError
from compoundnet.base.inputs import read_file

# Longer marks first: that of UTF-32 starts with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_START = 4096  # bytes that decide whether it is text
LATIN_1 = "Latin-1"


def decode_text(content: bytes) -> tuple[str, str]:
    """Decode text.

    Args:
        content: The bytes of a file.

    Returns:
        The text without byte-order marks, and the name of its encoding. `LATIN_1` is a guess: the bytes are not UTF-8.

    Raises:
        ValueError: it is not text; the message says what it is, if that is known.
    """
    if content.startswith(b"PK\x03\x04"):
        raise ValueError("is an Excel file or an archive, not text; save it as CSV")
    for mark, codec, name in _MARKS:
        if content.startswith(mark):
            try:
                return content.decode(codec).replace("\ufeff", ""), name
            except UnicodeDecodeError as error:
                if name == "UTF-8":
                    break
                raise ValueError(f"starts like {name} text, but is not: {error.reason}") from error
    start = content[:_START]
    for codec, zeros in (("utf-16-le", start[1::2]), ("utf-16-be", start[::2])):
        if zeros.count(0) > 0.5 * len(zeros):
            try:
                return content.decode(codec), "UTF-16"
            except UnicodeDecodeError as error:
                raise ValueError("is not text") from error
    if 0 in start:
        raise ValueError("is not text")
    try:
        return content.decode("utf-8").replace("\ufeff", ""), "UTF-8"
    except UnicodeDecodeError:
        # Windows' form of Latin-1 has letters and quotes in place of control characters; some bytes are neither.
        try:
            return content.decode("cp1252"), LATIN_1
        except UnicodeDecodeError:
            return content.decode("latin-1"), LATIN_1


def read_text(path: Path, limit: int = limits.METADATA_BYTES) -> tuple[str, str]:
    """Read a text file of at most `limit` bytes, as `decode_text` decodes it.

    Raises:
        CompoundNetError: The file cannot be read, is larger, or is not text.
    """
    content = read_file(path, limit)
    try:
        return decode_text(content)
    except ValueError as error:
        raise CompoundNetError(f"{path}: {error}") from error
