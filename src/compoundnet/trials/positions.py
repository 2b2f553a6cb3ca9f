"""The trials of a study that count, the next trial to run, and the detection of dead workers.

A search has a fixed number of positions: the points of a list, or the proposals of a sampler. Each position counts
once, by its first finished trial. optuna gives a repeated trial a new number, so the position is stored as an attribute
of the trial.

The heartbeats of optuna reveal a dead worker on another machine after a while. They do not reveal a worker that was
killed between taking a trial and its first heartbeat, and optuna does not queue a trial again if its worker was
interrupted, or was killed while it handled a stale trial. `prepare_next` finds all of these cases. It runs under the
lock of the database, which a worker holds until its trial is marked with its name and the first heartbeat is stored.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from compoundnet.base.machine import cache_folder
from compoundnet.trials.database import StudyDatabase
from compoundnet.trials.settings import POSITION, WORKER, position

_COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)


class Presence:
    """The presence of a worker: a lock file, which the system releases when the process is killed.

    Enter it while the worker works. The file lies in the study's folder, or, for a study on a server, in this machine's
    cache, where only workers of this machine look.
    """

    def __init__(self, database: StudyDatabase) -> None:
        self.name = uuid.uuid4().hex
        self._path = _lock_file(database, self.name)
        self._lock = FileLock(self._path)

    def mark(self, trial: optuna.Trial) -> None:
        """Mark the trial as belonging to this worker."""
        trial.set_user_attr(WORKER, {"name": self.name, "host": socket.gethostname(), "pid": os.getpid()})

    def __enter__(self) -> Presence:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        self._path.unlink(missing_ok=True)


def counted(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that count: for each position the first complete or pruned trial, in order of position."""
    found: dict[int, FrozenTrial] = {}
    for trial in trials:
        if trial.state in _COUNTED:
            found.setdefault(position(trial), trial)
    return [found[number] for number in sorted(found)]


def prepare_next(
    database: StudyDatabase, study: optuna.Study, positions: int, params: Sequence[Mapping[str, float]]
) -> Literal["waiting", "running", "finished"]:
    """Queue the trial to run next. The caller must hold the lock of the database.

    Trials of dead workers are set to failed, and every position whose trials have all failed is queued again with the
    parameters drawn for it. If no trial waits then, the first position without a trial is queued. Trials therefore
    start in order of position, on which a sampler that learns from earlier trials depends.

    Args:
        positions: The number of positions.
        params: The parameters of each position, if they are known beforehand; shown by the tools of optuna.

    Returns:
        "waiting" if a trial waits for `study.optimize`; otherwise "running" while other workers run trials.
    """
    if database.folder is None:
        database.fail_stale(study)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        if _is_dead(database, trial.user_attrs.get(WORKER)):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    trials = study.get_trials(deepcopy=False)
    failed = {position(trial): trial for trial in trials if trial.state == TrialState.FAIL}
    begun = {position(trial) for trial in trials if trial.state != TrialState.FAIL}
    states = {trial.state for trial in trials}
    for number in sorted(failed.keys() - begun):
        database.retry(study, failed[number])
        states.add(TrialState.WAITING)
    if TrialState.WAITING in states:
        return "waiting"
    fresh = next((number for number in range(positions) if number not in begun), None)
    if fresh is not None:
        known = dict(params[fresh]) if params else {}
        study.add_trial(
            create_trial(
                state=TrialState.WAITING, user_attrs={POSITION: fresh}, params=known,
                distributions=_ranges(params) if params else {},
            )
        )  # fmt: skip
        return "waiting"
    return "running" if TrialState.RUNNING in states else "finished"


def _is_dead(database: StudyDatabase, worker: dict[str, Any] | None) -> bool:
    """Return whether the worker of a running trial is known to be dead."""
    if worker is None:  # killed before it marked the trial: a living worker would hold the lock
        return True
    path = _lock_file(database, worker["name"])
    if database.folder is None and (worker["host"] != socket.gethostname() or not path.exists()):
        return False  # on another machine, where only heartbeats show that it is alive
    try:
        with FileLock(path, blocking=False):
            path.unlink(missing_ok=True)
            return True
    except Timeout:
        return False


def _lock_file(database: StudyDatabase, worker: str) -> Path:
    folder = database.folder if database.folder is not None else cache_folder()
    return folder / "workers" / f"{worker}.lock"


def _ranges(params: Sequence[Mapping[str, float]]) -> dict[str, BaseDistribution]:
    values = {name: [point[name] for point in params] for name in params[0]}
    return {name: FloatDistribution(min(some), max(some)) for name, some in values.items()}
