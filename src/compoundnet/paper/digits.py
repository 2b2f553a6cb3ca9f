"""Printed numbers (`0.39B`, `4.9x`, `77.1%`), compared with measured ones digit by digit."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

_UNITS = {
    "": Decimal(1),
    "x": Decimal(1),
    "s": Decimal(1),
    "%": Decimal("0.01"),
    "M": Decimal(10**6),
    "B": Decimal(10**9),
}
_NUMBER = re.compile(r"([0-9][0-9,]*)(\.[0-9]+)?([xs%MB]?)")


class Digits(NamedTuple):
    """A printed number: `0.39B` is value 0.39, 2 decimals, unit B."""

    value: Decimal
    decimals: int
    unit: str

    @property
    def amount(self) -> float:
        """The number in ones: `0.39B` is 390 million, `77.1%` is 0.771."""
        return float(self.value * _UNITS[self.unit])


def parse(text: str) -> Digits | None:
    """Parse a printed number; None for other text, such as an operator or `224x224`."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    whole, fraction, unit = match[1].replace(",", ""), match[2] or "", match[3]
    return Digits(Decimal(whole + fraction), max(0, len(fraction) - 1), unit)


def agrees(printed: str, measured: float | str) -> bool:
    """Return whether the measured number, rounded to the printed digits, is the printed one. Text must be equal."""
    digits = parse(printed)
    if digits is None or isinstance(measured, str):
        return printed == measured
    return _rounded(measured, digits.unit, digits.decimals) == digits.value


def written_like(printed: str, measured: float | str) -> str:
    """Write the measured number in the printed one's unit with one digit more; counts without a unit in full."""
    digits = parse(printed)
    if digits is None or isinstance(measured, str):
        return str(measured)
    decimals = digits.decimals + 1 if digits.unit else digits.decimals
    separator = "," if "," in printed else ""
    return f"{_rounded(measured, digits.unit, decimals):{separator}}{digits.unit}"


def _rounded(amount: float, unit: str, decimals: int) -> Decimal:
    # From the shortest decimal form, so that 0.7705 rounds up although its binary value is slightly smaller.
    return (Decimal(str(amount)) / _UNITS[unit]).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
