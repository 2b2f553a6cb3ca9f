"""Progress: rates and times left of the last seconds, phases, and lines where there is no terminal."""

from __future__ import annotations

import itertools
import re
import time

import pytest

from compoundnet.cli import progress
from compoundnet.cli.progress import Display, Speed, TrainingDisplay, accuracies
from compoundnet.train.status import Epoch
from compoundnet.train.summary import Durations, RunSummary


class Clock:
    """A clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("compoundnet.cli.progress.time.monotonic", lambda: self.now)


def summary(**changes: object) -> RunSummary:
    fields: dict[str, object] = {
        "network": "small", "start": "small", "classes": 3, "images": 320, "held_out": 32, "test": 64,
        "smallest_class": 10, "largest_class": 110, "resolution": 128, "train_resolutions": (128,), "fit": "crop",
        "crop": 0.8, "balance": "loss",
        "batch": 32, "accumulate": 1, "processes": 1, "device": "the CPU", "decoders": 0, "epoch_steps": 10,
        "first_step": 0, "steps": 30, "frozen_steps": 10, "frozen_stages": 0, "step_memory_bytes": 8 * 10**8,
        "memory_bytes": 14 * 10**8, "free_memory_bytes": 10**10, "seconds": Durations(1.0, 3.0, 2.0, 4.0, 80.0),
    }  # fmt: skip
    return RunSummary(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_rate_is_that_of_the_last_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    speed = Speed(0)
    speed.mark(32)
    assert speed.per_second() is None  # two steps at once said 132,211 images/s
    for second in range(1, 101):
        clock.now += 1
        speed.mark(32 + 100 * second if second <= 50 else 5032 + 10 * (second - 50))
    assert speed.per_second() == pytest.approx(10, rel=0.05)


def test_the_time_left_knows_the_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of the classifier alone take a third: the time left no longer grows when the others begin."""
    clock = Clock(monkeypatch)
    display = TrainingDisplay(quiet=True)
    display.planned(summary())
    display.started(0, 30, 32)
    left = []
    for step in range(1, 31):
        clock.now += 2 if step <= 10 else 6  # twice as slow as estimated
        display.stepped(step, 1.0)
        left.append(display._time_left())
    assert all(value is not None for value in left)
    assert left[9] == pytest.approx(2 * (20 * 3 + 2 * 2 + 4)) and left[-1] == pytest.approx(2 * 4)
    assert all(later < earlier for earlier, later in itertools.pairwise(left))  # type: ignore[operator]


def test_without_a_terminal_there_is_a_line_at_least_every_so_often(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also while nothing is finished, as in a long first step."""
    assert progress._LINE_SECONDS == 30
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.05)
    with Display("predicting", 100) as display:
        display.advance(7)
        time.sleep(0.4)
    time.sleep(0.2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2 and set(lines) == {"predicting: 7 of 100 images"}


def test_phases_and_evaluations_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.05)
    with TrainingDisplay(quiet=False) as display:
        display.planned(summary())
        display.started(0, 30, 32)
        time.sleep(0.2)
        for step in range(1, 12):
            display.stepped(step, 0.5)
        time.sleep(0.2)
        display.evaluation_started("the test images", 64)
        display.evaluated(16)
        time.sleep(0.2)
    told = capsys.readouterr().err
    assert "fine-tuning small on 320 images of 3 classes (10 to 110 of each), 32 held out; 64 test images\n" in told
    assert "balance loss, batch 32: 10 steps an epoch, 30 in all, the first 10 of the classifier alone\n" in told
    assert "memory about 1.40 GB on the CPU, of which a step takes 800 MB; 10.0 GB free; time about 1 min 20" in told
    assert re.search(r"^training the classifier: 0 of 30 steps$", told, re.MULTILINE)
    assert re.search(r"^training all layers: 11 of 30 steps, loss 0.500, .* left$", told, re.MULTILINE)
    assert re.search(r"^evaluating the test images: 16 of 64 images", told, re.MULTILINE)


def test_frozen_stages_are_not_said_to_be_trained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.05)
    with TrainingDisplay(quiet=False) as display:
        display.planned(summary(frozen_stages=2))
        display.started(10, 30, 32)
        time.sleep(0.2)
    assert "\ntraining all but the first layers: 10 of 30 steps" in capsys.readouterr().err


def test_a_run_that_never_trains_the_network_says_so() -> None:
    assert "30 in all, each of the classifier alone (--set frozen_epochs=0" in summary(frozen_steps=30).lines()[1]


def test_a_step_that_needs_more_memory_than_is_free_is_a_warning() -> None:
    assert "--checkpointing" in summary(free_memory_bytes=10**8).lines()[-1]
    assert "warning" not in "".join(summary().lines())


def test_the_mean_per_class_is_said_where_it_differs() -> None:
    assert accuracies(0.5, 0.5) == "top-1 50.00%"
    assert accuracies(0.5, 0.25) == "top-1 50.00%, mean per class 25.00%"
    assert accuracies(0.5, None) == "top-1 50.00%"


def test_an_epoch_of_several_labels_has_no_top_1(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingDisplay(quiet=False) as display:
        display.planned(summary(several_labels=True))
        display.started(0, 10, 4)
        display.epoch_ended(Epoch(1, 5, 0.1, 1.5, 0.25, 1.25, 0.5, 10.0, held_map=0.625))
    told = capsys.readouterr().err
    assert "labels, several an image" in told
    assert "all labels right 25.00%, held-out mAP 62.50%" in told
    assert "top-1" not in told
