"""Reproductions: a table of the paper with measurements next to its figures, or a redrawn figure."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from compoundnet.paper.printed import PrintedFigure
from compoundnet.plots.canvas import Plot

# The reason shown in a cell that `quick` omits.
LEFT_OUT = "Left out by --quick."
Verdict = Literal["agrees", "surpasses", "differs", "other machine", "needs data", "not printed"]


class TableCell(msgspec.Struct, frozen=True):
    """One figure of one row.

    Attributes:
        printed: The printed text; None if the paper prints nothing.
        measured: Multiply-adds and parameters in ones, accuracies as fractions; None if not measured.
        shown: `measured` in the unit of `printed`.
        ratio: Measured / printed, if both are numbers.
        verdict: Whether printed and measured value agree.
        reason: The reason of a difference, or the origin of the measurement.
    """

    printed: str | None
    measured: float | str | None
    shown: str
    ratio: float | None
    verdict: Verdict
    reason: str = ""


class TableRow(msgspec.Struct, frozen=True):
    """One row: `network` as measured, `resolution` in pixels, and its cells by figure."""

    label: str
    network: str | None
    resolution: int | None
    cells: dict[str, TableCell]


class Table(msgspec.Struct, frozen=True):
    """A table of the paper with measurements. `counts`: the number of cells with each verdict."""

    name: str
    title: str
    source: str
    remark: str
    columns: dict[str, str]
    sections: tuple[tuple[str, ...], ...]
    counts: dict[str, int]
    rows: tuple[TableRow, ...]


class Figure(Plot, frozen=True, kw_only=True):
    """A figure of the paper, drawn from measurements.

    Attributes:
        source: The source of the paper's numbers.
        claim: The claim of the paper.
        verdict: Whether the claim holds according to the measurements.
        reason: The reason for the verdict.
    """

    source: str
    claim: str
    verdict: Verdict
    reason: str

    def facts(self) -> dict[str, Any]:
        """Return everything except the drawing, as plain data."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name not in ("svg", "png")}


def drawn_figure(
    name: str,
    printed: PrintedFigure,
    drawing: tuple[bytes, bytes],
    *,
    description: str,
    points: list[dict[str, Any]],
    verdict: Verdict,
    reason: str,
) -> Figure:
    """Return a figure with the paper's title, source and claim; `drawing` is (SVG, PNG)."""
    return Figure(
        name=name,
        title=printed.title,
        source=printed.source,
        description=description,
        points=points,
        svg=drawing[0],
        png=drawing[1],
        claim=printed.claim,
        verdict=verdict,
        reason=reason,
    )
