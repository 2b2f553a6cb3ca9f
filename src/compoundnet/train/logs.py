"""The log of a run: log.csv with a line an epoch, TensorBoard's files, and the learning curves as a picture."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from compoundnet.arch import write_whole
from compoundnet.train.watching import Epoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_log = logging.getLogger(__name__)
# Steps between points in TensorBoard.
_EVERY = 10


class Logs:
    """Written below `folder`; nothing at all where that is None (every process but the first)."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._writer: Any = None

    def start(self, step: int) -> None:
        """Go on after `step`; TensorBoard drops what an interrupted run wrote beyond it."""
        if self._folder is None:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TensorBoard's own dependencies
            from torch.utils.tensorboard import SummaryWriter

            self._folder.mkdir(parents=True, exist_ok=True)
            self._writer = SummaryWriter(str(self._folder / "tensorboard"), purge_step=step + 1)

    def step(self, step: int, loss: float, lr: float) -> None:
        """After a step."""
        if step % _EVERY == 0:
            self._show(step, loss=loss, lr=lr)

    def epoch(self, history: list[Epoch]) -> None:
        """After an epoch; the file is written anew from the whole history."""
        if self._folder is None:
            return
        write_whole(self._folder / "log.csv", as_csv(history))
        last = history[-1]
        values = {name: getattr(last, name) for name in ("top1", "held_loss", "held_top1", "pictures_per_second")}
        self._show(last.step, **{f"epoch/{name}": value for name, value in values.items() if value is not None})

    def _show(self, step: int, **values: float) -> None:
        """Write points for TensorBoard. Training goes on without it where they cannot be written, and says so."""
        if self._writer is None:
            return
        try:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
        except OSError as error:  # that of its thread, which writes
            _log.warning("TensorBoard's files cannot be written (%s); going on without", error.strerror or error)
            self._writer = None

    def __enter__(self) -> Logs:
        self._hook = threading.excepthook
        threading.excepthook = self._thread_failed
        return self

    def __exit__(self, *_: object) -> None:
        threading.excepthook = self._hook
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()

    def _thread_failed(self, failure: threading.ExceptHookArgs) -> None:
        """What TensorBoard's thread fails at is said by `_show`, without a traceback."""
        if type(failure.thread).__module__.startswith("tensorboard.") and isinstance(failure.exc_value, OSError):
            return
        self._hook(failure)


def as_csv(history: list[Epoch]) -> bytes:
    """A header and a line an epoch; what was not evaluated is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Epoch.__struct_fields__)
    for epoch in history:
        writer.writerow("" if value is None else value for value in msgspec.structs.astuple(epoch))
    return text.getvalue().encode()


def draw_curves(history: list[Epoch], title: str) -> bytes:
    """Loss, accuracy and learning rate by epoch, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    loss, top1, rate = FigureCanvasAgg(figure).figure.subplots(1, 3)
    _curve(loss, history, ("loss", "training (augmented, smoothed)"), ("held_loss", "held out"))
    _curve(top1, history, ("top1", "training (augmented)"), ("held_top1", "held out"), scale=100)
    _curve(rate, history, ("lr", ""))
    for axes, name in ((loss, "loss"), (top1, "top-1 [%]"), (rate, "learning rate")):
        axes.set(xlabel="epoch", title=name)
        axes.grid(alpha=0.3)
    loss.legend(fontsize=8)
    figure.suptitle(title)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def _curve(axes: Axes, history: list[Epoch], *series: tuple[str, str], scale: float = 1) -> None:
    for name, label in series:
        points = [(epoch.epoch, getattr(epoch, name)) for epoch in history if getattr(epoch, name) is not None]
        if points:
            axes.plot([x for x, _ in points], [y * scale for _, y in points], marker=".", label=label)
