"""`reproduce all`: every table and figure in one HTML file that holds the paper against what is measured here."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import get_args

import msgspec

from compoundnet.base import CompoundNetError
from compoundnet.paper.figures import Figure
from compoundnet.paper.latency_table import LEFT_OUT
from compoundnet.paper.registry import has_quick, names, reproduce
from compoundnet.paper.results import Results
from compoundnet.paper.tables import Cell, Table, Verdict

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


class Section(msgspec.Struct, frozen=True):
    """One table or figure of the report.

    made     None where it was left out, or could not be made
    problem  why it could not be made; empty otherwise
    command  what makes it again, alone
    """

    name: str
    made: Table | Figure | None
    problem: str
    command: str
    seconds: float

    @property
    def title(self) -> str:
        """As printed, or `Table 4` where there is nothing."""
        return self.made.title if self.made is not None else f"{self.name[:-1].capitalize()} {self.name[-1]}"

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many cells of a table have each verdict; a figure has one."""
        if isinstance(self.made, Table):
            found = Counter(cell.verdict for cell in _cells(self.made))
        else:
            found = Counter([self.made.verdict] if self.made is not None else [])
        return {verdict: found[verdict] for verdict in VERDICTS}

    @property
    def skipped(self) -> int:
        """Cells that --quick has left out."""
        return sum(cell.reason == LEFT_OUT for cell in _cells(self.made)) if isinstance(self.made, Table) else 0


class Facts(msgspec.Struct, frozen=True):
    """A report as plain data: verdicts of the tables' cells and of the figures, cells that --quick left out, sections
    that were left out, sections that failed with why, and how long each took."""

    tables: dict[Verdict, int]
    figures: dict[Verdict, int]
    skipped_by_quick: int
    left_out: tuple[str, ...]
    failed: dict[str, str]
    seconds: dict[str, float]


class Report(msgspec.Struct, frozen=True):
    """A finished report."""

    html: bytes
    sections: tuple[Section, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """Sections that could not be made."""
        return tuple(section.name for section in self.sections if section.problem)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Sections that were not to be made."""
        return tuple(section.name for section in self.sections if section.made is None and not section.problem)

    def facts(self) -> Facts:
        """What it comes to."""
        return Facts(
            total(section for section in self.sections if section.name.startswith("table")),
            total(section for section in self.sections if section.name.startswith("figure")),
            sum(section.skipped for section in self.sections),
            self.left_out,
            {section.name: section.problem for section in self.sections if section.problem},
            {section.name: round(section.seconds, 1) for section in self.sections},
        )


def total(sections: Iterable[Section]) -> dict[Verdict, int]:
    """Verdicts of several sections together."""
    return {verdict: sum(column) for verdict, column in zip(
        VERDICTS, zip(*(section.counts.values() for section in sections), strict=True), strict=True
    )}  # fmt: skip


def make_report(
    results: Results | None = None,
    *,
    quick: bool = False,
    without: Iterable[str] = (),
    say: Callable[[str], object] = lambda _: None,
) -> Report:
    """Make every table and figure, and the page that holds them.

    quick    of table4 only the half that takes no minutes and no gigabytes
    without  names that are left out; the page says so
    say      is told of each one that is done

    What one of them raises does not end the others: the page says it in its place.
    """
    from compoundnet.paper.report_page import render

    given, unwanted = results or Results(), set(without)
    unknown = unwanted.difference(names())
    if unknown:
        raise CompoundNetError(f"there is no reproduction named {min(unknown)!r}; known: {', '.join(names())}")
    sections = []
    for name in names():
        section = _make(name, given, quick and has_quick(name), name in unwanted)
        say(f"{name}: {section.problem or ('left out' if section.made is None else f'{section.seconds:.1f} s')}")
        sections.append(section)
    return Report(render(tuple(sections), given, quick), tuple(sections))


def _make(name: str, results: Results, quick: bool, unwanted: bool) -> Section:
    command = f"compoundnet reproduce {name}{' --quick' if quick else ''}"
    if results.folder is not None:
        command += f" --results {shlex.quote(str(results.folder))}"
    if unwanted:
        return Section(name, None, "", command, 0.0)
    start = time.monotonic()
    made, problem = None, ""
    try:
        made = reproduce(name, results, quick=quick)
    except CompoundNetError as error:
        problem = str(error)
    except Exception as error:  # whatever it is, the other sections are worth having
        problem = f"{type(error).__name__}: {error}"
    return Section(name, made, problem, command, time.monotonic() - start)


def _cells(table: Table) -> list[Cell]:
    return [cell for line in table.rows for cell in line.cells.values()]
