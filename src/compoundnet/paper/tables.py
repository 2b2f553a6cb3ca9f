"""The paper's tables with what is measured here beside every printed figure, and a verdict on each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal, get_args

import msgspec

from compoundnet import arch
from compoundnet.base import format_count
from compoundnet.paper import digits
from compoundnet.paper.measure import Measured, measure, measure_network
from compoundnet.paper.printed import PrintedTable, Row, Variant, printed_table
from compoundnet.paper.results import Results
from compoundnet.train.results import Result

Verdict = Literal["agrees", "surpasses", "differs", "other machine", "needs data", "not printed"]
ACCURACIES = ("top1", "top5")


class Cell(msgspec.Struct, frozen=True):
    """One figure of one row.

    printed   as the paper has it; None where it prints nothing
    measured  multiply-adds and parameters in ones, accuracies as fractions; None where nobody has measured it
    shown     `measured` in the unit of `printed`
    ratio     measured / printed, where both are numbers
    reason    why they differ, or where the measurement comes from
    """

    printed: str | None
    measured: float | str | None
    shown: str
    ratio: float | None
    verdict: Verdict
    reason: str = ""


class Line(msgspec.Struct, frozen=True):
    """One row: `network` as measured, `resolution` in pixels, and its cells by figure."""

    label: str
    network: str | None
    resolution: int | None
    cells: dict[str, Cell]


class Table(msgspec.Struct, frozen=True):
    """A table of the paper, held against measurements. `counts`: how many cells have each verdict."""

    name: str
    title: str
    source: str
    remark: str
    columns: dict[str, str]
    sections: tuple[tuple[str, ...], ...]
    counts: dict[str, int]
    rows: tuple[Line, ...]


class Subject(msgspec.Struct, frozen=True):
    """What was measured for one row.

    sources   figure -> where its measurement comes from
    verdicts  figure -> the verdict where its digits do not agree, if not that it differs
    """

    figures: dict[str, float | str]
    network: str | None = None
    resolution: int | None = None
    sources: dict[str, str] = {}
    verdicts: dict[str, Verdict] = {}


def stage_table(name: str, results: Results) -> Table:
    """Table 1: the stages of EfficientNet-B0."""
    del results  # it has no accuracies
    subjects = [
        Subject(
            {
                "operator": stage.operator,
                "resolution": f"{stage.resolution}x{stage.resolution}",
                "channels": stage.channels,
                "layers": stage.layers,
            }
        )
        for stage in arch.stage_costs(arch.network("efficientnet-b0"))
    ]
    return judged(name, printed_table(name), subjects)


def network_table(name: str, results: Results) -> Table:
    """Tables 2, 3 and 7: networks by size, cost and accuracy."""
    printed = printed_table(name)
    measured = {row.label: _measure(row) for row in printed.rows}
    subjects = []
    for row in printed.rows:
        own = measured[row.label]
        figures: dict[str, float | str] = {"params": own.params, "macs": own.macs}
        if row.group is not None:
            head = measured[row.group]
            figures |= {"params_ratio": own.params / head.params, "macs_ratio": own.macs / head.macs}
        accuracies, sources = find_accuracies(results, own.name, printed)
        figures |= accuracies
        subjects.append(Subject(figures, own.name, own.resolution, sources))
    return judged(name, printed, subjects)


def dataset_table(name: str, results: Results) -> Table:
    """Table 6: the sizes of the published splits."""
    del results  # it has no accuracies
    printed = printed_table(name)
    return judged(name, printed, [Subject(dict(row.published)) for row in printed.rows])


def find_accuracies(
    results: Results, network: str, printed: PrintedTable
) -> tuple[dict[str, float | str], dict[str, str]]:
    """A network's measured accuracies by figure, and where each comes from; none where nobody has measured them."""
    result = results.find(network, printed.dataset)
    if result is None:
        return {}, {}
    if result.count != printed.images:
        return {}, dict.fromkeys(ACCURACIES, part_only(result, printed.images))
    found: dict[str, float | str] = {key: value for key in ACCURACIES if (value := getattr(result, key)) is not None}
    return found, dict.fromkeys(ACCURACIES, origin(result))


def _measure(row: Row, variant: Variant | None = None) -> Measured:
    assert row.network is not None, row.label
    resolution = row.resolution if variant is None or variant.resolution is None else variant.resolution
    if (row.depth, row.width, resolution) == (1.0, 1.0, 1.0):
        return measure(row.network)
    base = arch.network(row.network)
    if variant is not None and variant.rules is not None:
        base = base.replace(rules=variant.rules)
    return measure_network(arch.scale(base, depth=row.depth, width=row.width, resolution=resolution))


def origin(result: Result) -> str:
    """Which weights, when, by whom, on how many images."""
    when = f" on {result.measured_at}" if result.measured_at else ""
    who = f" by {result.by}" if result.by else ""
    return f"{result.model or result.network} measured{when}{who} on {result.count:,} images."


def part_only(result: Result, images: int) -> str:
    """Why a result fills nothing: it is not on all images."""
    return f"{origin(result)} The table is about all {images:,}."


def judged(name: str, printed: PrintedTable, subjects: list[Subject]) -> Table:
    figures = [figure for section in printed.sections for figure in section]
    lines: dict[str, Line] = {}
    for row, subject in zip(printed.rows, subjects, strict=True):
        cells = {figure: _judge(row, subject, figure) for figure in figures}
        lines[row.label] = Line(row.label, subject.network, subject.resolution, cells)
    for row in printed.rows:  # a ratio's reason looks at the cells of two rows
        own = lines[row.label]
        for figure, cell in own.cells.items():
            if figure.endswith("_ratio") and cell.verdict == "differs" and not cell.reason:
                head = lines[row.group or row.label]
                reason = _ratio_reason(own, head, figure.removesuffix("_ratio"), printed.columns)
                own.cells[figure] = msgspec.structs.replace(cell, reason=reason)
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


def _judge(row: Row, subject: Subject, figure: str) -> Cell:
    text = row.printed.get(figure)
    measured = subject.figures.get(figure)
    source = subject.sources.get(figure, "")
    if measured is None:
        return Cell(text, None, "", None, "needs data" if text else "not printed", source)
    if text is None:
        return Cell(None, measured, _alone(figure, measured), None, "not printed", source)
    number = digits.parse(text)
    ratio = measured / number.amount if number is not None and not isinstance(measured, str) else None
    shown = digits.written_like(text, measured)
    if digits.agrees(text, measured):
        return Cell(text, measured, shown, ratio, "agrees", source)
    reason = row.reasons.get(figure, "") + (_variants(row, text) if figure == "macs" else "")
    verdict = subject.verdicts.get(figure, "differs")
    return Cell(text, measured, shown, ratio, verdict, " ".join(part for part in (reason, source) if part))


def _alone(figure: str, measured: float | str) -> str:
    if isinstance(measured, str):
        return measured
    return f"{measured:.1f}x" if figure.endswith("_ratio") else format_count(measured)


def _variants(row: Row, text: str) -> str:
    """Other readings of the row, measured."""
    read = [f"{digits.written_like(text, _measure(row, variant).macs)} {variant.label}" for variant in row.variants]
    return f" Read otherwise: {', '.join(read)}." if read else ""


def _ratio_reason(own: Line, head: Line, figure: str, columns: Mapping[str, str]) -> str:
    """Why a printed ratio is not the measured one: a figure it is made of differs, or it is made of rounded figures."""
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
