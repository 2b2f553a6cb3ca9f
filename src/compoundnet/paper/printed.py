"""The paper's tables and figures as data files (`data/*.toml`), the one place that holds its printed numbers."""

from __future__ import annotations

from functools import cache
from importlib import resources

import msgspec

from compoundnet.arch import Rules
from compoundnet.paper.digits import parse


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of all parts: an unknown field is an error."""


class RowReading(_Part, frozen=True):
    """A row's network read in another way: at another resolution, or by other rounding rules."""

    label: str
    resolution: float | None = None
    rules: Rules | None = None


class PrintedRow(_Part, frozen=True):
    """One row in print, and what to measure for it.

    Attributes:
        label: The row's heading.
        printed: Figure -> the text in print; a figure that is left out is not printed.
        network: A name of the catalogue or of the comparison networks, scaled by `depth`, `width`, `resolution`.
        depth: Multiplier of the network's repeats.
        width: Multiplier of its channels.
        resolution: Multiplier of its input side, or pixels.
        group: Label of the row that ratios are taken against.
        dataset: What the row's accuracies are measured on, where rows differ in that.
        published: Figure -> the value in the source itself, where there is nothing to measure.
        reasons: Figure -> why print and measurement differ, where that is known.
        readings: Other readings of the row, to be shown where its FLOPs differ.
    """

    label: str
    printed: dict[str, str]
    network: str | None = None
    depth: float = 1.0
    width: float = 1.0
    resolution: float = 1.0
    group: str | None = None
    dataset: str | None = None
    published: dict[str, int] = {}
    reasons: dict[str, str] = {}
    readings: tuple[RowReading, ...] = ()


class PrintedTable(_Part, frozen=True):
    """One table in print.

    Attributes:
        title: As printed, shortened.
        source: Where it stands in the paper.
        remark: What a reader must know.
        sections: Which figures stand side by side; a wide table is shown as several.
        columns: Figure -> its heading; `label` heads the rows.
        rows: In the order of print.
        dataset: What its accuracies are measured on.
        images: On how many images.
    """

    title: str
    source: str
    remark: str
    sections: tuple[tuple[str, ...], ...]
    columns: dict[str, str]
    rows: tuple[PrintedRow, ...]
    dataset: str | None = None
    images: int = 0


class PrintedFigure(_Part, frozen=True):
    """What the paper claims with a figure. `saturation` is the accuracy near which its curves flatten, a fraction."""

    title: str
    source: str
    claim: str
    saturation: float | None = None


@cache
def printed_table(name: str) -> PrintedTable:
    """Read `table2` from `data/table2.toml`."""
    return msgspec.toml.decode(_read(f"{name}.toml"), type=PrintedTable)


@cache
def printed_top1() -> dict[str, float]:
    """Return network -> the ImageNet top-1 accuracy that Table 2 prints, a fraction."""
    found = {row.network: parse(row.printed.get("top1", "")) for row in printed_table("table2").rows}
    return {network: round(top1.amount, 6) for network, top1 in found.items() if network and top1}


@cache
def printed_figure(name: str) -> PrintedFigure:
    """Read `figure1` from `data/figures.toml`."""
    return msgspec.toml.decode(_read("figures.toml"), type=dict[str, PrintedFigure])[name]


def _read(file: str) -> bytes:
    return resources.files("compoundnet.paper").joinpath("data", file).read_bytes()
