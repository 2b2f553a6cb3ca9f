"""Parsing and formatting of quantities: `1.8G` multiply-adds, `12M` parameters, `200MB` of memory, `30ms`."""

from __future__ import annotations

import math
import re

from compoundnet.base.errors import CompoundNetError

_FACTORS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
_BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_PATTERN = re.compile(r"([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-z]*)", re.IGNORECASE)


def parse_count(text: str) -> float:
    """`1.8G`, `1.8B`, `390M`, `5e8` as a number. Raises CompoundNetError for anything else, zero included."""
    return _parse(text, _FACTORS, "a number such as 390M, 1.8G or 4e8")


def parse_bytes(text: str) -> float:
    """`200MB` (a million bytes each), `200MiB` (2^20), `2G` as bytes."""
    units = {suffix + end: factor for suffix, factor in (_FACTORS | _BINARY).items() for end in ("", "b")}
    return _parse(text, units | {"b": 1}, "a size such as 200MB, 1.5GB or 512MiB")


def parse_duration(text: str) -> float:
    """`30ms`, `0.5s`, `800us`, `5min`, `2h` as milliseconds."""
    return _parse(text, {"us": 1e-3, "ms": 1, "s": 1e3, "min": 60e3, "h": 3600e3}, "a time such as 30ms or 0.5s")


def format_duration(seconds: float) -> str:
    """Return a duration in words, such as `3 min 20 s`."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _parse(text: str, factors: dict[str, float], expected: str) -> float:
    match = _PATTERN.fullmatch(text.strip())
    value = float(match[1]) * factors.get(match[2].lower(), math.nan) if match else math.nan
    if not (math.isfinite(value) and value > 0):
        raise CompoundNetError(f"{text!r} is not {expected}")
    return value


def format_count(value: float) -> str:
    """Three significant digits with k, M, B or T: 5288548 is `5.29M`."""
    for factor, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= factor * 0.9995:
            return f"{_three_digits(value / factor)}{suffix}"
    return f"{value:g}"


def format_bytes(value: float) -> str:
    """Three significant digits with kB, MB or GB (powers of ten)."""
    for factor, suffix in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= factor * 0.9995:
            return f"{_three_digits(value / factor)} {suffix}"
    return f"{value:g} B"


def _three_digits(value: float) -> str:
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{decimals}f}"
