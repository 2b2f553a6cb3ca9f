"""`search show`: the results of a study so far."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compoundnet import search
from compoundnet.cli.options import Json, StudyName, output_option
from compoundnet.cli.output import note, print_json, table
from compoundnet.cli.output import show as print_text

if TYPE_CHECKING:
    from compoundnet.search import Search
    from compoundnet.trials import OpenedStudy

_SHOWN = 25


def show(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study's folder, or a storage URL with --study.")],
    name: StudyName = None,
    output: Annotated[
        Path | None,
        output_option("FOLDER", "Write report.md, tables and plots to this folder."),
    ] = None,
    json: Json = False,
) -> None:
    """Print what a study has found so far: the ranking, the best, and its progress."""
    opened = search.open_study(study, name)
    try:
        print_outcome(opened, json)
        if output is not None:
            search.write_report(opened, output)
            note(f"wrote {output / 'report.md'} with its tables and plots")
    finally:
        opened.close()


def print_outcome(opened: OpenedStudy[Search], json: bool) -> None:
    """Print the state of a study, as text or one JSON document."""
    found = search.find(opened)
    if json:
        print_json(found.document())
        return
    rows = found.table.rows
    if rows:
        printed = table(*found.table.headings, title=found.title)
        for row in rows[:_SHOWN]:
            printed.add_row(*row)
        print_text(printed)
    if len(rows) > _SHOWN:
        print_text(f"and {len(rows) - _SHOWN} more; -o FOLDER writes all of them")
    for remark in found.remarks:
        print_text(remark.text.replace("**", ""))
        print_text(*(f"  {': '.join(row)}" for row in (remark.table.rows if remark.table is not None else ())))
    print_text(*([found.verdict] if found.verdict else []), *found.notes, f"{found.progress}.")
