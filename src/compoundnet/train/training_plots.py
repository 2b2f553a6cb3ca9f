"""The plots of a run and of an evaluation: learning curves and the confusion matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compoundnet.plots.canvas import INK, OKABE_ITO, canvas, encode_png
from compoundnet.plots.fonts import legible
from compoundnet.train.status import Epoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A confusion matrix with more classes has no labels, because they would overlap.
_NAMED = 40
# A confusion matrix with more classes has no counts in its cells.
_COUNTED = 15


def draw_curves(history: list[Epoch], title: str) -> bytes:
    """Draw loss, accuracy and learning rate by epoch, as PNG."""
    (shown,) = legible([title], ["a run"], "titles")
    # Every training draws them, and to find the margins would take as long as to draw.
    margins = {"left": 0.135, "right": 0.985, "bottom": 0.075, "top": 0.94, "hspace": 0.14}
    with canvas(height=7.6, texts=[shown], margins=margins) as surface:
        loss, top1, rate = surface.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2))
        _curve(loss, history, "loss", "training (augmented, smoothed)", "blue")
        _curve(loss, history, "held_loss", "held out", "vermillion")
        several = any(epoch.held_map is not None for epoch in history)
        _curve(top1, history, "top1", "training (augmented)", "blue", scale=100)
        _curve(top1, history, "held_map" if several else "held_top1", "held out", "vermillion", scale=100)
        _curve(rate, history, "lr", "learning rate", "green")
        accuracy = "held out: mAP, training:\nall labels right [%]" if several else "top-1 [%]"
        for axes, name in ((loss, "loss"), (top1, accuracy), (rate, "learning rate")):
            axes.set_ylabel(name)
        surface.align_ylabels()
        loss.legend(fontsize=10, frameon=False)
        loss.set_title(shown)
        rate.set_xlabel("epoch")
        rate.xaxis.get_major_locator().set_params(integer=True)
        if len(history) == 1:  # matplotlib would mark tenths of an epoch
            rate.set_xticks([history[0].epoch])
        return encode_png(surface, f"Learning curves: {title}")


def draw_confusion(confusion: NDArray[np.int64], labels: tuple[str, ...], title: str) -> bytes:
    """Draw a confusion matrix as PNG.

    Args:
        confusion: int64[true class, predicted class]. Each row is drawn in fractions of its sum, with the counts if
            there are few classes; classes without images or predictions are omitted.
        labels: Class names.
        title: Above the plot.
    """
    present = np.flatnonzero(confusion.sum(1) + confusion.sum(0))
    matrix = confusion[np.ix_(present, present)]
    shares = matrix / np.maximum(1, matrix.sum(1, keepdims=True))
    named: list[int] = present.tolist() if len(present) <= _NAMED else []
    names = legible([labels[number] for number in named], [f"class {number}" for number in named], "classes")
    (shown,) = legible([title], ["an evaluation"], "titles")
    with canvas(height=7.2, texts=[shown, *names]) as surface:
        axes = surface.subplots()
        axes.grid(visible=False)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        surface.colorbar(image, label="share of the true class")
        axes.set(xlabel="predicted", ylabel="true", title=shown)
        if len(present) <= _NAMED:
            size = 10 if len(present) <= _NAMED // 2 else 7
            axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
            axes.set_yticks(range(len(names)), names, fontsize=size)
        if len(present) <= _COUNTED:
            for (row, column), count in np.ndenumerate(matrix):
                if count:
                    ink = "white" if shares[row, column] > 0.5 else INK
                    axes.text(column, row, f"{count:,}", ha="center", va="center", color=ink, fontsize=10)
        return encode_png(surface, f"Confusion matrix: {title}")


def _curve(axes: Axes, history: list[Epoch], field: str, label: str, colour: str, scale: float = 1) -> None:
    points = [(epoch.epoch, getattr(epoch, field)) for epoch in history if getattr(epoch, field) is not None]
    if points:
        x, y = [x for x, _ in points], [y * scale for _, y in points]
        axes.plot(x, y, marker=".", label=label, color=OKABE_ITO[colour])
