"""The comparison of measurements with printed figures, digit by digit, and the reasons for differences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import get_args

import msgspec

from compoundnet import arch
from compoundnet.base import format_count
from compoundnet.paper import digits
from compoundnet.paper.printed import PrintedRow, PrintedTable, RowReading
from compoundnet.paper.reproduction import Table, TableCell, TableRow, Verdict
from compoundnet.paper.results import Results
from compoundnet.train.results import Result
from compoundnet.zoo.lookup import NetworkSize, network_size

ACCURACIES = ("top1", "top5")


class RowMeasurements(msgspec.Struct, frozen=True):
    """The measurements for one row.

    Attributes:
        figures: Figure -> the measured value.
        network: The network's name.
        resolution: In pixels.
        sources: Figure -> the origin of its measurement.
        verdicts: Figure -> the verdict for digits that do not agree, if it is not "differs".
    """

    figures: dict[str, float | str]
    network: str | None = None
    resolution: int | None = None
    sources: dict[str, str] = {}
    verdicts: dict[str, Verdict] = {}


def judged(name: str, printed: PrintedTable, measured: list[RowMeasurements]) -> Table:
    """Return the table with the measurements of each row, in order, and a verdict on each cell."""
    figures = [figure for section in printed.sections for figure in section]
    lines: dict[str, TableRow] = {}
    for row, own in zip(printed.rows, measured, strict=True):
        cells = {figure: _judge(row, own, figure) for figure in figures}
        lines[row.label] = TableRow(row.label, own.network, own.resolution, cells)
    for row in printed.rows:  # the reason for a ratio depends on cells of two rows
        line = lines[row.label]
        for figure, cell in line.cells.items():
            if figure.endswith("_ratio") and cell.verdict == "differs" and not cell.reason:
                head = lines[row.group or row.label]
                reason = _ratio_reason(line, head, figure.removesuffix("_ratio"), printed.columns)
                line.cells[figure] = msgspec.structs.replace(cell, reason=reason)
    counts = Counter(cell.verdict for line in lines.values() for cell in line.cells.values())
    return Table(
        name,
        printed.title,
        printed.source,
        printed.remark,
        printed.columns,
        printed.sections,
        {verdict: counts[verdict] for verdict in get_args(Verdict) if verdict in counts},
        tuple(lines.values()),
    )


def find_accuracies(
    results: Results, network: str, printed: PrintedTable
) -> tuple[dict[str, float | str], dict[str, str]]:
    """Return the measured accuracies of a network by figure, and the origin of each; empty if there is no result."""
    result = results.find(network, printed.dataset, printed.images)
    if result is None:
        return {}, {}
    if result.count != printed.images:
        return {}, dict.fromkeys(ACCURACIES, part_only(result, printed.images))
    found: dict[str, float | str] = {key: value for key in ACCURACIES if (value := getattr(result, key)) is not None}
    return found, dict.fromkeys(ACCURACIES, origin(result))


def measure_row(row: PrintedRow, reading: RowReading | None = None) -> NetworkSize:
    """Return size and cost of a row's network, scaled as in the row or in another reading of it."""
    assert row.network is not None, row.label
    resolution = row.resolution if reading is None or reading.resolution is None else reading.resolution
    if (row.depth, row.width, resolution) == (1.0, 1.0, 1.0):
        return network_size(row.network)
    base = arch.network(row.network)
    if reading is not None and reading.rules is not None:
        base = base.replace(rules=reading.rules)
    return network_size(arch.scale(base, depth=row.depth, width=row.width, resolution=resolution))


def origin(result: Result) -> str:
    """Return the origin in words: the weights, date, person and number of images."""
    when = f" on {result.measured_at}" if result.measured_at else ""
    who = f" by {result.by}" if result.by else ""
    return f"{result.model or result.network} measured{when}{who} on {result.count:,} images."


def part_only(result: Result, images: int) -> str:
    """Return the reason why a result is not used: it does not cover all images."""
    return f"{origin(result)} The table is about all {images:,}."


def _judge(row: PrintedRow, own: RowMeasurements, figure: str) -> TableCell:
    text = row.printed.get(figure)
    measured = own.figures.get(figure)
    source = own.sources.get(figure, "")
    if measured is None:
        return TableCell(text, None, "", None, "needs data" if text else "not printed", source)
    if text is None:
        return TableCell(None, measured, _alone(figure, measured), None, "not printed", source)
    number = digits.parse(text)
    ratio = measured / number.amount if number is not None and not isinstance(measured, str) else None
    shown = digits.written_like(text, measured)
    if digits.agrees(text, measured):
        return TableCell(text, measured, shown, ratio, "agrees", source)
    reason = row.reasons.get(figure, "") + (_readings(row, text) if figure == "macs" else "")
    verdict = own.verdicts.get(figure, "differs")
    return TableCell(text, measured, shown, ratio, verdict, " ".join(part for part in (reason, source) if part))


def _alone(figure: str, measured: float | str) -> str:
    if isinstance(measured, str):
        return measured
    return f"{measured:.1f}x" if figure.endswith("_ratio") else format_count(measured)


def _readings(row: PrintedRow, text: str) -> str:
    """Measurements for the other readings of the row."""
    read = [f"{digits.written_like(text, measure_row(row, reading).macs)} {reading.label}" for reading in row.readings]
    return f" Read otherwise: {', '.join(read)}." if read else ""


def _ratio_reason(own: TableRow, head: TableRow, figure: str, columns: Mapping[str, str]) -> str:
    """The reason why a printed ratio differs: one of its two figures differs, or rounded figures were divided."""
    differing = [line.label for line in (own, head) if line.cells[figure].verdict == "differs"]
    if differing:
        return f"Follows from the {columns[figure].partition(' (')[0]} of {' and '.join(differing)}."
    above, below, ratio = own.cells[figure].printed, head.cells[figure].printed, own.cells[f"{figure}_ratio"].printed
    if above and below and ratio:
        parts = digits.parse(above), digits.parse(below)
        if parts[0] and parts[1]:
            quotient = parts[0].amount / parts[1].amount
            if digits.agrees(ratio, quotient):
                return f"The paper divides rounded figures: {above} / {below} is {ratio}."
            return f"Not the ratio of the printed figures either: {above} / {below} is {quotient:.2f}x."
    return ""
