"""What a training run shows on stderr: a bar with images a second and the time left, and a line an epoch."""

from __future__ import annotations

import sys
import time
from typing import Any

from compoundnet.cli.output import note
from compoundnet.train.status import Epoch, Watcher


class Bar(Watcher):
    """Enter it around the run. The bar is drawn where stderr is a terminal; the lines are always written."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._progress: Any = None
        self._batch = self._steps = 0
        self._rate = self._last = 0.0

    def started(self, step: int, steps: int, batch: int) -> None:
        self._steps, self._batch, self._last, self._rate = steps, batch, time.monotonic(), 0.0
        if self._quiet:
            return
        if step:
            note(f"going on after step {step:,} of {steps:,}")
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._close()
        self._progress = Progress(
            TextColumn("step {task.completed:,} of {task.total:,}"), BarColumn(), TextColumn("{task.description}"),
            TimeRemainingColumn(), TextColumn("left"), console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self._progress.start()
        self._task = self._progress.add_task("", total=steps, completed=step)

    def stepped(self, step: int, loss: float) -> None:
        if self._progress is None:
            return
        now = time.monotonic()
        rate = self._batch / max(1e-9, now - self._last)
        self._rate = rate if not self._rate else 0.95 * self._rate + 0.05 * rate
        self._last = now
        self._progress.update(self._task, completed=step, description=f"loss {loss:.3f}, {self._rate:,.0f} images/s")

    def epoch_ended(self, epoch: Epoch) -> None:
        held = "" if epoch.held_top1 is None else f", held-out top-1 {epoch.held_top1:.2%}"
        left = (self._steps - epoch.step) * self._batch / epoch.images_per_second
        self.notify(
            f"epoch {epoch.epoch}: step {epoch.step:,} of {self._steps:,}, loss {epoch.loss:.4f},"
            f" top-1 {epoch.top1:.2%}{held}, {epoch.images_per_second:,.0f} images/s, {_duration(left)} left"
        )
        self._last = time.monotonic()

    def notify(self, text: str) -> None:
        if self._quiet:
            return
        if self._progress is not None:
            self._progress.console.print(text, highlight=False, markup=False)
        else:
            note(text)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {seconds:.0f} s" if minutes else f"{seconds:.0f} s"
