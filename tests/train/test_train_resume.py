"""A run that goes on from a checkpoint is the run that was not interrupted: every weight, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_train import class_folders, small_dataset, small_network, small_recipe

from compoundnet.arch import CompoundNetError
from compoundnet.data import open_dataset
from compoundnet.models import load
from compoundnet.runtime.machine import torch_threads
from compoundnet.train import Recipe, Watcher, plan_task, train

SCRIPT = Path(__file__).parent.parent / "support" / "train_once.py"
EVERY_STEP = "save_minutes=0.000001"


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[None]:
    """As in the processes that are killed: another number of threads adds in another order, to other last bits."""
    with torch_threads(1):
        yield


class _Killed(BaseException):
    """Stands for kill -9: nothing in the engine catches it."""


class _KillAt(Watcher):
    def __init__(self, step: int) -> None:
        self._step = step

    def stepped(self, step: int, loss: float) -> None:
        if step == self._step:
            raise _Killed


def run(output: Path, recipe: Recipe, kill_at: int = 0, resume: bool = False) -> None:
    task = plan_task(recipe, small_dataset(), network=small_network())
    try:
        train(task, output, resume=resume, watcher=_KillAt(kill_at))
    except _Killed:
        assert kill_at


def same_weights(one: Path, other: Path) -> bool:
    return (one / "weights.safetensors").read_bytes() == (other / "weights.safetensors").read_bytes()


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["accumulate=2", "ema_decay=0", "clip_norm=1"],
        ["frozen_epochs=1.5", "optimizer.kind=adamw", "lr=0.01", "lr_batch=0"],
        ["optimizer.kind=sgd", "norm=frozen", "checkpointing=true", "minival=0", "select=last", "patience=0"],
        ["precision=bf16", "augment=none"],
    ],
)
def test_killed_at_several_steps_it_ends_the_same(tmp_path: Path, settings: list[str]) -> None:
    recipe = small_recipe(EVERY_STEP, *settings)
    run(tmp_path / "whole", small_recipe(*settings))
    for number, step in enumerate((3, 7, 10, 13)):
        run(tmp_path / "cut", recipe, kill_at=step, resume=number > 0)
    run(tmp_path / "cut", recipe, resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    assert (tmp_path / "whole" / "log.csv").read_text().count("\n") == 4


def test_early_stopping_goes_on_counting(tmp_path: Path) -> None:
    """With a learning rate of next to nothing no evaluation is better than the first."""
    recipe = small_recipe("lr=1e-12", "epochs=9", "patience=2", "ema_decay=0", "norm=frozen")
    run(tmp_path / "whole", recipe)
    run(tmp_path / "cut", recipe, kill_at=15)
    run(tmp_path / "cut", recipe, resume=True)
    logs = [(tmp_path / name / "log.csv").read_text().splitlines() for name in ("whole", "cut")]
    assert len(logs[0]) == len(logs[1]) == 1 + 3
    assert same_weights(tmp_path / "whole", tmp_path / "cut")


def test_worker_processes_change_nothing(tmp_path: Path) -> None:
    task = plan_task(small_recipe("epochs=1"), small_dataset(), network=small_network())
    train(task, tmp_path / "none")
    train(task, tmp_path / "two", workers=2)
    assert same_weights(tmp_path / "none", tmp_path / "two")


def test_a_finished_run_resumes_to_the_same_model(tmp_path: Path) -> None:
    run(tmp_path / "model", small_recipe("epochs=1"))
    before = (tmp_path / "model" / "weights.safetensors").read_bytes()
    run(tmp_path / "model", small_recipe("epochs=1"), resume=True)
    assert (tmp_path / "model" / "weights.safetensors").read_bytes() == before


def test_the_last_checkpoints_are_kept_and_a_damaged_one_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = small_recipe("keep=3", EVERY_STEP)
    run(tmp_path / "whole", small_recipe())
    run(tmp_path / "cut", recipe, kill_at=11)
    kept = sorted((tmp_path / "cut.run" / "checkpoints").iterdir())
    assert [path.name for path in kept] == [f"step-{step:09d}.pt" for step in (8, 9, 10)]
    kept[-1].write_bytes(kept[-1].read_bytes()[:1000])
    run(tmp_path / "cut", recipe, resume=True)
    assert "step-000000010.pt cannot be read" in caplog.text
    assert same_weights(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["lr=0.1"], "another recipe: lr is 0.4 there and 0.1 here"),
        (["dropout=0.5"], "another network: dropout is 0.1 there and 0.5 here"),
        (["minival=9"], "another data: training pictures is 48 there and 51 here"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, settings: list[str], message: str) -> None:
    run(tmp_path / "model", small_recipe(EVERY_STEP), kill_at=3)
    with pytest.raises(CompoundNetError, match=message):
        run(tmp_path / "model", small_recipe(*settings), resume=True)
    assert list((tmp_path / "model.run" / "checkpoints").iterdir())


def test_an_unfinished_run_is_not_overwritten(tmp_path: Path) -> None:
    run(tmp_path / "model", small_recipe(EVERY_STEP), kill_at=3)
    with pytest.raises(CompoundNetError, match="--resume goes on with it, --force begins anew"):
        run(tmp_path / "model", small_recipe())


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match=r"the loss is (nan|inf) at step \d+; --resume goes on from .*step-0"):
        run(tmp_path / "model", small_recipe("lr=1e30", "warmup_epochs=0.5", "optimizer.kind=sgd", EVERY_STEP))
    state = torch.load(next((tmp_path / "model.run" / "checkpoints").iterdir()), weights_only=True)
    assert all(tensor.isfinite().all() for tensor in state["net"].values())
    assert not (tmp_path / "model").exists()


def test_a_full_disk_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: writing fails half-way, as there."""
    run(tmp_path / "whole", small_recipe())
    run(tmp_path / "cut", small_recipe(EVERY_STEP), kill_at=5)
    folder = tmp_path / "cut.run" / "checkpoints"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    half = len(next(iter(before.values()))) // 2
    limited = f"ulimit -f {half // 1024}; exec {sys.executable} {SCRIPT} {tmp_path / 'cut'} --resume {EVERY_STEP}"
    failed = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=120, check=False)
    assert "cannot be saved: File too large. step-000000004.pt is the last good one" in failed.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    run(tmp_path / "cut", small_recipe(EVERY_STEP), resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")


def start(output: Path, *arguments: str, pause: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(output), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PAUSE": str(pause)},
    )


def wait_for_step(process: subprocess.Popen[str], step: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip().isdigit() and int(line) >= step:
            return


def test_sigterm_saves_and_leaves_cleanly(tmp_path: Path) -> None:
    process = start(tmp_path / "cut", pause=0.1)
    wait_for_step(process, 2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "as asked; --resume goes on from" in errors and "Traceback" not in errors
    run(tmp_path / "whole", small_recipe())
    run(tmp_path / "cut", small_recipe(), resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
def test_twenty_kills_at_random_moments(tmp_path: Path) -> None:
    """kill -9 of the process, also while it writes a checkpoint, and resumed each time."""
    run(tmp_path / "whole", small_recipe("epochs=12"))
    random.seed(0)
    kills = 0
    for _ in range(60):
        process = start(tmp_path / "cut", "--resume", EVERY_STEP, "epochs=12", pause=0.02)
        wait_for_step(process, 1)
        time.sleep(random.uniform(0, 0.25))
        process.kill()
        process.communicate(timeout=60)
        if process.returncode == 0:
            break
        kills += 1
        if kills == 20:
            break
    assert kills >= 10
    run(tmp_path / "cut", small_recipe(EVERY_STEP, "epochs=12"), resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")


def test_a_corrupt_picture_is_named_and_skipped_up_to_the_limit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = class_folders(tmp_path / "data", {"dark": 20, "light": 20})
    dataset = open_dataset(data)
    train_split = dataset.split("train")
    bad = [Path(data, train_split.picture_name(index)) for index in (0, 20)]
    for path in bad:
        path.write_bytes(path.read_bytes()[:60])
    task = plan_task(
        small_recipe("epochs=1", "minival=0", "select=last", "patience=0"), dataset, network=small_network()
    )
    train(task, tmp_path / "model")
    assert all(path.name in caplog.text for path in bad)
    strict = small_recipe("epochs=1", "minival=0", "select=last", "patience=0", "max_bad=1")
    with pytest.raises(CompoundNetError, match="more than 1 pictures cannot be read"):
        train(plan_task(strict, dataset, network=small_network()), tmp_path / "other")
    assert load(tmp_path / "model").num_classes == 2
