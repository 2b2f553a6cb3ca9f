"""The progress display: a bar on stderr if that is a terminal, otherwise a line now and then."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Self, TypeVar

from compoundnet.base.units import format_duration
from compoundnet.cli.output import note, printable
from compoundnet.train.status import Epoch, Watcher

if TYPE_CHECKING:
    from rich.progress import Progress

    from compoundnet.train.summary import RunSummary

Item = TypeVar("Item")
# Work on fewer items ends before a bar could be read.
_FEW = 20
# Output that is no terminal gets a line this often, in seconds, also while nothing is finished.
_LINE_SECONDS = 30.0
# Rates and times left are measured over so many of the last seconds, or over so many counts if these take longer.
_WINDOW = 30.0
_COUNTS = 8
# Before so much time has been measured, an estimate is better than a measurement.
_ENOUGH = 2.0


class Speed:
    """Amounts of work over the last seconds."""

    def __init__(self, done: float) -> None:
        self._marks = deque([(time.monotonic(), done)])

    def mark(self, done: float) -> None:
        """Note how much is done now."""
        now = time.monotonic()
        self._marks.append((now, done))
        while len(self._marks) > _COUNTS and now - self._marks[1][0] > _WINDOW:
            self._marks.popleft()

    def per_second(self) -> float | None:
        """Return the work done per second; None before there is enough to measure."""
        (began, before), (now, after) = self._marks[0], self._marks[-1]
        elapsed = now - began
        return (after - before) / elapsed if elapsed > 0 and elapsed >= _ENOUGH and after > before else None


class Display:
    """Progress of counted work, as a context manager around it.

    Args:
        what: The activity, such as "predicting".
        total: Number of items; None if `start` is called later.
        unit: The counted items, in the plural.
        quiet: Whether to show neither progress nor notes.

    Attributes:
        notes: The lines that `note` has written.
    """

    def __init__(self, what: str, total: int | None = None, unit: str = "images", *, quiet: bool = False) -> None:
        self._what, self._unit, self._quiet = what, unit, quiet
        self._bar: Progress | None = None
        self._ended: threading.Event | None = None
        self._told = 0.0
        self.notes: list[str] = []
        if total is not None:
            self.start(total)

    def start(self, total: int, completed: int = 0, what: str | None = None, unit: str | None = None) -> None:
        """Start counting, from zero if it was started before; `what` and `unit` replace those given before."""
        self._close()
        self._what, self._unit = what or self._what, unit or self._unit
        self._total, self._completed, self._detail = total, completed, ""
        self._left: float | None = None
        self._reached = time.monotonic()
        self._speed = Speed(completed)
        self._told = time.monotonic()
        if self._quiet:
            return
        if not sys.stderr.isatty():
            self._ended = threading.Event()
            threading.Thread(target=self._tell_regularly, args=(self._ended,), daemon=True).start()
            return
        from rich.console import Console  # noqa: PLC0415  where no bar is drawn, nobody waits for rich
        from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

        count = "{task.completed:,.0f} of {task.total:,.0f} " + self._unit
        self._bar = Progress(
            TextColumn(self._what), BarColumn(), TextColumn(count), TextColumn("{task.description}"),
            console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self._bar.start()
        self._task = self._bar.add_task("", total=total, completed=completed)

    def advance(self, count: int = 1) -> None:
        """Count items that have just been finished."""
        self.reach(self._completed + count)

    def reach(self, completed: int, detail: str = "", left: float | None = None) -> None:
        """Set the number of finished items, further values to show, and the seconds that are left if the rate of these
        items does not show them."""
        self._completed, self._detail = completed, detail
        self._speed.mark(completed)
        rate = self._speed.per_second()
        self._left = (self._total - completed) / rate if left is None and rate else left
        self._reached = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=completed, description=", ".join(self._values()))

    def _values(self) -> list[str]:
        left = ""
        if self._left is not None:
            left = f"{format_duration(max(0.0, self._left - (time.monotonic() - self._reached)))} left"
        return [text for text in (self._detail, left) if text]

    def _tell_regularly(self, ended: threading.Event) -> None:
        while not ended.wait(max(0.1, self._told + _LINE_SECONDS - time.monotonic())):
            if time.monotonic() - self._told >= _LINE_SECONDS:
                self._told = time.monotonic()
                count = f"{self._what}: {self._completed:,} of {self._total:,} {self._unit}"
                note(", ".join([count, *self._values()]))

    def notify(self, text: str) -> None:
        """Write a line, above the bar if there is one."""
        if self._quiet:
            return
        self._told = time.monotonic()
        if self._bar is not None:
            self._bar.console.print(printable(text), highlight=False, markup=False, soft_wrap=True)
        else:
            note(text)

    def note(self, text: str) -> None:
        """Write a line that the result needs too, and keep it in `notes`."""
        self.notes.append(text)
        self.notify(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._ended is not None:
            self._ended.set()
            self._ended = None
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
    """Progress of a training run: its summary, steps with the loss and images per second, evaluations, and a line per
    epoch.

    Time left is counted in the seconds that the summary estimates for what is left, times how much slower or faster the
    last seconds were than estimated: steps of the classifier alone, other steps and evaluations take different
    times.

    Attributes:
        summary: The summary; None before there is one.
        notes: The lines that the run had shown to the user.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._display = Display("training", unit="steps", quiet=quiet)
        self._batch = self._steps = self._step = 0
        self._loss, self._slowness = "", 1.0
        self.summary: RunSummary | None = None
        self.notes: list[str] = []
        self._images, self._pace = Speed(0), Speed(0)

    def planned(self, summary: RunSummary) -> None:
        self.summary = summary
        for line in summary.lines():
            self._display.notify(line)

    def started(self, step: int, steps: int, batch: int) -> None:
        self._steps, self._batch, self._step, self._loss = steps, batch, step, ""
        if step:
            self._display.notify(f"resuming after step {step:,} of {steps:,}")
        self._show_steps()

    def stepped(self, step: int, loss: float) -> None:
        frozen = self.summary.frozen_steps if self.summary is not None else 0
        if step == frozen + 1:  # the first step of the other phase
            self._step = step
            self._show_steps()
        self._step, self._loss = step, f"loss {loss:.3f}"
        self._images.mark(step * self._batch)
        self._pace.mark(self._expected(step))
        rate = self._images.per_second()
        detail = ", ".join([self._loss, *([f"{rate:,.{1 if rate < 10 else 0}f} images/s"] if rate else [])])
        self._display.reach(step, detail, self._time_left())

    def epoch_ended(self, epoch: Epoch) -> None:
        if self.summary is not None and self.summary.several_labels:
            what, held = "all labels right", "" if epoch.held_map is None else f", held-out mAP {epoch.held_map:.2%}"
        else:
            what = "top-1"
            held = (
                ""
                if epoch.held_top1 is None
                else f", held-out {accuracies(epoch.held_top1, epoch.held_mean_per_class)}"
            )
        left = self._time_left()
        if left is None:
            left = (self._steps - epoch.step) * self._batch / epoch.images_per_second
        self._display.notify(
            f"epoch {epoch.epoch}: step {epoch.step:,} of {self._steps:,}, loss {epoch.loss:.4f},"
            f" {what} {epoch.top1:.2%}{held}, {epoch.images_per_second:,.0f} images/s, {format_duration(left)} left"
        )

    def evaluation_started(self, what: str, images: int) -> None:
        self._display.start(images, what=f"evaluating {what}", unit="images")

    def evaluated(self, images: int) -> None:
        self._display.advance(images)

    def evaluation_ended(self) -> None:
        if self._step < self._steps:
            self._show_steps()

    def notify(self, text: str) -> None:
        self.notes.append(text)
        self._display.notify(text)

    def __enter__(self) -> Self:
        self._display.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._display.__exit__(*exception)

    def _show_steps(self) -> None:
        """Show the steps again, after something else or in another phase."""
        frozen = self.summary.frozen_steps if self.summary is not None else 0
        stages = self.summary.frozen_stages if self.summary is not None else 0
        whole = "training all but the first layers" if stages else "training all layers"
        phase = "training the classifier" if self._step < frozen else whole if frozen else "training"
        self._display.start(self._steps, self._step, phase, "steps")
        self._images, self._pace = Speed(self._step * self._batch), Speed(self._expected(self._step))

    def _expected(self, step: int) -> float:
        """Return the estimated seconds of the first `step` steps."""
        seconds = self.summary.seconds if self.summary is not None else None
        if self.summary is None or seconds is None:
            return 0.0
        frozen = min(step, self.summary.frozen_steps)
        return frozen * seconds.frozen_step + (step - frozen) * seconds.step

    def _time_left(self) -> float | None:
        seconds = self.summary.seconds if self.summary is not None else None
        if self.summary is None or seconds is None:
            return None
        epochs = (self._steps - self._step) / self.summary.epoch_steps
        left = self._expected(self._steps) - self._expected(self._step) + epochs * seconds.evaluation + seconds.test
        pace = self._pace.per_second()
        if pace:
            self._slowness = 1 / pace
        return left * self._slowness


def accuracies(top1: float, mean_per_class: float | None) -> str:
    """Return top-1 accuracy in words, with the mean per class where it differs."""
    top, mean = f"{top1:.2%}", "" if mean_per_class is None else f"{mean_per_class:.2%}"
    return f"top-1 {top}" + (f", mean per class {mean}" if mean and mean != top else "")
