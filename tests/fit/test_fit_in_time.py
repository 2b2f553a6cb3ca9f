"""Trainings that end in time: the rest is shortened where an epoch takes longer than was planned."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from fit_jobs import UNUSED
from grey_images import images, write_models

from compoundnet.base import CompoundNetError
from compoundnet.fit import Candidate, in_time
from compoundnet.fit.in_time import InTime, TimeIsUpError, train_in_time
from compoundnet.fit.trainings import Trainings
from compoundnet.models import open_folder
from compoundnet.train import Epoch, Task, Watcher
from compoundnet.train.checkpoints import DamagedError
from compoundnet.train.run import run_folder


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(in_time, "time", self)

    def time(self) -> float:
        return self.now


def epoch(number: int, step: int) -> Epoch:
    return Epoch(number, step, 0.1, 1.0, 0.5, None, None, 1.0)


def watch(until: float, *, frozen: int = 10, shorten: bool = True) -> InTime:
    """Of a training of five epochs of ten steps."""
    return InTime(until, 50, frozen, Watcher(), shorten=shorten)


@pytest.mark.parametrize(
    ("until", "steps"),
    [
        (110.0, None),  # ten seconds for the first epoch, 20 for the second, and the rest takes 60
        (104.0, None),  # 96 % of the rest: it will be so near the end that it is finished
        (60.0, 20 + int(0.95 * 15)),
        (30.5, 20),  # nothing more
        (20.0, 20),  # the time was up during the evaluation
    ],
)
def test_a_training_gets_the_steps_that_there_is_time_for(
    monkeypatch: pytest.MonkeyPatch, until: float, steps: int | None
) -> None:
    clock, watcher = Clock(monkeypatch), watch(until)
    watcher.started(0, 50, 4)
    clock.now = 10.0
    watcher.epoch_ended(epoch(1, 10))  # of the classifier alone
    clock.now = 30.0
    if steps is None:
        watcher.epoch_ended(epoch(2, 20))
    else:
        with pytest.raises(in_time._TooLongError) as error:
            watcher.epoch_ended(epoch(2, 20))
        assert error.value.steps == steps


def test_what_is_not_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rung before the last; the last epoch; and where a training goes on at the end of an epoch."""
    clock = Clock(monkeypatch)
    for shorten, at, number, step in ((False, 10, 2, 20), (True, 40, 5, 50), (True, 20, 2, 20)):
        watcher = watch(5.0, shorten=shorten)
        clock.now = 0.0
        watcher.started(at, 50, 4)
        clock.now = 100.0
        watcher.epoch_ended(epoch(number, step))


def test_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    class Hearing(Watcher):
        def notify(self, text: str) -> None:
            said.append(text)

    clock, watcher = Clock(monkeypatch), InTime(5.0, 50, 0, Hearing())
    watcher.stepped(44, 1.0)
    clock.now = 6.0
    with pytest.raises(TimeIsUpError, match="the time was up after step 44"):
        watcher.stepped(44, 1.0)
    watcher.stepped(45, 1.0)
    watcher.stepped(46, 1.0)
    assert said == ["the time is up after step 45 of 50, so near the end that it goes on"]


@pytest.fixture
def made(tmp_path: Path) -> tuple[Trainings, Candidate]:
    model = write_models(tmp_path)[0]
    one = Candidate(model, 32, "float32", 1, 1, 1, 1)
    starts = {one.key: open_folder(model)}
    return Trainings(images(), tmp_path / "t", starts, frozenset(), 1, time.time() + 1000, length=0.2), one


def test_a_shortened_training_is_a_whole_one(
    made: tuple[Trainings, Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third epoch is found too slow: 3.5 of 7 epochs, with the learning rate down to its end, and a later call
    knows."""
    trainings, one = made
    assert trainings.epochs(one) == 7
    ended = InTime.epoch_ended

    def slow(self: Any, epoch: Epoch) -> None:
        ended(self, epoch)
        if epoch.epoch == 3 and self._shorten and self._steps == 21:
            raise in_time._TooLongError(11)

    monkeypatch.setattr(InTime, "epoch_ended", slow)
    said: list[str] = []

    class Hearing(Watcher):
        def notify(self, text: str) -> None:
            said.append(text)

    found = trainings.train_until(one, 7, Hearing())
    assert found.epochs == pytest.approx(11 / 3)
    assert said[0] == "an epoch takes longer than was planned, so that this training has 3.67 of 7 epochs"
    assert "going on after step 9 to step 11 (3.67 epochs) instead of 21" in said[1]
    again = trainings.train_until(one, 7)
    assert again.accuracy == found.accuracy and again.epochs == found.epochs
    said.clear()
    assert trainings.finish(one, said.append).folder == trainings.place(one)
    assert not any("going on after step" in text for text in said), "it is as long as it was"


def test_a_training_on_all_images_is_shortened_too(
    made: tuple[Trainings, Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings, one = made
    model = trainings.finish(one, print)
    ended = InTime.epoch_ended

    def slow(self: Any, epoch: Epoch) -> None:
        ended(self, epoch)
        if self._steps == 12:
            raise in_time._TooLongError(3)

    monkeypatch.setattr(InTime, "epoch_ended", slow)
    said: list[str] = []
    found = trainings.on_all(one, model, 4, said.append)
    assert "an epoch takes longer than was planned, so that this training has 1 of 4 epochs" in said
    assert trainings.begun_on_all(one) == 4
    assert trainings.on_all(one, model, 9, said.append).folder == found.folder


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory: you tried to")])
def test_too_little_memory_ends_a_training_as_any_error_of_it(tmp_path: Path, error: Exception) -> None:
    """So that a step of the finish is left out, and the network of before stays."""

    def fail(_: Task) -> None:
        raise error

    with pytest.raises(CompoundNetError, match="there is not enough memory to train; give smaller models as"):
        train_in_time(tmp_path / "model", UNUSED, 10, fail, print)


def test_a_training_whose_checkpoints_are_damaged_begins_anew(tmp_path: Path) -> None:
    place, said = tmp_path / "model", list[str]()
    (run_folder(place) / "checkpoints").mkdir(parents=True)

    def train(_: Task) -> str:
        if run_folder(place).exists():
            raise DamagedError("all checkpoints are damaged")
        return "trained"

    assert train_in_time(place, UNUSED, 10, train, said.append) == "trained"
    assert said == ["the checkpoints of model are damaged, so that it begins anew"]
