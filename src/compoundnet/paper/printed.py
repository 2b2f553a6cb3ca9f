"""The paper's tables and figures as data files (`data/*.toml`): the one place where its printed numbers stand."""

from __future__ import annotations

from functools import cache
from importlib import resources

import msgspec

from compoundnet.arch import Rules


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all parts share: frozen, and an unknown field is an error."""


class Variant(_Part, frozen=True):
    """The network of a row read in another way: at another resolution, or by other rounding rules."""

    label: str
    resolution: float | None = None
    rules: Rules | None = None


class Row(_Part, frozen=True):
    """One row in print, and what to measure for it.

    printed     figure -> the text in print; a figure that is left out is not printed
    network     a name of the catalogue or of the comparison networks, scaled by `depth`, `width`, `resolution`
    group       label of the row that ratios are taken against
    dataset     what its accuracies are measured on, where rows differ in that
    published   figure -> the value in the source itself, where there is nothing to measure
    reasons     figure -> why print and measurement differ, where that is known
    variants    other readings of the row, to be shown where its FLOPs differ
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
    variants: tuple[Variant, ...] = ()


class PrintedTable(_Part, frozen=True):
    """One table in print.

    columns   figure -> its heading; `label` heads the rows
    sections  which figures stand side by side; a wide table is shown as several
    dataset   what its accuracies are measured on, and over how many `images`
    """

    title: str
    source: str
    remark: str
    sections: tuple[tuple[str, ...], ...]
    columns: dict[str, str]
    rows: tuple[Row, ...]
    dataset: str | None = None
    images: int = 0


class PrintedFigure(_Part, frozen=True):
    """What the paper claims with a figure. `saturation`: the accuracy near which its curves flatten, a fraction."""

    title: str
    source: str
    claim: str
    saturation: float | None = None


@cache
def printed_table(name: str) -> PrintedTable:
    """`table2` from `data/table2.toml`."""
    return msgspec.toml.decode(_read(f"{name}.toml"), type=PrintedTable)


@cache
def printed_figure(name: str) -> PrintedFigure:
    """`figure1` from `data/figures.toml`."""
    return msgspec.toml.decode(_read("figures.toml"), type=dict[str, PrintedFigure])[name]


def _read(file: str) -> bytes:
    return resources.files("compoundnet.paper").joinpath("data", file).read_bytes()
