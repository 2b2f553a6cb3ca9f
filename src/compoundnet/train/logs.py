"""The log of a run: log.csv with a line an epoch, TensorBoard's files, and the learning curves as a picture."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from compoundnet.base import write_whole
from compoundnet.train.status import Epoch

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

    @contextlib.contextmanager
    def writing(self, step: int) -> Iterator[None]:
        """While entered, goes on after `step`; TensorBoard drops what an interrupted run wrote beyond it."""
        if self._folder is None:
            yield
            return
        hook = threading.excepthook
        # TensorBoard writes in a thread of its own. What that fails at is raised here too, and said by `_attempt`.
        threading.excepthook = lambda failure: None if _is_tensorboards(failure) else hook(failure)
        try:
            self._attempt(lambda: self._open(step))
            yield
        finally:
            if self._writer is not None:
                self._attempt(self._writer.close)
            threading.excepthook = hook

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
        values = {name: getattr(last, name) for name in ("top1", "held_loss", "held_top1", "images_per_second")}
        self._show(last.step, **{f"epoch/{name}": value for name, value in values.items() if value is not None})

    def _open(self, step: int) -> None:
        assert self._folder is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TensorBoard's own dependencies
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder / "tensorboard"), purge_step=step + 1)

    def _show(self, step: int, **values: float) -> None:
        """Points for TensorBoard."""

        def write() -> None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()

        if self._writer is not None:
            self._attempt(write)

    def _attempt(self, work: Callable[[], object]) -> None:
        """Training goes on without TensorBoard's files where they cannot be written, and says so."""
        try:
            work()
        except OSError as error:
            _log.warning("TensorBoard's files cannot be written (%s); going on without", error.strerror or error)
            self._writer = None


def _is_tensorboards(failure: threading.ExceptHookArgs) -> bool:
    return isinstance(failure.exc_value, OSError) and type(failure.thread).__module__.startswith("tensorboard.")


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
