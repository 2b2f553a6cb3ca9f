"""`refit`: when held-out images have decided, a training on all images; and repeatable algorithms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from kill_at import Killed
from small_train import small_dataset, small_network, small_recipe

from compoundnet.base.machine import torch_threads
from compoundnet.train import Outcome, Recipe, Watcher, plan_task, train
from compoundnet.train.run import run_folder

EVERY_STEP = "save_minutes=0.000001"


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


class Counting(Watcher):
    """Ends the process, as kill -9 does, at a step counted over both trainings; at 0 never."""

    def __init__(self, last: int = 0) -> None:
        self.last, self.steps, self.told = last, 0, list[str]()

    def stepped(self, step: int, loss: float) -> None:
        self.steps += 1
        if self.steps == self.last:
            raise Killed

    def notify(self, text: str) -> None:
        self.told.append(text)


def run(output: Path, recipe: Recipe, watcher: Watcher | None = None, *, resume: bool = False) -> Outcome:
    return train(plan_task(recipe, small_dataset(), network=small_network()), output, resume=resume, watcher=watcher)


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


def test_it_is_the_training_that_holds_nothing_out(tmp_path: Path) -> None:
    watcher = Counting()
    done = run(tmp_path / "refit", small_recipe("refit=true", "patience=0", "select=last"), watcher)
    assert done.refit is not None and [epoch.held_top1 for epoch in done.refit] == [None] * 3
    assert [epoch.held_top1 is None for epoch in done.history] == [False] * 3
    assert any("refit: training from the start on all 60 images, for 3 epochs" in text for text in watcher.told)
    run(tmp_path / "all", small_recipe("minival=0", "patience=0", "select=last"))
    assert weights(tmp_path / "refit") == weights(tmp_path / "all")
    readme = (tmp_path / "refit" / "README.md").read_text()
    assert "trained once more from the start, for 24 steps on all 60 images" in readme
    first = run(tmp_path / "first", small_recipe("patience=0", "select=last"))
    assert (first.refit, first.calibration) == (None, done.calibration)
    assert weights(tmp_path / "first") != weights(tmp_path / "refit")


def test_it_trains_for_as_long_as_was_best(tmp_path: Path) -> None:
    """With a learning rate of next to nothing no evaluation is better than the first, so that one epoch is enough."""
    still = ("refit=true", "lr=1e-12", "epochs=9", "patience=2", "ema_decay=0", "norm=frozen")
    done = run(tmp_path / "model", small_recipe(*still, "select=best"))
    assert done.refit is not None and len(done.history) == 3
    assert [epoch.step for epoch in done.refit] == [8]  # of 60 images, in the schedule of 9 epochs
    # The last weights are selected: those after the third epoch, where training stopped.
    last = run(tmp_path / "last", small_recipe(*still, "select=last"))
    assert last.refit is not None and [epoch.step for epoch in last.refit] == [8, 16, 24]


@pytest.mark.slow
def test_it_goes_on_to_the_bit_wherever_it_is_killed(tmp_path: Path) -> None:
    recipe = small_recipe("refit=true", "patience=0", EVERY_STEP)
    watcher = Counting()
    run(tmp_path / "whole", recipe, watcher)
    for number, step in enumerate((5, watcher.steps - 20, 4, 3)):
        with pytest.raises(Killed):
            run(tmp_path / "cut", recipe, Counting(step), resume=number > 0)
    run(tmp_path / "cut", recipe, resume=True)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    assert (tmp_path / "cut" / "log.csv").read_text().count("\n") == 4
    # Finished: again the same, without a step.
    again = Counting()
    run(tmp_path / "cut", recipe, again, resume=True)
    assert again.steps == 0 and weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_a_longer_first_training_has_a_second_one_of_its_own(tmp_path: Path) -> None:
    settings = ("refit=true", "patience=0", "select=last", "schedule.kind=constant", "ema_decay=0")
    run(tmp_path / "model", small_recipe(*settings, "epochs=1"))
    longer = run(tmp_path / "model", small_recipe(*settings, "epochs=2"), resume=True)
    assert longer.refit is not None and [epoch.step for epoch in longer.refit] == [8, 16]
    assert len(list(run_folder(tmp_path / "model").glob("refit-*"))) == 1
    run(tmp_path / "fresh", small_recipe(*settings, "epochs=2"))
    assert weights(tmp_path / "model") == weights(tmp_path / "fresh")


def test_without_held_out_images_there_is_one_training(tmp_path: Path) -> None:
    done = run(tmp_path / "model", small_recipe("refit=true", "minival=0", "patience=0", "select=last", "epochs=1"))
    assert done.refit is None and len(done.history) == 1


def test_repeatable_algorithms_are_used_while_it_trains(tmp_path: Path) -> None:
    seen: list[tuple[bool, bool]] = []

    class Looking(Watcher):
        def stepped(self, step: int, loss: float) -> None:
            seen.append((torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic))

    for deterministic in (True, False):
        recipe = small_recipe("epochs=0", "steps=1", f"deterministic={str(deterministic).lower()}")
        run(tmp_path / str(deterministic), recipe, Looking())
    assert seen == [(True, True), (False, False)]
    assert weights(tmp_path / "True") == weights(tmp_path / "False")  # a CPU's always are
