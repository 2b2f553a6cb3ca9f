"""Printed figures: parsing, and agreement to the printed digits."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compoundnet.paper.digits import Digits, agrees, parse, written_like


@pytest.mark.parametrize(
    ("printed", "measured", "agreed", "shown"),
    [
        ("0.39B", 385_814_752, True, "0.386B"),
        ("0.70B", 686_802_832, False, "0.687B"),
        ("26M", 25_557_032, True, "25.6M"),
        ("11B", 11_513_561_064, False, "11.5B"),
        ("8.4x", 8.3993, True, "8.40x"),
        ("1x", 1.0, True, "1.0x"),
        ("77.1%", 0.7705, True, "77.05%"),  # half rounds up, whatever its binary value
        ("77.1%", 0.77049, False, "77.05%"),
        ("50,000", 50_000, True, "50,000"),
        ("3,369", 3_669, False, "3,669"),
        ("1280", 1280, True, "1280"),
        ("MBConv6, k3x3", "MBConv6, k3x3", True, "MBConv6, k3x3"),
        ("224x224", "112x112", False, "112x112"),
        ("0.098s", 0.0984, True, "0.0984s"),
    ],
)
def test_agreement_is_to_the_printed_digits(printed: str, measured: float | str, agreed: bool, shown: str) -> None:
    assert agrees(printed, measured) is agreed
    assert written_like(printed, measured) == shown


def test_numbers_and_text_are_told_apart() -> None:
    assert parse("0.39B") == Digits(Decimal("0.39"), 2, "B")
    assert parse("50,000") == Digits(Decimal(50_000), 0, "")
    assert parse("224x224") is None
    assert parse("MBConv1, k3x3") is None
    assert parse("0.39B").amount == 390_000_000  # type: ignore[union-attr]  # a number, as above


@given(st.integers(1, 10**12), st.integers(0, 3), st.sampled_from(["M", "B", "x", "%", ""]))
def test_a_figure_agrees_with_itself_as_printed(digits: int, decimals: int, unit: str) -> None:
    text = f"{Decimal(digits).scaleb(-decimals):f}{unit}"
    number = parse(text)
    assert number is not None
    assert agrees(text, number.amount)
