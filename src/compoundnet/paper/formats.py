"""A table as rows of text, Markdown and CSV; a table or figure as files."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import msgspec

from compoundnet.base import CompoundNetError, json_document, make_folder, write_whole
from compoundnet.paper import digits
from compoundnet.paper.reproduction import Figure, Table, TableCell, TableRow

# The suffixes of files, by which a folder is not meant.
_FILES = frozenset({".html", ".htm", ".json", ".md", ".csv", ".svg", ".png", ".pdf"})


class TableSheet(msgspec.Struct, frozen=True):
    """Some figures of a table side by side.

    A heading that starts with `>` belongs to a column of numbers. It has two lines: the quantity, and the origin
    of the value.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class TableText(msgspec.Struct, frozen=True):
    """A table as sheets, with the reasons that its verdicts refer to by number."""

    sheets: tuple[TableSheet, ...]
    reasons: tuple[str, ...]


def lay_out(table: Table) -> TableText:
    """Return one sheet per section: for every figure the paper's value, ours, their ratio and the verdict."""
    numbers: dict[str, int] = {}
    for figures in table.sections:
        for line in table.rows:
            for figure in figures:
                if reason := line.cells[figure].reason:
                    numbers.setdefault(reason, len(numbers) + 1)
    sheets = tuple(_sheet(table, figures, numbers) for figures in table.sections)
    return TableText(sheets, tuple(numbers))


def summary(table: Table) -> str:
    """Return a line such as `Verdicts: agrees 56, differs 38, needs data 48.`"""
    counts = ", ".join(f"{verdict} {count}" for verdict, count in table.counts.items())
    needed = " Accuracies come from result files: --results FOLDER." if "needs data" in table.counts else ""
    return f"Verdicts: {counts}.{needed}"


def markdown(table: Table) -> str:
    """Return the table as a Markdown document."""
    layout = lay_out(table)
    parts = [f"# {table.title}", f"{table.source}. {table.remark}"]
    for sheet in layout.sheets:
        rules = ["---:" if heading.startswith(">") else "---" for heading in sheet.headings]
        headings = [heading.removeprefix(">").replace("\n", " ").strip() for heading in sheet.headings]
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in [headings, rules, *sheet.rows]))
    parts.append(summary(table))
    parts.append("\n".join(f"{number}. {reason}" for number, reason in enumerate(layout.reasons, 1)))
    return "\n\n".join(part for part in parts if part) + "\n"


def write_reproduction(made: Table | Figure, folder: str | os.PathLike[str]) -> list[Path]:
    """Write a table as JSON, Markdown and CSV, or a figure as SVG and PNG; return the files, which have its name.

    Raises:
        CompoundNetError: The folder has the name of a file, or it or a file cannot be written.
    """
    if Path(folder).suffix.lower() in _FILES and not Path(folder).is_dir():
        raise CompoundNetError(
            f"{folder}: {made.name} is written to a folder, as several files; give one. Only `compoundnet reproduce"
            " all` writes one file, .html"
        )
    if isinstance(made, Table):
        contents = {"json": json_document(made), "md": markdown(made).encode(), "csv": comma_separated(made).encode()}
    else:
        contents = {"svg": made.svg, "png": made.png}
    files = [make_folder(folder) / f"{made.name}.{ending}" for ending in contents]
    for file, content in zip(files, contents.values(), strict=True):
        write_whole(file, content)
    return files


def comma_separated(table: Table) -> str:
    """Return the table as CSV, one line per figure of a row, with all digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "network", "resolution", "figure", "printed", "measured", "ratio", "verdict", "reason"])
    for line in table.rows:
        for figure, cell in line.cells.items():
            writer.writerow(
                [
                    line.label,
                    line.network,
                    line.resolution,
                    figure,
                    cell.printed,
                    cell.measured,
                    cell.ratio,
                    cell.verdict,
                    cell.reason,
                ]
            )
    return text.getvalue()


def _sheet(table: Table, figures: tuple[str, ...], numbers: dict[str, int]) -> TableSheet:
    with_input = any(line.resolution is not None for line in table.rows)
    compared = {figure: any(line.cells[figure].ratio is not None for line in table.rows) for figure in figures}
    headings = [f"\n{table.columns['label']}", *([">\ninput"] if with_input else [])]
    for figure in figures:
        ratio = [f">\n{comparison_heading(table, figure)}"] if compared[figure] else []
        headings += [f">{table.columns[figure]}\npaper", ">\nours", *ratio, "\nverdict"]

    def row(line: TableRow) -> tuple[str, ...]:
        texts = [line.label, *([f"{line.resolution} px"] if with_input else [])]
        for figure in figures:
            cell = line.cells[figure]
            texts += [cell.printed or "-", cell.shown or "-", *([comparison(cell)] if compared[figure] else [])]
            texts.append(cell.verdict + (f" ({numbers[cell.reason]})" if cell.reason else ""))
        return tuple(texts)

    return TableSheet(tuple(headings), tuple(row(line) for line in table.rows))


def comparison(cell: TableCell) -> str:
    """Return ours over the paper's, such as `1.013`; for accuracies the difference in points, such as `+0.12`."""
    if cell.ratio is None:
        return "-"
    printed = digits.parse(cell.printed or "")
    if printed is not None and printed.unit == "%" and not isinstance(cell.measured, str | None):
        return f"{100 * (cell.measured - printed.amount):+.2f}"
    return f"{cell.ratio:.3f}"


def comparison_heading(table: Table, figure: str) -> str:
    """Return the heading of the column of `comparison` for a figure."""
    percent = any((line.cells[figure].printed or "").endswith("%") for line in table.rows)
    return "ours - paper" if percent else "ours/paper"
