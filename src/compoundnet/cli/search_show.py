"""`search show`: what a study has found so far."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from compoundnet.cli.options import Json
from compoundnet.cli.output import note, print_json, table
from compoundnet.cli.output import show as print_text

if TYPE_CHECKING:
    from compoundnet.search.finished import Entry
    from compoundnet.search.kinds import Search
    from compoundnet.search.report import Found
    from compoundnet.search.study_summary import Summary
    from compoundnet.trials.studies import OpenedStudy

_SHOWN = 15


def show(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study's folder, or a storage URL with --study.")],
    name: Annotated[str | None, typer.Option("--study", metavar="NAME", help="Of the study at a storage URL.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="REPORT_FOLDER", help="Write report.md, tables and plots there."),
    ] = None,
    json: Json = False,
) -> None:
    """The ranking, the best, and how far it is; of a study that is still running too."""
    from compoundnet.search import open_study
    from compoundnet.search.report import write_report

    opened = open_study(study, name)
    try:
        print_outcome(opened, json)
        if output is not None:
            write_report(opened, output)
            note(f"wrote {output / 'report.md'} with its tables and plots")
    finally:
        opened.close()


def print_outcome(opened: OpenedStudy[Search], json: bool) -> None:
    """The state of a study, as text or one JSON document."""
    from compoundnet.search.report import find

    found = find(opened)
    if json:
        print_json(_document(found))
    elif found.summary is not None:
        _print_summary(found.summary, found.progress)
    else:
        _print_ranking(found)


def _print_ranking(found: Found) -> None:
    from compoundnet.search.ranking import cells, front, headings

    kept = front(found.ranking)
    first, *rest = headings(bool(found.rewards))
    printed = table(">", first, *(f">{heading}" for heading in rest), "Pareto")
    for rank, (entry, reward) in enumerate(found.rows()[:_SHOWN], start=1):
        printed.add_row(str(rank), *cells(entry, reward), "front" if entry in kept else "")
    if found.ranking:
        print_text(printed)
    if len(found.ranking) > _SHOWN:
        print_text(f"and {len(found.ranking) - _SHOWN} more; -o FOLDER writes all of them")
    print_text(*([found.verdict] if found.verdict else []), *found.notes, f"{found.progress}.")


def _print_summary(summary: Summary, progress: str) -> None:
    from compoundnet.base import format_count
    from compoundnet.search.study_points import label
    from compoundnet.search.study_summary import percent, points

    printed = table(
        "line", "multipliers", ">input", ">FLOPs", ">parameters", ">top-1 (95 % interval)", ">gain", ">seeds",
        title=summary.title,
    )  # fmt: skip
    for row in summary.rows:
        counts = ["" if count is None else format_count(count) for count in (row.macs, row.params)]
        printed.add_row(
            row.line, label(row.multipliers), f"{row.resolution} px", *counts, percent(row.accuracy), points(row.gain),
            str(len(row.accuracies)),
        )  # fmt: skip
    print_text(printed)
    for one in summary.observations:
        print_text(f"Observation {one.number} ({one.statement}). {one.verdict}")
        print_text(*(f"  {finding.what}: {points(finding.difference)}: {finding.says}" for finding in one.findings))
    print_text(*(f"- {text}" for text in summary.notes), f"{progress}.")


def _document(found: Found) -> dict[str, object]:
    from compoundnet.search.ranking import front

    kept = front(found.ranking)
    return {
        "kind": found.kind, "data": found.data, "trials": found.trials, "finished": found.finished,
        "pruned": found.pruned, "verdict": found.verdict, "notes": list(found.notes),
        "ranking": [_entry(entry, entry in kept) | {"reward": reward} for entry, reward in found.rows()],
        "summary": msgspec.to_builtins(found.summary),
    }  # fmt: skip


def _entry(entry: Entry, pareto: bool) -> dict[str, object]:
    return {
        "point": entry.point, "network": entry.network.name, "values": entry.values, "accuracy": entry.accuracy,
        "interval": None if entry.interval is None else [entry.interval.low, entry.interval.high],
        "macs": entry.macs, "params": entry.params, "seeds": entry.seeds, "diverged": entry.diverged, "pareto": pareto,
    }  # fmt: skip
