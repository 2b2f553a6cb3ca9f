"""What one call of `fit` was asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from compoundnet.base import Notify, Progress
from compoundnet.data import Dataset
from compoundnet.fit.starts import StartingModels
from compoundnet.fit.state import Fit, fit_folder, work_folder

# Asked before the race starts, with what it is about to do.
Confirm = Callable[[str], bool]


class FitJob(NamedTuple):
    """What one call of `fit` was asked for, which no step changes.

    Attributes:
        dataset: The data.
        target: The model folder of the answer.
        identity: The identity of the images.
        starts: The models of the candidates.
        began: When it began, by `time.monotonic`.
        seconds: The time for all of it; None: all candidates are screened, and none is fine-tuned.
        deadline: The time, by `time.time`, at which an answer is wanted; infinite if `seconds` is None.
        workers: The number of fine-tunings at a time.
        storage: A PostgreSQL URL for the race.
        seed: The seed of the fine-tunings.
        confirm: Asked before a race, unless an earlier call has begun it.
        progress: Called with the number of images whose features are computed.
        notify: Called with a line for each choice.
    """

    dataset: Dataset
    target: Path
    identity: str
    starts: StartingModels
    began: float
    seconds: float | None
    deadline: float
    workers: int
    storage: str | None
    seed: int
    confirm: Confirm
    progress: Progress
    notify: Notify

    def told(self, state: Fit, text: str, *, passing: bool = False) -> Fit:
        """Say something, and return the state with it as a note; `passing` if it is of this call alone."""
        self.notify(text)
        return state.noted(text, passing=passing)

    @property
    def folder(self) -> Path:
        """The folder of the results and the report."""
        return fit_folder(self.target)

    @property
    def work(self) -> Path:
        """The folder of what is made of these images alone."""
        return work_folder(self.target, self.identity)
