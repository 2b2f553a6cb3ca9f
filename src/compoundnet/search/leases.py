"""Who works on which trial. A trial waits, is leased by one worker, and is finished once, or goes back to waiting
under its own number when its worker is gone.

All changes happen under the study's lock, so that each sees the whole of the one before, whatever was killed in
between. A worker of this machine is known to be gone at once (the system has let go of its lock file); one of another
machine when its heartbeats stop. No clocks are compared: whoever watches times the beats by a clock of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from compoundnet.base.cache import cache_folder

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from compoundnet.search.storage import Opened

# Seconds between heartbeats, and without one after which a worker on another machine is held for gone.
BEAT, PATIENCE = 10.0, 90.0
_LEASE = "lease"
_log = logging.getLogger(__name__)


class Holder:
    """A worker as others see it. Enter it for as long as it works."""

    def __init__(self) -> None:
        self.name = uuid.uuid4().hex
        self._lock = FileLock(_lock_file(self.name))

    def __enter__(self) -> Holder:
        Path(self._lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        Path(self._lock.lock_file).unlink(missing_ok=True)


class Watch:
    """Remembers when each worker's heartbeat last changed."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._seen: dict[int, tuple[object, float]] = {}

    def is_stale(self, number: int, lease: dict[str, Any]) -> bool:
        """Whether the lease of a trial has looked like this for too long."""
        now, beat = time.monotonic(), (lease["worker"], lease["beat"])
        if self._seen.get(number, (None, 0.0))[0] != beat:
            self._seen[number] = (beat, now)
        return now - self._seen[number][1] > self._patience


class Heart:
    """Beats for a leased trial while it is entered."""

    def __init__(self, opened: Opened, holder: Holder, number: int, every: float) -> None:
        self._opened, self._holder, self._number, self._every = opened, holder, number, every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Heart:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        store, number = self._opened.store, self._number
        while not self._stop.wait(self._every):
            try:
                with store.lock():
                    trial_id = _id(self._opened, number)
                    lease = _lease(store.database.get_trial(trial_id))
                    if lease is None or lease["worker"] != self._holder.name:
                        return
                    store.database.set_trial_system_attr(trial_id, _LEASE, lease | {"beat": lease["beat"] + 1})
            except Exception as error:  # a server that is away for a moment: the next beat may reach it
                _log.warning("%s: a heartbeat was missed: %s", store.where, type(error).__name__)
        store.database.remove_session()


def take(opened: Opened, holder: Holder, watch: Watch) -> int | None:
    """Lease the waiting trial of the lowest number, or None. Trials whose worker is gone wait again first."""
    from optuna.trial import TrialState

    database = opened.store.database
    with opened.store.lock():
        _reclaim(opened, watch)
        waiting = _trials(opened, TrialState.WAITING)
        if not waiting:
            return None
        number = min(trial.number for trial in waiting)
        trial_id = _id(opened, number)
        # First the lease, then the state: a running trial always has a worker that can be asked after.
        lease: dict[str, Any] = {"worker": holder.name, "host": socket.gethostname(), "pid": os.getpid(), "beat": 0}
        database.set_trial_system_attr(trial_id, _LEASE, lease)
        database.set_trial_state_values(trial_id, TrialState.RUNNING)
        return number


def give_back(opened: Opened, holder: Holder, number: int) -> None:
    """Let the trial wait again, if it is still this worker's."""
    from optuna.trial import TrialState

    with opened.store.lock():
        if _is_held(opened, holder, number):
            opened.store.database.set_trial_state_values(_id(opened, number), TrialState.WAITING)


def finish(
    opened: Opened,
    holder: Holder,
    number: int,
    *,
    attributes: dict[str, Any],
    values: Sequence[float] | None = None,
    state: optuna.trial.TrialState | None = None,
) -> bool:
    """Tell the study a trial's values, or that it was pruned. False where the trial is no longer this worker's: then
    whoever has it now finishes it, and nothing is told twice."""
    with opened.store.lock():
        if not _is_held(opened, holder, number):
            return False
        for name, value in attributes.items():
            opened.store.database.set_trial_user_attr(_id(opened, number), name, value)
        opened.study.tell(number, values, state=state)
        return True


def _reclaim(opened: Opened, watch: Watch) -> None:
    from optuna.trial import TrialState

    for trial in _trials(opened, TrialState.RUNNING):
        lease = _lease(trial)
        if lease is None or _is_gone(lease) or watch.is_stale(trial.number, lease):
            opened.store.database.set_trial_state_values(_id(opened, trial.number), TrialState.WAITING)
            if lease is not None:
                with contextlib.suppress(OSError):
                    Path(_lock_file(lease["worker"])).unlink(missing_ok=True)


def _is_held(opened: Opened, holder: Holder, number: int) -> bool:
    from optuna.trial import TrialState

    trial = opened.store.database.get_trial(_id(opened, number))
    lease = _lease(trial)
    return trial.state == TrialState.RUNNING and lease is not None and lease["worker"] == holder.name


def _is_gone(lease: dict[str, Any]) -> bool:
    """Whether the worker's process is known to have ended, on this machine."""
    place = _lock_file(lease["worker"])
    if lease["host"] != socket.gethostname() or not Path(place).exists():
        return False
    try:
        with FileLock(place, blocking=False):
            return True
    except Timeout:
        return False


def _lock_file(worker: str) -> str:
    return str(cache_folder() / "workers" / f"{worker}.lock")


def _lease(trial: FrozenTrial) -> dict[str, Any] | None:
    found: dict[str, Any] | None = trial.system_attrs.get(_LEASE)
    return found


def _id(opened: Opened, number: int) -> int:
    database = opened.store.database
    study = database.get_study_id_from_name(opened.study.study_name)
    return database.get_trial_id_from_study_id_trial_number(study, number)


def _trials(opened: Opened, state: optuna.trial.TrialState) -> list[FrozenTrial]:
    database = opened.store.database
    study = database.get_study_id_from_name(opened.study.study_name)
    return database.get_all_trials(study, deepcopy=False, states=(state,))
