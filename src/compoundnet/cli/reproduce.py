"""`reproduce`: the paper's tables and figures, measured here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from compoundnet import base, paper
from compoundnet.cli.output import note, print_json, show, table
from compoundnet.paper.layout import comma_separated, lay_out, markdown, summary

ALL = "all"


def reproduce(
    what: Annotated[str, typer.Argument(metavar="NAME", help=f"One of {', '.join(paper.names())}, or {ALL}.")],
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Result files of `evaluate`, model folders and folders of `search study`, to fill what needs data.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FOLDER",
            help=f"Write it there too. Figures go to the current folder otherwise. Of {ALL}: a folder or a .html file.",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Of table4, only EfficientNet-B1 and ResNet-152: no minutes, no gigabytes.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")] = False,
) -> None:
    """A table or figure of the paper beside what is measured here, with verdicts; or all, as one HTML report."""
    given = paper.read_results(results) if results is not None else None
    if what == ALL:
        _report(given, output, quick, json)
        return
    made = paper.reproduce(what, given, quick=quick)
    if isinstance(made, paper.Table):
        if output is not None:
            _write(output, made.name, {"json": _encoded(made), "md": markdown(made), "csv": comma_separated(made)})
        _print_table(made, json)
        return
    files = _write(output or Path(), made.name, {"svg": made.svg, "png": made.png})
    document = {field: getattr(made, field) for field in made.__struct_fields__ if field not in ("svg", "png")} | {
        "files": files
    }
    if json:
        print_json(document)
    else:
        show(f"{made.title} ({made.source})", made.description)
        if made.claim:
            verdict = "" if made.verdict == "not printed" else f"{made.verdict}. "
            show(f"The paper: {made.claim}", f"Here: {verdict}{made.reason}")


def _report(given: paper.Results | None, output: Path | None, quick: bool, json: bool) -> None:
    """Write the report; exit code 1 where a section of it could not be made."""
    path = output if output is not None and output.suffix == ".html" else (output or Path()) / "report.html"
    base.make_folder(path.parent)
    made = paper.make_report(given, quick=quick, say=note)
    base.write_whole(path, made.html)
    facts = made.facts()
    if json:
        print_json({"report": str(path), **msgspec.to_builtins(facts)})
    else:
        for kind, counts in (("Tables", facts.tables), ("Figures", facts.figures)):
            told = ", ".join(f"{verdict} {count}" for verdict, count in counts.items() if count)
            show(f"{kind}: {told}.")
        if facts.skipped_by_quick:
            show(f"{facts.skipped_by_quick} of those that need data were left out by --quick.")
        show(f"wrote {path}")
    if made.failed:
        note(f"error: {', '.join(made.failed)} could not be made; {path} says why")
        raise typer.Exit(1)


def _write(folder: Path, name: str, contents: dict[str, str | bytes]) -> list[str]:
    """Write one file for each ending, making the folder; their paths."""
    base.make_folder(folder)
    written = []
    for ending, content in contents.items():
        file = folder / f"{name}.{ending}"
        base.write_whole(file, content.encode() if isinstance(content, str) else content)
        written.append(str(file))
    note(f"wrote {', '.join(written)}")
    return written


def _encoded(made: paper.Table) -> bytes:
    return msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n"


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
