"""Figure 7: class activation maps of the five networks of Table 7, as trained and kept by a study."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from compoundnet.base import CompoundNetError
from compoundnet.data import open_dataset
from compoundnet.explain import Page, grid
from compoundnet.models import open_model
from compoundnet.paper.printed import PrintedFigure, printed_figure, printed_table
from compoundnet.paper.reproduction import Figure, drawn_figure
from compoundnet.paper.results import Results
from compoundnet.plots.canvas import GRID, INK, QUIET, canvas, encode
from compoundnet.search.study.settings import BASELINE

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from compoundnet.search.study.folder import StudyFolder

ROWS = 4
COMMAND = "compoundnet search study NETWORK DATA --figure 8 -o RESULTS/figure8"
# No verdict, because the claim is about visual judgement.
_BY_EYE = "The paper prints no numbers with these maps, so the reader judges the claim by eye."


def activation_maps(name: str, results: Results) -> Figure:
    """Figure 7: a row for each test image of the study, a column for each network.

    Without trained networks the frames are empty and say so, because maps of random weights would look like a result.
    """
    printed, studies = printed_figure(name), results.of_figure(8)
    for study in reversed(studies):
        models = _models(study)
        if models:
            return _maps(name, printed, study, models)
    lacking = "holds no model of each way of scaling (with --storage none is kept). "
    why = "" if not studies else f"{studies[-1].folder} {lacking}"
    return _missing(name, printed, why)


def _models(study: StudyFolder) -> dict[str, Path]:
    """Way of scaling -> the model folder of its most expensive network; empty if one is missing."""
    settings = study.study
    found: dict[str, Path] = {}
    # A network may be on several lines: the baseline, or one that two ways of scaling have in common.
    networks = {"baseline": [settings.at(BASELINE)]} | {
        line.name: [place for place in settings.curve(line.name) if place.multipliers != BASELINE]
        for line in settings.lines.lines
    }
    for line, places in networks.items():
        kept = [model for place in places if (model := study.model(place)) is not None]
        if not kept:
            return {}
        found[line] = kept[-1]
    return found


def _maps(name: str, printed: PrintedFigure, study: StudyFolder, models: dict[str, Path]) -> Figure:
    images, labels = _test_images(study)
    opened = {line: open_model(folder) for line, folder in models.items()}
    titles = [f"{line}, {model.preprocess.size} px" for line, model in opened.items()]
    drawn = grid(list(opened.values()), images, classes=labels, titles=titles, backend="torch")
    where = f"the networks of the study {study.folder}, trained on {study.study.data} with seed {study.study.seed}"
    drawn = drawn._replace(description=f"{printed.title}, of {where}. {drawn.description}")
    points: list[dict[str, Any]] = [
        {"way": line, "network": model.network.name, "model": str(models[line])} for line, model in opened.items()
    ]
    return drawn_figure(
        name, printed, (_svg(drawn), drawn.png()), description=drawn.description, points=points,
        verdict="not printed", reason=f"Drawn from {where}. {_BY_EYE}",
    )  # fmt: skip


def _test_images(study: StudyFolder) -> tuple[list[Image.Image], list[str]]:
    """The first test image of each of the first classes, and the classes; none is chosen by hand."""
    # Whether files were missing at its start, the study does not tell; each of its images has one class.
    dataset = open_dataset(study.study.data, allow_missing=True, labels="one")
    split = dataset.split(dataset.evaluation)
    first: dict[int, int] = {}
    for index, label in enumerate(split.labels.tolist()):
        first.setdefault(label, index)
    chosen = sorted(label for label in first if label >= 0)[:ROWS]
    if not chosen:
        raise CompoundNetError(f"{study.study.data} has no test image of a known class to explain")
    return [split.image(first[label]) for label in chosen], [split.classes[label] for label in chosen]


def _svg(drawn: Page) -> bytes:
    """The page as SVG around a JPEG, because images remain pixels."""
    width, height = drawn.image.size
    encoded = base64.b64encode(drawn.jpeg()).decode()
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f"<desc>{escape(drawn.description)}</desc>"
        f'<image width="{width}" height="{height}" href="data:image/jpeg;base64,{encoded}"/></svg>'
    ).encode()


def _missing(name: str, printed: PrintedFigure, why: str) -> Figure:
    """Empty frames for the five networks, and how to fill them."""
    rows = printed_table("table7").rows
    reason = (
        f"{why}It takes the five networks of Table 7, trained: {COMMAND}; then --results RESULTS. For models that you"
        " already have: compoundnet explain MODEL MODEL... --grid -- IMAGE..."
    )
    description = (
        f"{printed.title}: five empty frames, for {', '.join(row.label for row in rows)}. Needs data. {reason}"
    )
    with canvas(height=3.1) as surface:
        surface.suptitle(printed.title, x=0.008, ha="left", fontweight="bold", fontsize=14)
        for axes, row in zip(surface.subplots(1, len(rows)), rows, strict=True):
            axes.set_title(row.label.replace(" (", "\n(").replace(", r", ",\nr"), loc="center", fontsize=10.5,
                           fontweight="normal")  # fmt: skip
            axes.set(xticks=[], yticks=[], box_aspect=1)
            axes.spines[:].set(visible=True, color=QUIET, linestyle=(0, (4, 4)))
            axes.set_facecolor(GRID)
            axes.text(0.5, 0.5, "needs data", transform=axes.transAxes, ha="center", va="center", color=INK)
        surface.supxlabel(f"No trained networks were given. This makes them:\n{COMMAND}", fontsize=10.5, color=INK)
        drawing = encode(surface, description)
    return drawn_figure(name, printed, drawing, description=description, points=[], verdict="needs data", reason=reason)
