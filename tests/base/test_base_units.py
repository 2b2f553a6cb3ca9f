"""Quantities as people write them."""

import pytest

from compoundnet.base import CompoundNetError, format_bytes, format_count, parse_bytes, parse_count, parse_duration


@pytest.mark.parametrize(
    ("text", "value"), [("1.8G", 1.8e9), ("1.8B", 1.8e9), ("390m", 390e6), ("5e8", 5e8), (" 12 M", 12e6), (".5G", 5e8)]
)
def test_counts(text: str, value: float) -> None:
    assert parse_count(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("200MB", 2e8), ("200MiB", 200 * 2**20), ("1.5 GB", 1.5e9), ("2G", 2e9), ("100B", 100)]
)
def test_bytes(text: str, value: float) -> None:
    assert parse_bytes(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("30ms", 30), ("0.5s", 500), ("1.5 S", 1500), ("800us", 0.8), ("5 min", 300e3), ("2h", 7.2e6)]
)
def test_durations_are_in_milliseconds(text: str, value: float) -> None:
    assert parse_duration(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["30", "ms", "0ms", "-1s", "30 minutes"])
def test_not_a_duration(text: str) -> None:
    with pytest.raises(CompoundNetError, match="is not a time such as"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "G", "1.8X", "-5M", "0", "nan", "inf", "1,8G", "1.8GiB"])
def test_not_a_count(text: str) -> None:
    with pytest.raises(CompoundNetError, match="is not a number such as"):
        parse_count(text)


def test_three_digits() -> None:
    assert [format_count(value) for value in (5288548, 385814752, 37.75e9, 999_700, 12)] == [
        "5.29M",
        "386M",
        "37.8B",
        "1.00M",
        "12",
    ]
    assert format_bytes(33_655_056) == "33.7 MB"
