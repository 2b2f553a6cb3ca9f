"""What a reproduction is: a table of the paper with measurements beside its figures, or a figure drawn again."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from compoundnet.paper.printed import PrintedFigure
from compoundnet.plots.canvas import Plot

# The reason of a cell that `quick` leaves out.
LEFT_OUT = "Left out by --quick."
Verdict = Literal["agrees", "surpasses", "differs", "other machine", "needs data", "not printed"]


class TableCell(msgspec.Struct, frozen=True):
    """One figure of one row.

    Attributes:
        printed: As the paper has it; None where it prints nothing.
        measured: Multiply-adds and parameters in ones, accuracies as fractions; None where it was not measured.
        shown: `measured` in the unit of `printed`.
        ratio: measured / printed, where both are numbers.
        verdict: Whether they agree.
        reason: Why they differ, or where the measurement comes from.
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
    """A table of the paper with measurements. `counts` says how many cells have each verdict."""

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
        source: Where the paper's own numbers come from.
        claim: What the paper says with the figure.
        verdict: Whether the claim holds by what is measured here.
        reason: Why.
    """

    source: str
    claim: str
    verdict: Verdict
    reason: str

    def facts(self) -> dict[str, Any]:
        """Return all but the drawing, as plain data."""
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
