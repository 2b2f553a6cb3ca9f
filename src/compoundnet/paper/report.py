"""Every table and figure in one HTML file: the numbers of the paper next to measurements."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from compoundnet.base import CompoundNetError, make_folder, write_whole
from compoundnet.base.progress import Notify, ignore
from compoundnet.paper.registry import has_quick, names, reproduce
from compoundnet.paper.report_page import render
from compoundnet.paper.report_sections import ReportSection, total
from compoundnet.paper.reproduction import Verdict
from compoundnet.paper.results import Results


class ReportSummary(msgspec.Struct, frozen=True):
    """A report as plain data.

    Attributes:
        tables: The number of table cells with each verdict.
        figures: The number of figures with each verdict.
        skipped_by_quick: Cells that --quick left out.
        left_out: Sections that were omitted.
        failed: Section -> the reason why it could not be made.
        seconds: Section -> its duration in seconds.
    """

    tables: dict[Verdict, int]
    figures: dict[Verdict, int]
    skipped_by_quick: int
    left_out: tuple[str, ...]
    failed: dict[str, str]
    seconds: dict[str, float]


class Report(msgspec.Struct, frozen=True):
    """A finished report: the HTML file, and what it was made of."""

    html: bytes
    sections: tuple[ReportSection, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """Sections that could not be made."""
        return tuple(section.name for section in self.sections if section.problem)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Sections that were left out on request."""
        return tuple(section.name for section in self.sections if section.made is None and not section.problem)

    def facts(self) -> ReportSummary:
        """Return the report's counts as plain data."""
        return ReportSummary(
            total(section for section in self.sections if section.name.startswith("table")),
            total(section for section in self.sections if section.name.startswith("figure")),
            sum(section.skipped for section in self.sections),
            self.left_out,
            {section.name: section.problem for section in self.sections if section.problem},
            {section.name: round(section.seconds, 1) for section in self.sections},
        )


def make_report(
    results: Results | None = None,
    *,
    quick: bool = False,
    without: Iterable[str] = (),
    notify: Notify = ignore,
) -> Report:
    """Make every table and figure, and the page that holds them.

    If one of them fails, the others are still made, and the page shows the reason in its place.

    Args:
        results: The results of users.
        quick: Whether to omit the half of table4 that takes minutes and gigabytes.
        without: Names to omit; the page states it.
        notify: Called with a line of text for each finished section.

    Raises:
        CompoundNetError: a name of `without` is not known.
    """
    given, unwanted = results or Results(), set(without)
    unknown = unwanted.difference(names())
    if unknown:
        raise CompoundNetError(f"there is no reproduction named {min(unknown)!r}; known: {', '.join(names())}")
    sections = []
    for name in names():
        section = _make(name, given, quick and has_quick(name), name in unwanted)
        notify(f"{name}: {section.problem or ('left out' if section.made is None else f'{section.seconds:.1f} s')}")
        sections.append(section)
    return Report(render(tuple(sections), given, quick), tuple(sections))


def write_report(
    output: str | os.PathLike[str], results: Results | None = None, *, quick: bool = False, notify: Notify = ignore
) -> tuple[Path, Report]:
    """Make the report and write it to an HTML file; return the file and the report.

    Args:
        output: A `.html` file, or the folder to write `report.html` to. Folders are made before anything is measured.
        results: As for `make_report`; so are `quick` and `notify`.
        quick: Whether to leave out what takes minutes.
        notify: Called with a line of text for each finished section.

    Raises:
        UnwritableError: the file cannot be written.
    """
    path = Path(output)
    file = path if path.suffix == ".html" else path / "report.html"
    make_folder(file.parent)
    made = make_report(results, quick=quick, notify=notify)
    write_whole(file, made.html)
    return file, made


def _make(name: str, results: Results, quick: bool, unwanted: bool) -> ReportSection:
    command = f"compoundnet reproduce {name}{' --quick' if quick else ''}"
    if results.folder is not None:
        command += f" --results {shlex.quote(str(results.folder))}"
    if unwanted:
        return ReportSection(name, None, "", command, 0.0)
    start = time.monotonic()
    made, problem = None, ""
    try:
        made = reproduce(name, results, quick=quick)
    except CompoundNetError as error:
        problem = str(error)
    except Exception as error:  # any error, because the other sections are still useful
        problem = f"{type(error).__name__}: {error}"
    return ReportSection(name, made, problem, command, time.monotonic() - start)
