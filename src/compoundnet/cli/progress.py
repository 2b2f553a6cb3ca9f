"""The progress display: a bar on stderr if that is a terminal, otherwise a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Self, TypeVar

from compoundnet.cli.output import note
from compoundnet.train.status import Epoch, Watcher

if TYPE_CHECKING:
    from rich.progress import Progress

Item = TypeVar("Item")
# Work on fewer items ends before a bar could be read.
_FEW = 20
# Seconds between two lines: a tenth of the time elapsed so far, within these bounds.
_SHORTEST, _LONGEST = 30.0, 600.0


class Display:
    """Progress of counted work, as a context manager around it.

    Args:
        what: The activity, such as "predicting".
        total: Number of items; None if `start` is called later.
        unit: The counted items, in the plural.
        quiet: Whether to show neither progress nor notes.
    """

    def __init__(self, what: str, total: int | None = None, unit: str = "images", *, quiet: bool = False) -> None:
        self._what, self._unit, self._quiet = what, unit, quiet
        self._bar: Progress | None = None
        if total is not None:
            self.start(total)

    def start(self, total: int, completed: int = 0) -> None:
        """Start counting, from zero if it was started before."""
        self._close()
        self._total, self._completed, self._first, self._detail = total, completed, completed, ""
        self._began = self._told = time.monotonic()
        if self._quiet or not sys.stderr.isatty():
            return
        from rich.console import Console  # noqa: PLC0415  where no bar is drawn, nobody waits for rich
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

        count = "{task.completed:,.0f} of {task.total:,.0f} " + self._unit
        self._bar = Progress(
            TextColumn(self._what), BarColumn(), TextColumn(count), TextColumn("{task.description}"),
            TimeRemainingColumn(), TextColumn("left"), console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self._bar.start()
        self._task = self._bar.add_task("", total=total, completed=completed)

    def advance(self, count: int = 1) -> None:
        """Count items that have just been finished."""
        self.reach(self._completed + count)

    def reach(self, completed: int, detail: str = "") -> None:
        """Set the number of finished items and the further values to show."""
        self._completed = completed
        if self._bar is not None:
            self._bar.update(self._task, completed=completed, description=detail)
        elif not self._quiet:
            now = time.monotonic()
            if now - self._told >= min(_LONGEST, max(_SHORTEST, (now - self._began) / 10)):
                self._told = now
                left = (now - self._began) / max(1, completed - self._first) * (self._total - completed)
                parts = [f"{self._what}: {completed:,} of {self._total:,} {self._unit}", detail]
                note(", ".join([*filter(None, parts), f"{duration(left)} left"]))

    def notify(self, text: str) -> None:
        """Write a line, above the bar if there is one."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            note(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def track(items: Iterable[Item], what: str, total: int, *, printing: bool = True) -> Iterator[Item]:
    """Yield the same items; show progress if there are many and the results are not printed to the terminal.

    Args:
        items: The items.
        what: The activity, such as "predicting".
        total: The number of items.
        printing: Whether results are printed to stdout.
    """
    with Display(what, total, quiet=total < _FEW or (printing and sys.stdout.isatty())) as display:
        for item in items:
            yield item
            display.advance()


class TrainingDisplay(Watcher):
    """Progress of a training run: steps with the loss and images per second, and a line per epoch."""

    def __init__(self, *, quiet: bool) -> None:
        self._display = Display("training", unit="steps", quiet=quiet)
        self._batch = self._steps = 0
        self._rate = self._last = 0.0

    def started(self, step: int, steps: int, batch: int) -> None:
        self._steps, self._batch, self._last, self._rate = steps, batch, time.monotonic(), 0.0
        if step:
            self._display.notify(f"resuming after step {step:,} of {steps:,}")
        self._display.start(steps, step)

    def stepped(self, step: int, loss: float) -> None:
        now = time.monotonic()
        rate = self._batch / max(1e-9, now - self._last)
        self._rate = rate if not self._rate else 0.95 * self._rate + 0.05 * rate
        self._last = now
        self._display.reach(step, f"loss {loss:.3f}, {self._rate:,.0f} images/s")

    def epoch_ended(self, epoch: Epoch) -> None:
        held = "" if epoch.held_top1 is None else f", held-out top-1 {epoch.held_top1:.2%}"
        left = (self._steps - epoch.step) * self._batch / epoch.images_per_second
        self._display.notify(
            f"epoch {epoch.epoch}: step {epoch.step:,} of {self._steps:,}, loss {epoch.loss:.4f},"
            f" top-1 {epoch.top1:.2%}{held}, {epoch.images_per_second:,.0f} images/s, {duration(left)} left"
        )
        self._last = time.monotonic()

    def notify(self, text: str) -> None:
        self._display.notify(text)

    def __enter__(self) -> Self:
        self._display.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._display.__exit__(*exception)


def duration(seconds: float) -> str:
    """Return a duration in words, such as "3 min 20 s"."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {seconds:.0f} s" if minutes else f"{seconds:.0f} s"
