"""Distillation: the winner of a race taught by the probe of a more accurate candidate, within the budget or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError, Notify
from compoundnet.data import Split
from compoundnet.fit.candidates import Candidate
from compoundnet.fit.held_out import right_by_network
from compoundnet.fit.screen import Screened, probe_of
from compoundnet.fit.starts import StartingModels
from compoundnet.fit.state import HeldOut
from compoundnet.fit.trainings import Lesson, Trainings
from compoundnet.models import ModelFolder, read_folder
from compoundnet.train import InterruptedRunError, Task, train


class FineTuned(NamedTuple):
    """A fine-tuned candidate, and what the images say of it that its training held out.

    Attributes:
        candidate: The candidate.
        model: The network.
        task: Its training.
        right: bool[N]: which held-out images it gets right.
        held: The same as figures, beside those of the probe.
    """

    candidate: Candidate
    model: ModelFolder
    task: Task
    right: NDArray[np.bool_]
    held: HeldOut


class Student(NamedTuple):
    """A student that is better for its lesson, and what the held-out images say of it."""

    model: ModelFolder
    lesson: Lesson
    held: HeldOut


def best_teacher(candidate: Candidate, screened: Sequence[Screened]) -> Screened | None:
    """Return the most accurate probe that was judged, if it is better than a candidate's; else None."""
    judged = [one for one in screened if one.accuracy is not None and not one.candidate.scaled]
    own = next(one.accuracy or 0.0 for one in screened if one.candidate == candidate)
    best = max(judged, key=lambda one: one.accuracy or 0.0, default=None)
    if best is None or (best.accuracy or 0.0) <= own or best.candidate == candidate:
        return None
    return best


def distilled(
    network: FineTuned, teacher: Candidate, trainings: Trainings, starts: StartingModels, notify: Notify
) -> Student | None:
    """Train a network further with a teacher, for as long again.

    Returns:
        The student; None if it gets no more of the held-out images right, or there can be no such teacher.

    Raises:
        TimeIsUpError: The time was up before the student was trained.
        InterruptedRunError: This process was asked to stop.
    """
    held = network.task.held
    assert held is not None
    try:
        lesson = Lesson(_teacher_model(teacher, network.task.train, trainings, starts), teacher.key)
    except InterruptedRunError:
        raise
    except CompoundNetError as error:  # a class of which one image is left
        notify(f"no distillation from {teacher}: {error}")
        return None
    student = trainings.taught(network.candidate, network.model, lesson, notify)
    taught = right_by_network(student, held)
    better = int(taught.sum()) > int(network.right.sum())
    notify(
        f"distilled from {teacher} for as long again: {taught.mean():.1%} of the held-out images right,"
        f" {network.right.mean():.1%} before, so it is {'' if better else 'not '}taken"
    )
    if not better:
        return None
    found = msgspec.structs.replace(network.held, accuracy=float(taught.mean()), teacher=str(teacher))
    return Student(student, lesson, found)


def _teacher_model(teacher: Candidate, others: Split, trainings: Trainings, starts: StartingModels) -> ModelFolder:
    """The probe of a teacher, fitted to the images that are trained on alone: the others judge its student."""
    percent = round(100 * trainings.held_out)
    place = trainings.folder / f"teacher-{teacher.key}-{percent}-percent-held-out"
    if place.exists():
        return read_folder(place)
    dataset = msgspec.structs.replace(trainings.dataset, splits={"train": others})
    return train(probe_of(teacher, dataset, starts(teacher)), place, loggers=[]).model
