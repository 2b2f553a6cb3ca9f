"""A worker, which runs one trial after the other in `study.optimize` until every position of the search is finished."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import optuna
from optuna.exceptions import UpdateFinishedTrialError

from compoundnet.base.progress import Notify, ignore
from compoundnet.trials.positions import Presence, counted, prepare_next

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from compoundnet.trials.studies import OpenedStudy

# Seconds between checks of trials that other workers run.
_POLL = 0.5


class Judge(Protocol):
    """The evaluation of trials by a search."""

    def values(self, trial: optuna.Trial) -> Sequence[float]:
        """Return the values of the trial, one for each direction.

        Raises:
            optuna.TrialPruned: The trial ended early; it counts.
        """

    def describe(self, trial: FrozenTrial) -> str:
        """Return a one-line description of a finished trial."""


def work(
    opened: OpenedStudy[Any], judge: Judge, *, notify: Notify = ignore, go_on: Callable[[], bool] = lambda: True
) -> int:
    """Work until every position is finished. While other workers run the last trials, wait, in
    case one of them dies.

    Args:
        judge: Evaluates the trials.
        notify: Called with a line for each trial that this worker has finished.
        go_on: Called before each trial; the worker ends when it returns False.

    Returns:
        The number of trials that this worker has finished.

    Raises:
        CompoundNetError: The storage is lost, or the judge raised it. Another worker then repeats the trial.
    """
    finished = 0
    with opened.database.readable_errors(), Presence(opened.database) as presence:
        while go_on():
            with contextlib.ExitStack() as turn:
                turn.enter_context(opened.database.lock())
                next_ = prepare_next(opened.database, opened.study, opened.settings.trials(), opened.settings.params())
                if next_ == "waiting":
                    finished += _run(opened, judge, presence, turn, notify)
            if next_ == "finished":
                break
            if next_ == "running":
                time.sleep(_POLL)
    return finished


def _run(
    opened: OpenedStudy[Any], judge: Judge, presence: Presence, turn: contextlib.ExitStack, notify: Notify
) -> bool:
    """Run the waiting trial; return whether it counts as a trial of this worker."""
    objective = _Objective(opened, judge, presence, turn)
    # A new sampler for each trial, so that its draws do not depend on state of this process.
    opened.study.sampler = opened.settings.sampler()
    try:
        opened.study.optimize(objective, n_trials=1)
    except (ValueError, AssertionError):
        # optuna reports that the trial has failed meanwhile: this worker was presumed dead, and another repeats the
        # trial.
        if not objective.answered:
            raise
        return False
    trials = opened.study.get_trials(deepcopy=False)
    notify(line(opened, judge, trials[objective.number], len(counted(trials))))
    return True


class _Objective:
    """The function that optuna calls with the trial. `answered`: whether it ended without an error."""

    def __init__(self, opened: OpenedStudy[Any], judge: Judge, presence: Presence, turn: contextlib.ExitStack) -> None:
        self._opened, self._judge, self._presence, self._turn = opened, judge, presence, turn
        self.number, self.answered = -1, False
        opened.database.expect_heartbeat()

    def __call__(self, trial: optuna.Trial) -> Sequence[float]:
        self.number = trial.number
        try:
            self._presence.mark(trial)
            self._opened.database.await_heartbeat()
            self._turn.close()  # from now on other workers may take a trial
            values = self._judge.values(trial)
        except (optuna.TrialPruned, UpdateFinishedTrialError):
            self.answered = True
            raise
        self.answered = True
        return values


def line(opened: OpenedStudy[Any], judge: Judge, trial: FrozenTrial, done: int) -> str:
    """Return the line reported for a finished trial; `done` is the number of finished trials."""
    return f"{done:,} of {opened.settings.trials():,}: {judge.describe(trial)}"
