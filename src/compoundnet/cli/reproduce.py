"""`reproduce`: the paper's tables and figures, measured here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from compoundnet import arch, paper
from compoundnet.cli.output import note, print_json, show, table
from compoundnet.paper.layout import comma_separated, lay_out, markdown, summary


def reproduce(
    what: Annotated[str, typer.Argument(metavar="NAME", help=f"One of {', '.join(paper.names())}.")],
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Result files (JSON with network, dataset, top1, count), to fill accuracies."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FOLDER", help="Write it there too. Figures go to the current folder otherwise."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Of table4, only EfficientNet-B1 and ResNet-152: no minutes, no gigabytes.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")] = False,
) -> None:
    """A table or figure of the paper beside what is measured here, with a verdict on every figure."""
    made = paper.reproduce(what, paper.read_results(results) if results is not None else (), quick=quick)
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


def _write(folder: Path, name: str, contents: dict[str, str | bytes]) -> list[str]:
    """Write one file for each ending, making the folder; their paths."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise arch.CompoundNetError(f"{folder}: cannot be made: {error.strerror or error}") from error
    written = []
    for ending, content in contents.items():
        file = folder / f"{name}.{ending}"
        arch.write_whole(file, content.encode() if isinstance(content, str) else content)
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
