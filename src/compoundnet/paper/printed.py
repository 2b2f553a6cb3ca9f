"""The paper's tables and figures as data files (`data/*.toml`), the only place of its printed numbers."""

from __future__ import annotations

from functools import cache
from importlib import resources

import msgspec

from compoundnet.arch import Rules
from compoundnet.paper.digits import parse


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of all parts: an unknown field is an error."""


class RowReading(_Part, frozen=True):
    """Another interpretation of a row's network: at another resolution, or by other rounding rules."""

    label: str
    resolution: float | None = None
    rules: Rules | None = None


class PrintedRow(_Part, frozen=True):
    """One printed row, and the measurement for it.

    Attributes:
        label: The heading of the row.
        printed: Figure -> the printed text; missing figures are not printed.
        network: A name of the catalogue or of the comparison networks, scaled by `depth`, `width`, `resolution`.
        depth: Multiplier of the network's repeats.
        width: Multiplier of its channels.
        resolution: Multiplier of its input side, or pixels.
        group: Label of the reference row of ratios.
        dataset: The data set of the row's accuracies, if rows differ in it.
        published: Figure -> the value in the original source, if it cannot be measured.
        reasons: Figure -> the reason why printed and measured values differ, if known.
        readings: Other interpretations of the row, shown if its FLOPs differ.
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
    """One printed table.

    Attributes:
        title: The printed title, shortened.
        source: Its place in the paper.
        remark: A remark that readers need.
        sections: The figures shown side by side; a wide table is split into several sections.
        columns: Figure -> its heading; `label` heads the rows.
        rows: The rows in printed order.
        dataset: The data set of its accuracies.
        images: The number of images of its accuracies.
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
    """The claim of a figure of the paper. `saturation` is the accuracy near which its curves flatten, a fraction."""

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
