"""The race: successive halving of real fine-tunings (Jamieson & Talwalkar 2016, arXiv:1502.07943).

Each rung is a study of the engine of trials: workers, many machines, kill and go on come with it. The best third of a
rung goes on to the next, where its trainings continue from their own checkpoints.
"""

from __future__ import annotations

import functools
import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import optuna
from optuna.trial import FrozenTrial

from compoundnet.base import CompoundNetError, Notify
from compoundnet.fit.candidates import Candidate
from compoundnet.fit.in_time import TimeIsUpError
from compoundnet.fit.race_plan import LEAST_EPOCHS, RacePlan
from compoundnet.fit.state import Rung
from compoundnet.fit.trainings import Trainings
from compoundnet.train import InterruptedRunError, Watcher
from compoundnet.trials.database import StudyDatabase
from compoundnet.trials.local_workers import work_together
from compoundnet.trials.measurement import data_identity
from compoundnet.trials.settings import PointList, position
from compoundnet.trials.studies import OpenedStudy, create_study, open_study
from compoundnet.trials.worker import work

# Seconds between looks for the next rung, of a process that joins.
_POLL = 2.0
# The attribute of a rung's study with the time, by `time.time`, at which its trainings end.
_UNTIL = "until"


class RungStudy(PointList, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="race"):
    """Settings of the study of a rung.

    Attributes:
        images: The identity of the images.
        unreadable: The training images that cannot be read, and are left out.
        weights: The SHA-256 of the weights of each model that the candidates start from.
        candidates: The candidates, one for each trial.
        epochs: The epochs after which each is judged.
        length: The length of their schedules as a fraction of the usual one.
        held_out: The fraction of the training images that is held out.
        seed: Of the trainings.
        last: Whether no rung follows.
        flip: Whether training may mirror the images.
    """

    images: str
    unreadable: tuple[str, ...]
    weights: dict[str, str]
    candidates: tuple[Candidate, ...]
    epochs: tuple[int, ...]
    length: float
    held_out: float
    seed: int
    last: bool
    flip: bool = True

    def params(self) -> list[dict[str, float]]:
        """Return the number of the candidate of each trial, and its epochs."""
        return [{"candidate": float(number), "epochs": float(epochs)} for number, epochs in enumerate(self.epochs)]


class RungJudge:
    """Trains the candidate of a trial as far as the rung goes."""

    def __init__(self, trainings: Trainings, opened: OpenedStudy[RungStudy], watcher: Watcher | None = None) -> None:
        settings = opened.settings
        self._trainings = trainings._replace(
            length=settings.length, held_out=settings.held_out, seed=settings.seed, flip=settings.flip
        )
        self._opened, self._watcher = opened, watcher

    def values(self, trial: optuna.Trial) -> Sequence[float]:
        """Return the accuracy on the held-out images. An interrupted training is continued."""
        settings, number = self._opened.settings, position(trial)
        found = self._trainings.train_until(settings.candidates[number], settings.epochs[number], self._watcher)
        trial.set_user_attr("seconds", found.seconds)
        trial.set_user_attr("epochs_now", found.epochs_now)
        trial.set_user_attr("epochs", found.epochs)
        return (found.accuracy,)

    def describe(self, trial: FrozenTrial) -> str:
        """Return a one-line description of a finished trial."""
        settings, number = self._opened.settings, position(trial)
        had, planned = trial.user_attrs["epochs"], settings.epochs[number]
        epochs = f"{planned} epochs" if had == planned else f"{had:.3g} of {planned} epochs, each longer than planned"
        return (
            f"{settings.candidates[number]}, {epochs}: {trial.values[0]:.1%} on the held-out images,"
            f" {trial.user_attrs['seconds']:.0f} s"
        )


def run_race(
    plan: RacePlan,
    trainings: Trainings,
    folder: Path,
    *,
    images: str,
    unreadable: tuple[str, ...],
    weights: Mapping[str, str],
    name: str,
    workers: int,
    storage: str | None,
    order: Callable[[Mapping[Candidate, float]], list[Candidate]],
    notify: Notify,
    done: Callable[[Rung], object],
) -> float:
    """Run a race, or go on with it.

    The candidates of the last rung, in the order of their results, are the winners.

    Args:
        plan: The race.
        trainings: The trainings.
        folder: Where the studies are kept; a study on a server leaves its settings here.
        images: The identity of the images.
        unreadable: The training images that are left out of the trainings' data.
        weights: The SHA-256 of the weights of each model.
        name: The name of the fit, of which those of the studies on a server are made.
        workers: The number of trainings at a time.
        storage: A PostgreSQL URL, for workers on many machines.
        order: Returns candidates in the order in which they go on, by their accuracy on the held-out images.
        notify: Called with a line for each training that is finished.
        done: Called with each rung that is finished.

    Returns:
        The seconds that the trainings took now, as a fraction of those planned.

    Raises:
        TimeIsUpError: The time was up before the last rung was finished.
        InterruptedRunError: This process was asked to stop. The same call goes on.
        CompoundNetError: The storage cannot be used, or every worker has failed.
    """
    going, costs = list(plan.entrants), dict(zip(plan.entrants, plan.costs, strict=True))
    planned, taken = 0.0, 0.0
    for place, (count, part) in enumerate(plan.rungs):
        going = going[:count]
        epochs = tuple(_epochs(trainings, candidate, part) for candidate in going)
        last = place == len(plan.rungs) - 1
        starting = {one.model: weights[one.model] for one in going}
        settings = RungStudy(
            images, unreadable, starting, tuple(going), epochs, trainings.length, trainings.held_out, trainings.seed,
            last, trainings.flip,
        )  # fmt: skip
        digest = hashlib.sha256(msgspec.json.encode(settings)).hexdigest()[:8]
        study = folder / f"{_prefix(name)}{place + 1}-{digest}"
        opened = create_study(settings, data_identity(trainings.dataset), study, storage)
        try:
            with opened.database.readable_errors():
                opened.study.set_user_attr(_UNTIL, trainings.until)
            _work(opened, trainings, study, storage, min(workers, len(going)), notify)
            trials = opened.counted()
        finally:
            opened.close()
        if len(trials) < len(going):  # others run the rest, on their machines
            raise TimeIsUpError("the time was up before the race was over")
        scores = {settings.candidates[position(trial)]: trial.values[0] for trial in trials}
        had = {settings.candidates[position(trial)]: trial.user_attrs["epochs"] for trial in trials}
        for trial in trials:
            candidate = settings.candidates[position(trial)]
            part_now = trial.user_attrs["epochs_now"] / trainings.epochs(candidate)
            planned += part_now * plan.length * costs[candidate]
            taken += trial.user_attrs["seconds"]
        going = order({one: scores[one] for one in going})
        done(Rung(max(had.values()), max(map(trainings.epochs, going)), tuple((one, scores[one]) for one in going)))
    return taken / planned if planned else 1.0


def _epochs(trainings: Trainings, candidate: Candidate, part: float) -> int:
    whole = trainings.epochs(candidate)
    return whole if part == 1 else max(LEAST_EPOCHS, round(part * whole))


def _prefix(name: str) -> str:
    return f"{name}-rung-"


def _work(
    opened: OpenedStudy[RungStudy], trainings: Trainings, study: Path, storage: str | None, workers: int, notify: Notify
) -> None:
    judge = RungJudge(trainings, opened)
    if workers == 1:
        work(opened, judge, notify=notify, go_on=lambda: time.time() <= trainings.until)
        return
    place = study.absolute() if storage is None else opened.database.secret_url()
    try:
        join = functools.partial(_join, trainings, place, opened.study.study_name)
        work_together(opened, join, judge, workers, notify)
    except InterruptedRunError:
        raise
    except CompoundNetError as error:
        if time.time() > trainings.until:
            raise TimeIsUpError("the time was up before the race was over") from error
        raise


def _join(trainings: Trainings, place: str | Path, name: str, go_on: Callable[[], bool]) -> None:
    """Work on a rung in a separate process."""
    opened = open_study(place, _decode, name)
    try:
        work(opened, RungJudge(trainings, opened), go_on=go_on)
    finally:
        opened.close()


def _decode(text: str, source: str) -> RungStudy:
    try:
        return msgspec.json.decode(text, type=RungStudy)
    except msgspec.ValidationError as error:
        raise CompoundNetError(f"{source} is not the study of a fit: {error}") from error


def join_race(trainings: Callable[[RungStudy, float], Trainings], storage: str, name: str, notify: Notify) -> int:
    """Work on the rungs of a fit that another process runs, as they appear, until the last one is finished or the time
    of the fit is up. Rungs whose time was up before are left alone: they are of earlier fits of the same name.

    Args:
        trainings: Returns the trainings of a rung on this machine, which end at a time.
        storage: The PostgreSQL URL.
        name: The name of the fit, that of its output.
        notify: Called with a line for each training that is finished here, and for what ended the work.

    Returns:
        The number of trainings that were finished here.

    Raises:
        InterruptedRunError: This process was asked to stop.
    """
    finished, seen, end = 0, set[str](), math.inf

    def count(line: str) -> None:  # once for each training: the one that runs out of time ends a rung with an error
        nonlocal finished
        finished += 1
        notify(line)

    notify(f"waiting for the trainings of {name}; Ctrl-C ends this worker")
    while time.time() <= end:
        database = StudyDatabase(storage)
        with database.readable_errors():
            names = [one for one in optuna.get_all_study_names(database.storage) if one.startswith(_prefix(name))]
        database.close()
        for study in sorted(set(names) - seen):
            opened = open_study(storage, _decode, study)
            try:
                until = opened.study.user_attrs.get(_UNTIL, 0.0)  # of one that is just being made there is none yet
                if time.time() > until:
                    continue
                end, ours = until, trainings(opened.settings, until)
                if opened.data != data_identity(ours.dataset):
                    raise CompoundNetError(f"{ours.dataset.name} holds other images here than {study} was begun with")
                if _joined(opened, ours, count, notify) and opened.settings.last:
                    notify(f"no fine-tuning of {name} is left")
                    return finished
            finally:
                opened.close()
            seen.add(study)
        time.sleep(_POLL)
    notify(f"the time of {name} is up")
    return finished


def _joined(opened: OpenedStudy[RungStudy], trainings: Trainings, count: Notify, notify: Notify) -> bool:
    """Work on a rung of another process; return whether it is finished, and its time is not up before."""
    try:
        work(opened, RungJudge(trainings, opened), notify=count, go_on=lambda: time.time() <= trainings.until)
    except TimeIsUpError as error:
        notify(str(error))
    with opened.database.readable_errors():
        return len(opened.counted()) == opened.settings.trials()
