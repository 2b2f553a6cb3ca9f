"""The report as a page: the input of the template (templates/report.html.j2)."""

from __future__ import annotations

import datetime
import io
import shlex
from collections.abc import Sequence
from typing import Any

from PIL import Image

from compoundnet.base import format_bytes, format_count
from compoundnet.base.machine import free_memory
from compoundnet.paper.formats import comparison, comparison_heading, lay_out
from compoundnet.paper.report_sections import VERDICTS, ReportSection, total
from compoundnet.paper.reproduction import Figure, Table, TableCell
from compoundnet.paper.results import Results
from compoundnet.plots.pages import data_address, jpeg_address, page_templates
from compoundnet.runtime.timing.rounds import setting

# A larger drawing consists of images and is embedded as JPEG, because the whole page must stay below 5 MB.
_LARGE = 700_000
# Verdict -> (sign, meaning).
MEANINGS = {
    "agrees": ("✓", "ours, rounded to the printed digits, is the printed number; of a figure: its claim holds"),
    "surpasses": ("▲", "ours is better than printed"),
    "differs": ("≠", "ours is not the printed number; the note gives the reason, where one is known"),
    "other machine": ("⇄", "seconds on this machine beside seconds on the paper's: they are not comparable"),
    "needs data": ("○", "not measured yet; a result file or a study given with --results fills it"),
    "not printed": ("–", "the paper prints no number here; of a figure: its claim is judged by eye"),
}
# The words for table cells and for claims of figures: (singular, plural).
_PHRASES = {
    "Tables": {
        "agrees": ("agrees to the printed digits", "agree to the printed digits"),
        "surpasses": ("is surpassed", "are surpassed"),
        "differs": ("differs", "differ"),
        "other machine": ("was timed on another machine", "were timed on another machine"),
        "needs data": ("needs data", "need data"),
    },
    "Figures": {
        "agrees": ("holds by the measurements", "hold by the measurements"),
        "differs": ("does not", "do not"),
        "needs data": ("needs data", "need data"),
        "not printed": ("is judged by eye", "are judged by eye"),
    },
}


def render(sections: Sequence[ReportSection], results: Results, quick: bool) -> bytes:
    """Return the HTML file: self-contained, without a script."""
    kinds = {
        "Tables": [section for section in sections if section.name.startswith("table")],
        "Figures": [section for section in sections if section.name.startswith("figure")],
    }
    page = (
        page_templates("compoundnet.paper")
        .get_template("report.html.j2")
        .render(
            kinds=kinds,
            totals={kind: total(of_kind) for kind, of_kind in kinds.items()},
            phrases=_PHRASES,
            verdicts=VERDICTS,
            meanings=MEANINGS,
            views={section.name: view(section) for section in sections},
            skipped=sum(section.skipped for section in sections),
            failed=[section for section in sections if section.problem],
            left_out=[section for section in sections if section.made is None and not section.problem],
            evaluations=results.evaluations,
            studies=results.studies,
            command=_command(results, quick),
            made_at=datetime.datetime.now(datetime.UTC).isoformat(sep=" ", timespec="minutes"),
            machine=machine(),
        )
    )
    return page.encode()


def view(section: ReportSection) -> dict[str, Any]:
    """Return the further values that the template needs for a section."""
    if isinstance(section.made, Table):
        layout = lay_out(section.made)
        numbers = {reason: number for number, reason in enumerate(layout.reasons, 1)}
        return {"sheets": [_sheet(section.made, figures, numbers) for figures in section.made.sections],
                "reasons": layout.reasons}  # fmt: skip
    if isinstance(section.made, Figure):
        return {"image": drawing_address(section.made), "points": _points(section.made)}
    return {}


def drawing_address(figure: Figure) -> str:
    """Return the drawing as a data address: SVG, or JPEG if the SVG is large."""
    if len(figure.svg) <= _LARGE:
        return data_address(figure.svg, "image/svg+xml")
    with Image.open(io.BytesIO(figure.png)) as image:
        return jpeg_address(image)


def machine() -> dict[str, str]:
    """Return the machine and versions that the measurements depend on."""
    found, free = setting(threads=1, batch=1), free_memory()
    load = f", load {found.load_average:.1f} when the report was finished" if found.load_average is not None else ""
    return {
        "processor": f"{found.processor}, {found.cores} cores{load}",
        **({"memory": f"{format_bytes(free)} free"} if free is not None else {}),
        "system": found.system,
        **found.versions,
    }


def _sheet(table: Table, figures: tuple[str, ...], numbers: dict[str, int]) -> dict[str, Any]:
    with_input = any(line.resolution is not None for line in table.rows)
    columns = [
        {
            "heading": table.columns[figure],
            "comparison": comparison_heading(table, figure)
            if any(line.cells[figure].ratio is not None for line in table.rows)
            else "",
        }
        for figure in figures
    ]
    rows = [
        {
            "label": line.label,
            "input": f"{line.resolution} px" if line.resolution is not None else "–",
            "cells": [_cell(line.cells[figure], numbers) for figure in figures],
        }
        for line in table.rows
    ]
    return {"label": table.columns["label"], "with_input": with_input, "columns": columns, "rows": rows}


def _cell(cell: TableCell, numbers: dict[str, int]) -> dict[str, Any]:
    return {
        "printed": cell.printed or "–",
        "shown": cell.shown or "–",
        "comparison": comparison(cell).replace("-", "–" if cell.ratio is None else "−"),
        "verdict": cell.verdict,
        "note": numbers.get(cell.reason),
    }


def _points(figure: Figure) -> dict[str, Any]:
    """The figure's numbers as a table; missing values of a point are left empty."""
    columns = list(dict.fromkeys(name for point in figure.points for name in point))
    rows = [[_shown(name, point.get(name)) for name in columns] for point in figure.points]
    return {"columns": [name.replace("_", " ") for name in columns], "rows": rows}


def _shown(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and (name.startswith("top1") or name == "accuracy"):
        return f"{value:.2%}"
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 10_000:
        return format_count(value)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _command(results: Results, quick: bool) -> str:
    given = f" --results {shlex.quote(str(results.folder))}" if results.folder is not None else ""
    return f"compoundnet reproduce all{given}{' --quick' if quick else ''} -o report.html"
