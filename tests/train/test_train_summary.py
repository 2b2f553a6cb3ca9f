"""The summary before the first step: what is right in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_train import small_dataset, small_network, small_recipe

from compoundnet.arch import training_memory
from compoundnet.train import Watcher, plan_task, train
from compoundnet.train.summary import RunSummary


class _Events(Watcher):
    def __init__(self) -> None:
        self.said: list[object] = []

    def planned(self, summary: RunSummary) -> None:
        self.said.append(summary)

    def started(self, step: int, steps: int, batch: int) -> None:
        self.said.append(("started", step, steps, batch))

    def evaluation_started(self, what: str, images: int) -> None:
        self.said.append((what, images))

    def evaluated(self, images: int) -> None:
        self.said.append(images)


def test_a_run_says_what_it_does_and_needs_before_the_first_step(tmp_path: Path) -> None:
    task = plan_task(
        small_recipe("epochs=2", "frozen_epochs=1", "accumulate=2"), small_dataset(), network=small_network()
    )
    watcher = _Events()
    train(task, tmp_path / "model", watcher=watcher)
    summary = watcher.said[0]
    assert isinstance(summary, RunSummary)
    assert (summary.images, summary.held_out, summary.test, summary.classes) == (48, 12, 30, 3)
    assert (summary.epoch_steps, summary.steps, summary.frozen_steps, summary.first_step) == (6, 12, 6, 0)
    assert (summary.batch, summary.accumulate, summary.resolution, summary.start) == (8, 2, 32, None)
    assert summary.step_memory_bytes == training_memory(task.network, 4)
    assert summary.memory_bytes > summary.step_memory_bytes and summary.fits
    seconds = summary.seconds
    assert seconds is not None and 0 < seconds.frozen_step < seconds.step
    assert seconds.total == pytest.approx(
        6 * seconds.frozen_step + 6 * seconds.step + 2 * seconds.evaluation + seconds.test
    )
    assert watcher.said[1] == ("started", 0, 12, 8)
    held = watcher.said.index(("the held-out images", 12))
    assert sum(count for count in watcher.said[held + 1 : held + 4] if isinstance(count, int)) == 12
    assert ("the test images", 30) in watcher.said


def test_a_run_that_goes_on_says_what_is_left(tmp_path: Path) -> None:
    few = ["minival=0", "select=last", "patience=0"]
    train(plan_task(small_recipe("epochs=1", *few), small_dataset(), network=small_network()), tmp_path / "model")
    watcher = _Events()
    task = plan_task(small_recipe("epochs=3", *few), small_dataset(), network=small_network())
    train(task, tmp_path / "model", resume=True, watcher=watcher)
    summary = watcher.said[0]
    assert isinstance(summary, RunSummary) and (summary.first_step, summary.steps) == (8, 24)
    assert summary.seconds is not None
    assert summary.seconds.total == pytest.approx(16 * summary.seconds.step + summary.seconds.test)
