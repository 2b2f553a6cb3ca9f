"""More epochs on a finished run, and what is kept of it for that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_train import small_dataset, small_network, small_recipe

from compoundnet.base import CompoundNetError
from compoundnet.base.machine import torch_threads
from compoundnet.train import Outcome, Watcher, plan_task, train

FEW = ["minival=0", "select=last", "patience=0"]


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


def run(output: Path, *settings: str, resume: bool = False, said: list[str] | None = None) -> Outcome:
    watcher = Watcher()
    if said is not None:
        watcher.notify = said.append  # type: ignore[assignment,method-assign]
    task = plan_task(small_recipe(*settings), small_dataset(), network=small_network())
    return train(task, output, resume=resume, watcher=watcher)


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.with_name(f"{folder.name}.run").glob("checkpoints/*"))


@pytest.mark.slow
def test_a_finished_run_goes_on_and_says_what_the_learning_rate_does(tmp_path: Path) -> None:
    said: list[str] = []
    cosine = ["schedule.kind=cosine", "lr=0.16", "lr_batch=0", *FEW]
    first = run(tmp_path / "model", "epochs=2", *cosine)
    assert (first.history[-1].step, checkpoints(tmp_path / "model")) == (16, ["step-000000016.pt"])
    longer = run(tmp_path / "model", "epochs=4", *cosine, resume=True, said=said)
    assert [epoch.step for epoch in longer.history] == [8, 16, 24, 32]
    assert longer.history[:2] == first.history and longer.history[2].lr > first.history[1].lr
    assert said[:-1] == [  # the last is about calibration
        "going on after step 16 to step 32 (4 epochs) instead of 16: the learning rate was 0.0015, and follows the"
        " schedule of the new length from here on, from 0.08 to 0.00039"
    ]
    # The same two commands give the same bits, also when the second is killed in between.
    run(tmp_path / "again", "epochs=2", *cosine)
    with pytest.raises(KeyboardInterrupt):
        _killed(tmp_path / "again", 21, "epochs=4", "save_minutes=0.000001", *cosine)
    run(tmp_path / "again", "epochs=4", *cosine, resume=True)
    assert weights(tmp_path / "again") == weights(tmp_path / "model")


def test_a_longer_progressive_run_says_that_it_goes_back_to_an_earlier_phase(tmp_path: Path) -> None:
    said: list[str] = []
    phases = ["progressive.resolution=[32,44]", "progressive.phases=4", *FEW]
    run(tmp_path / "model", "epochs=1", *phases)
    run(tmp_path / "model", "epochs=2", *phases, resume=True, said=said)
    assert said[1] == (
        "progressive learning goes back from phase 4 to phase 3 of 4, with the regularisation of that phase and"
        " training images of 40 px instead of 44"
    )


class _KillAt(Watcher):
    def __init__(self, step: int) -> None:
        self._step = step

    def stepped(self, step: int, loss: float) -> None:
        if step == self._step:
            raise KeyboardInterrupt


def _killed(output: Path, step: int, *settings: str) -> None:
    task = plan_task(small_recipe(*settings), small_dataset(), network=small_network())
    train(task, output, resume=True, watcher=_KillAt(step))


def test_with_a_schedule_that_does_not_depend_on_the_length_it_is_the_longer_run(tmp_path: Path) -> None:
    run(tmp_path / "whole", "epochs=3", *FEW)
    run(tmp_path / "grown", "epochs=1", *FEW)
    run(tmp_path / "grown", "epochs=3", *FEW, resume=True)
    assert weights(tmp_path / "grown") == weights(tmp_path / "whole")


def test_what_is_kept_of_a_finished_run_is_a_choice(tmp_path: Path) -> None:
    run(tmp_path / "all", "epochs=2", "keep_finished=all", *FEW)
    assert len(checkpoints(tmp_path / "all")) == 2
    run(tmp_path / "none", "epochs=2", "keep_finished=none", *FEW)
    assert not checkpoints(tmp_path / "none")
    before = weights(tmp_path / "none")
    with pytest.raises(CompoundNetError, match=r"no checkpoint of its run is left .* Train on from its weights"):
        run(tmp_path / "none", "epochs=4", *FEW, resume=True)
    assert weights(tmp_path / "none") == before


def test_what_cannot_go_on_says_what_to_do(tmp_path: Path) -> None:
    run(tmp_path / "model", "epochs=2", *FEW)
    with pytest.raises(CompoundNetError, match=r"16 steps \(2 epochs\) are done, more than the 8 asked for"):
        run(tmp_path / "model", "epochs=1", *FEW, resume=True)
    with pytest.raises(CompoundNetError, match=r"cannot continue with lr 0.1 instead of 0.4.* ask for more epochs"):
        run(tmp_path / "model", "epochs=2", "lr=0.1", *FEW, resume=True)
    stopped = ["lr=1e-12", "ema_decay=0", "norm=frozen"]
    run(tmp_path / "stopped", "epochs=9", "patience=2", *stopped)
    with pytest.raises(CompoundNetError, match=r"stopped early, after 2 evaluations .* add --set patience=0"):
        run(tmp_path / "stopped", "epochs=10", "patience=2", *stopped, resume=True)
    longer = run(tmp_path / "stopped", "epochs=5", "patience=0", *stopped, resume=True)
    assert longer.history[-1].epoch == 5
