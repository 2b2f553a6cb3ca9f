"""The look of all plots: sizes, type, colours and axes. Equal inputs give equal bytes.

Plots are 1600 px wide and stay legible at 600 px. Colours are Okabe & Ito's, which colour-blind readers distinguish.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from compoundnet.base.table_files import utf8
from compoundnet.plots.fonts import families

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

OKABE_ITO = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
}
INK, QUIET, GRID = "#1a1a1a", "#5c5c5c", "#e3e3e3"
DPI = 200
WIDTH = 8.0  # inches

_STYLE: Any = {  # matplotlib's type for this lists every key
    "font.size": 12,
    "axes.titlesize": 14,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.labelsize": 12,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "svg.hashsalt": "compoundnet",
    "text.parse_math": False,  # a name of a class may hold $
}


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """A finished drawing.

    Attributes:
        name: The name of its files.
        title: The title above it.
        description: Its content in words.
        points: The plotted points, as plain data.
        svg: The plot as SVG. Equal inputs give equal bytes.
        png: The plot as PNG, likewise.
    """

    name: str
    title: str
    description: str
    points: list[dict[str, Any]]
    svg: bytes
    png: bytes


@contextmanager
def canvas(height: float, texts: Iterable[str] = (), margins: Mapping[str, float] | None = None) -> Iterator[Canvas]:
    """Yield a drawing surface of the common width in the common style.

    Args:
        height: In inches.
        texts: Texts of the plot in any script, such as the names of classes.
        margins: As `Figure.subplots_adjust` takes them; by default those that the texts need.
    """
    import matplotlib as mpl  # noqa: PLC0415  takes half a second, and only drawing needs it
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    # Fonts of the machine may have one weight only, of which matplotlib would warn for each text.
    finder = logging.getLogger("matplotlib.font_manager")
    level = finder.level
    finder.setLevel(logging.ERROR)
    try:
        with mpl.rc_context({**_STYLE, "font.family": families(texts)}):
            figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout=None if margins else "constrained")
            if margins:
                figure.subplots_adjust(**margins)
            FigureCanvasAgg(figure)  # no window, no display
            yield figure
    finally:
        finder.setLevel(level)


def encode(figure: Canvas, description: str) -> tuple[bytes, bytes]:
    """Return (SVG, PNG). The description becomes the alternative text; no date is written."""
    png, svg = encode_png(figure, description), io.BytesIO()
    figure.set_layout_engine("none")  # found for the PNG; to find it again would take as long as to draw
    figure.savefig(svg, format="svg", metadata={"Date": None, "Description": utf8(description), "Creator": None})
    return svg.getvalue(), png


def encode_png(figure: Canvas, description: str) -> bytes:
    """Return the figure as PNG, with the description as its text; no date is written."""
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata={"Description": utf8(description), "Software": None})
    return png.getvalue()


def log_axis(axes: Axes, name: Literal["x", "y"], amounts: Sequence[float], text: Callable[[float], str]) -> None:
    """Make an axis logarithmic, with room for labels beyond the amounts, and ticks that `text` writes.

    Ticks are at 1, 2 and 5 times the powers of ten, and also between them if fewer than three of those are in range.
    """
    from matplotlib.ticker import FixedLocator, NullLocator  # noqa: PLC0415  slow; only drawing needs matplotlib

    low, high = min(amounts) / 1.5, max(amounts) * 1.65
    getattr(axes, f"set_{name}scale")("log")
    getattr(axes, f"set_{name}lim")(low, high)
    ticks: list[float] = []
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        if len(ticks) < 3:
            ticks = [
                step * 10.0**power for power in range(-3, 13) for step in steps if low <= step * 10.0**power <= high
            ]
    axis = axes.xaxis if name == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_ticklabels([text(tick) for tick in ticks])


def count_axis(axes: Axes, name: Literal["x", "y"], amounts: Sequence[float]) -> None:
    """Make an axis logarithmic, for counts, written `20M` and `0.5B`."""
    unit, suffix = (1e9, "B") if max(amounts) * 1.65 > 2e9 else (1e6, "M")
    log_axis(axes, name, amounts, lambda tick: f"{tick / unit:g}{suffix}")
