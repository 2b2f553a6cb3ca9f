"""`reproduce`: the paper's tables and figures, compared with what is measured here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from compoundnet import paper
from compoundnet.cli.options import Json, output_option
from compoundnet.cli.output import note, print_json, show, table
from compoundnet.paper.formats import lay_out, summary

ALL = "all"


def _complete_name(incomplete: str) -> list[str]:
    return [name for name in (*paper.names(), ALL) if name.startswith(incomplete)]


def reproduce(
    what: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help=f"{', '.join(paper.names())}, or {ALL}.",
            autocompletion=_complete_name,
        ),
    ],
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Read measured accuracies here: result files of `evaluate`, model folders, studies of `search study`.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        output_option(
            "FOLDER",
            f"Write the table or figure to this folder. For {ALL}: a folder or an .html file. Unless it is given,"
            " figures and the report go to the current folder.",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out what takes minutes and gigabytes: GPipe's half of table4.")
    ] = False,
    json: Json = False,
) -> None:
    """Compare a table or figure of the paper with what is measured here; or all of them, in one HTML report."""
    given = paper.read_results(results) if results is not None else None
    if what == ALL:
        _report(given, output, quick, json)
        return
    made = paper.reproduce(what, given, quick=quick)
    if isinstance(made, paper.Table):
        if output is not None:
            _write(made, output)
        _print_table(made, json)
        return
    files = _write(made, output or Path())
    if json:
        print_json(made.facts() | {"files": files})
        return
    show(f"{made.title} ({made.source})", made.description)
    verdict = "" if made.verdict == "not printed" else f"{made.verdict}. "
    show(f"The paper: {made.claim}", f"Here: {verdict}{made.reason}")


def _report(given: paper.Results | None, output: Path | None, quick: bool, json: bool) -> None:
    """Write the report; exit with 1 if a section of it could not be made."""
    file, made = paper.write_report(output or Path(), given, quick=quick, notify=note)
    facts = made.facts()
    if json:
        print_json({"report": str(file), **msgspec.to_builtins(facts)})
    else:
        for kind, counts in (("Tables", facts.tables), ("Figures", facts.figures)):
            listed = ", ".join(f"{verdict} {count}" for verdict, count in counts.items() if count)
            show(f"{kind}: {listed}.")
        if facts.skipped_by_quick:
            show(f"{facts.skipped_by_quick} of those that need data were left out by --quick.")
        show(f"wrote {file}")
    if made.failed:
        note(f"error: {', '.join(made.failed)} could not be made; see {file}")
        raise typer.Exit(1)


def _write(made: paper.Table | paper.Figure, folder: Path) -> list[str]:
    files = [str(file) for file in paper.write_reproduction(made, folder)]
    note(f"wrote {', '.join(files)}")
    return files


def _print_table(made: paper.Table, json: bool) -> None:
    if json:
        print_json(made)
        return
    layout = lay_out(made)
    for position, sheet in enumerate(layout.sheets):
        printed = table(*sheet.headings, title=made.title if position == 0 else None)
        for row in sheet.rows:
            printed.add_row(*row)
        show(printed)
    show(f"{made.remark} {made.source}.", summary(made))
    show(*(f"({number}) {reason}" for number, reason in enumerate(layout.reasons, 1)))
