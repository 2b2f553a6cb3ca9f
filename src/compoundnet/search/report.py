"""The report of a finished or unfinished search: tables and figures in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from compoundnet.base import make_folder, write_whole
from compoundnet.search.kinds import findings_of
from compoundnet.search.study.settings import NO_MODELS, ScalingStudy

if TYPE_CHECKING:
    from compoundnet.search.findings import Findings, ReportFigure
    from compoundnet.search.kinds import Search
    from compoundnet.trials.studies import OpenedStudy


def find(opened: OpenedStudy[Search]) -> Findings:
    """Return the findings of a study so far."""
    found: Findings = findings_of(opened.settings).find(opened.settings, opened.counted())
    search = opened.settings
    if opened.database.folder is None and isinstance(search, ScalingStudy) and search.figure == 8:
        return msgspec.structs.replace(found, notes=(*found.notes, NO_MODELS))
    return found


def write_report(opened: OpenedStudy[Search], folder: Path) -> None:
    """Write report.md, the tables, and the figures as SVG and PNG. No figures if no trial is
    finished."""
    wing, trials = findings_of(opened.settings), opened.counted()
    findings = find(opened)
    figures = wing.figures(opened.settings, trials, findings) if findings.ranking else []
    make_folder(folder)
    for figure in figures:
        write_whole(folder / f"{figure.name}.svg", figure.svg)
        write_whole(folder / f"{figure.name}.png", figure.png)
    for name, text in findings.files.items():
        write_whole(folder / name, text.encode())
    write_whole(folder / "report.md", _markdown(findings, figures).encode())


def write_result(opened: OpenedStudy[Search], folder: Path) -> None:
    """Write result.toml. Raises CompoundNetError if no trial is finished."""
    text = findings_of(opened.settings).result(opened.settings, opened.counted())
    write_whole(folder / "result.toml", text.encode())


def _markdown(findings: Findings, figures: Sequence[ReportFigure]) -> str:
    parts = [f"# {findings.title}\n", f"On {findings.data}. {findings.progress}.\n"]
    if findings.verdict:
        parts.append(f"{findings.verdict}\n")
    parts += [f"![{figure.title}]({figure.name}.png)\n" for figure in figures]
    return "\n".join([*parts, findings.body()])
