"""A run that resumes from a checkpoint is the run that was not interrupted: every weight, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kill_at import KillAt, Killed
from small_model import write_small_model
from small_train import CLASSES, class_folders, small_dataset, small_network, small_recipe

from compoundnet.base import CompoundNetError
from compoundnet.base.machine import torch_threads
from compoundnet.data import open_dataset
from compoundnet.models import ModelFolder, load, open_folder
from compoundnet.train import Recipe, Task, Watcher, plan_task, train
from compoundnet.train.interruptions import DivergedError, InterruptedRunError
from compoundnet.train.overrides import override
from compoundnet.train.status import Epoch

slow = pytest.mark.slow

SCRIPT = Path(__file__).parent.parent / "support" / "train_once.py"
EVERY_STEP = "save_minutes=0.000001"


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[None]:
    """As in the processes that are killed: another number of threads adds in another order, to other last bits."""
    with torch_threads(1):
        yield


def run(output: Path, recipe: Recipe, kill_at: int = 0, resume: bool = False) -> None:
    task = plan_task(recipe, small_dataset(), network=small_network())
    try:
        train(task, output, resume=resume, watcher=KillAt(kill_at))
    except Killed:
        assert kill_at


def same_weights(one: Path, other: Path) -> bool:
    return (one / "weights.safetensors").read_bytes() == (other / "weights.safetensors").read_bytes()


@pytest.mark.parametrize(
    "settings",
    [
        [],
        pytest.param(["accumulate=2", "ema_decay=0", "clip_norm=1"], marks=slow),
        ["frozen_epochs=1.5", "optimizer.kind=adamw", "lr=0.01", "lr_batch=0"],
        pytest.param(
            ["optimizer.kind=sgd", "norm=frozen", "checkpointing=true", "minival=0", "select=last", "patience=0"],
            marks=slow,
        ),
        pytest.param(["precision=bf16", "augment=none"], marks=slow),
        pytest.param(
            ["mixup=0.2", "cutmix=1", "erase=0.5", "loss=bce", "repeats=2", "color_jitter=0.4", "accumulate=2"],
            marks=slow,
        ),
        pytest.param(
            [
                "progressive.phases=4",
                "progressive.resolution=[32,44]",
                "progressive.dropout=[0,0.4]",
                "progressive.erase=[0,0.5]",
                "progressive.cutmix=[0,1]",
                "augment.kind=randaugment",
                "progressive.magnitude=[1,9]",
            ],
            marks=slow,
        ),
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


@pytest.mark.parametrize("view", ["same", pytest.param("whole", marks=slow)])
def test_a_student_that_is_killed_ends_the_same(tmp_path: Path, view: str) -> None:
    teacher = write_small_model(tmp_path / "teacher", labels=CLASSES)
    settings = [f"distillation.view={view}", "distillation.features=1", "mixup=0.4", "resolution=40"]

    def student(output: Path, *more: str, kill_at: int = 0, resume: bool = False, by: ModelFolder = teacher) -> None:
        task = plan_task(small_recipe(*settings, *more), small_dataset(), network=small_network(), teacher=by)
        try:
            train(task, output, resume=resume, watcher=KillAt(kill_at))
        except Killed:
            assert kill_at

    student(tmp_path / "whole")
    student(tmp_path / "cut", EVERY_STEP, kill_at=4)
    student(tmp_path / "cut", EVERY_STEP, kill_at=10, resume=True)
    with pytest.raises(CompoundNetError, match="another teacher: model is teacher there and other here"):
        student(tmp_path / "cut", resume=True, by=write_small_model(tmp_path / "other", labels=CLASSES))
    student(tmp_path / "cut", resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")


def _rewritten(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the identity in the newest checkpoint, as if another version had written it."""
    path = sorted((folder / "checkpoints").iterdir())[-1]
    state = torch.load(path, weights_only=True)
    identity = json.loads(state["identity"])
    change(identity)
    torch.save({**state, "identity": json.dumps(identity)}, path)


def test_a_checkpoint_of_a_version_without_a_field_has_its_default(tmp_path: Path) -> None:
    def older(identity: dict[str, Any]) -> None:
        del identity["teacher"]
        for name in ("mixup", "erase", "loss", "repeats"):
            del identity["recipe"][name]

    run(tmp_path / "whole", small_recipe())
    run(tmp_path / "cut", small_recipe(EVERY_STEP), kill_at=5)
    _rewritten(tmp_path / "cut.run", older)
    with pytest.raises(CompoundNetError, match=r"another recipe: mixup is 0 there and 0\.2 here"):
        run(tmp_path / "cut", small_recipe("mixup=0.2"), resume=True)
    run(tmp_path / "cut", small_recipe(), resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")


def test_a_checkpoint_of_a_newer_version_is_named(tmp_path: Path) -> None:
    run(tmp_path / "cut", small_recipe(EVERY_STEP), kill_at=5)
    _rewritten(tmp_path / "cut.run", lambda identity: identity["recipe"].update(cutout=1))
    with pytest.raises(CompoundNetError, match="unknown field `cutout`; another version of compoundnet wrote"):
        run(tmp_path / "cut", small_recipe(), resume=True)


def test_early_stopping_goes_on_counting(tmp_path: Path) -> None:
    """With a learning rate of next to nothing no evaluation is better than the first."""
    recipe = small_recipe("lr=1e-12", "epochs=9", "patience=2", "ema_decay=0", "norm=frozen")
    run(tmp_path / "whole", recipe)
    run(tmp_path / "cut", recipe, kill_at=15)
    run(tmp_path / "cut", recipe, resume=True)
    logs = [(tmp_path / name / "log.csv").read_text().splitlines() for name in ("whole", "cut")]
    assert len(logs[0]) == len(logs[1]) == 1 + 3
    assert same_weights(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
def test_a_run_with_frozen_stages_ends_the_same(tmp_path: Path) -> None:
    train(plan_task(small_recipe("epochs=1"), small_dataset(), network=small_network()), tmp_path / "base")
    recipe = small_recipe(EVERY_STEP, "epochs=2", "frozen_epochs=0.5", "frozen_stages=1", "checkpointing=true")
    task = plan_task(recipe, small_dataset(), start=open_folder(tmp_path / "base"))
    train(task, tmp_path / "whole")
    for step in (2, 5):
        with pytest.raises(Killed):
            train(task, tmp_path / "cut", resume=step > 2, watcher=KillAt(step))
    train(task, tmp_path / "cut", resume=True)
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
    assert [path.name for path in kept] == [f"step-{step:09d}.pt" for step in (6, 8, 10)]
    kept[-1].write_bytes(kept[-1].read_bytes()[:1000])
    run(tmp_path / "cut", recipe, resume=True)
    assert "step-000000010.pt cannot be read" in caplog.text
    assert same_weights(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["label_smoothing=0.2"], "another recipe: label_smoothing is 0.1 there and 0.2 here"),
        (["dropout=0.5"], "another network: dropout is 0.1 there and 0.5 here"),
        (["minival=9"], "another data: training images is 48 there and 51 here"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, settings: list[str], message: str) -> None:
    run(tmp_path / "model", small_recipe(EVERY_STEP), kill_at=3)
    with pytest.raises(CompoundNetError, match=message):
        run(tmp_path / "model", small_recipe(*settings), resume=True)
    assert list((tmp_path / "model.run" / "checkpoints").iterdir())


def test_an_unfinished_run_is_not_overwritten(tmp_path: Path) -> None:
    run(tmp_path / "model", small_recipe(EVERY_STEP), kill_at=3)
    with pytest.raises(CompoundNetError, match="--resume continues it, --force starts again"):
        run(tmp_path / "model", small_recipe())


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    sgd = ["warmup_epochs=0.5", "optimizer.kind=sgd", EVERY_STEP]
    with pytest.raises(CompoundNetError, match=r"(the loss is (nan|inf) at|a weight is not finite after) step \d+\. "):
        run(tmp_path / "model", small_recipe("lr=1e30", *sgd))
    kept = sorted((tmp_path / "model.run" / "checkpoints").iterdir())
    assert kept
    for path in kept:
        assert all(tensor.isfinite().all() for tensor in torch.load(path, weights_only=True)["net"].values())
    assert not (tmp_path / "model").exists()


def test_a_run_that_diverged_goes_on_as_its_message_says(tmp_path: Path) -> None:
    """From the last checkpoint before the harm, at a lower rate, which is said."""
    run(tmp_path / "model", small_recipe("lr=0.01", EVERY_STEP), kill_at=7)
    with pytest.raises(DivergedError, match=r"resume from it with --resume --set lr=\S+ \(remove it to go back"):
        run(tmp_path / "model", small_recipe("lr=1e30", EVERY_STEP), resume=True)
    for path in sorted((tmp_path / "model.run" / "checkpoints").iterdir())[1:]:
        path.unlink()
    said: list[str] = []
    watcher = Watcher()
    watcher.notify = said.append  # type: ignore[assignment,method-assign]
    recipe = small_recipe("lr=0.001", EVERY_STEP)
    task = plan_task(recipe, small_dataset(), network=small_network(), calibrated=False)
    train(task, tmp_path / "model", resume=True, watcher=watcher)
    assert said == ["continuing with lr 0.001 instead of 0.01: from here on it is a different run"]
    assert all(tensor.isfinite().all() for tensor in load(tmp_path / "model").state_dict().values())


@pytest.mark.slow
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
        start_new_session=True,  # a process group of its own
    )


def wait_for_step(process: subprocess.Popen[str], step: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip().isdigit() and int(line) >= step:
            return


@pytest.mark.slow
def test_sigterm_saves_and_leaves_cleanly(tmp_path: Path) -> None:
    process = start(tmp_path / "cut", pause=0.1)
    wait_for_step(process, 2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "as asked; --resume continues from" in errors and "Traceback" not in errors
    run(tmp_path / "whole", small_recipe())
    run(tmp_path / "cut", small_recipe(), resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")


def test_sigterm_of_the_whole_process_group(tmp_path: Path) -> None:
    """As SLURM and `timeout` send it: what decodes images must not die before the last step has its batch."""
    process = start(tmp_path / "cut", "--worker", pause=0.1)
    wait_for_step(process, 2)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3, errors
    assert "as asked; --resume continues from" in errors and "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.parametrize("decoding", [[], ["--worker"]])
def test_twenty_kills_at_random_moments(tmp_path: Path, decoding: list[str]) -> None:
    """kill -9 of the process, also before its first step and while it writes a checkpoint, and resumed each time."""
    run(tmp_path / "whole", small_recipe("epochs=40"))
    random.seed(0)
    for number in range(20):
        process = start(tmp_path / "cut", "--resume", EVERY_STEP, "epochs=40", *decoding, pause=0.1)
        if number % 4:
            wait_for_step(process, 1)
        time.sleep(random.uniform(0, 0.25 if number % 4 else 5))
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
    run(tmp_path / "cut", small_recipe(EVERY_STEP, "epochs=40"), resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")


def test_a_held_out_image_that_cannot_be_read_loses_no_epoch(tmp_path: Path) -> None:
    """The checkpoint is there before the epoch is judged, and a resumed run evaluates from it."""
    data = class_folders(tmp_path / "data", {"dark": 20, "light": 20})
    recipe = small_recipe("epochs=2", "minival=8", "max_bad=0")

    def task() -> Task:
        return plan_task(recipe, open_dataset(data), network=small_network())

    train(task(), tmp_path / "whole")
    held = task().held
    assert held is not None
    spoilt = Path(data, held.image_name(3))
    content = spoilt.read_bytes()
    spoilt.write_bytes(content[:60])
    with pytest.raises(CompoundNetError, match=r"a held-out image cannot be read: .*; repair them, or .* max_bad=N"):
        train(task(), tmp_path / "cut")
    assert list((tmp_path / "cut.run" / "checkpoints").iterdir())
    spoilt.write_bytes(content)
    train(task(), tmp_path / "cut", resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    assert (tmp_path / "cut" / "log.csv").read_text().count("\n") == 1 + 2


def test_a_signal_during_the_last_evaluation_stops_before_what_follows(tmp_path: Path) -> None:
    class Interrupt(Watcher):
        def epoch_ended(self, epoch: Epoch) -> None:
            if epoch.epoch == 2:
                signal.raise_signal(signal.SIGTERM)

    def task() -> Task:
        return plan_task(small_recipe("epochs=2", "refit=true"), small_dataset(), network=small_network())

    with pytest.raises(InterruptedRunError, match=r"^stopped after step 12 of 12, as asked; --resume continues from "):
        train(task(), tmp_path / "cut", watcher=Interrupt())
    assert not list((tmp_path / "cut.run").glob("refit-*")) and not (tmp_path / "cut").exists()
    train(task(), tmp_path / "cut", resume=True)
    train(task(), tmp_path / "whole")
    assert same_weights(tmp_path / "whole", tmp_path / "cut")


def test_a_corrupt_image_is_named_and_skipped_up_to_the_limit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = class_folders(tmp_path / "data", {"dark": 20, "light": 20})
    dataset = open_dataset(data)
    train_split = dataset.split("train")
    bad = [Path(data, train_split.image_name(index)) for index in (0, 20)]
    for path in bad:
        path.write_bytes(path.read_bytes()[:60])
    task = plan_task(
        small_recipe("epochs=1", "minival=0", "select=last", "patience=0"), dataset, network=small_network()
    )
    outcome = train(task, tmp_path / "model")
    assert all(path.name in caplog.text for path in bad)
    (note,) = outcome.notes
    assert note.startswith("2 of 32 training images cannot be read and are left out: dark/")
    assert all(f"{path.parent.name}/{path.name}: " in note for path in bad)
    strict = small_recipe("epochs=1", "minival=0", "select=last", "patience=0", "max_bad=1")
    with pytest.raises(CompoundNetError, match=r"more than 1 images cannot be read: .*--set max_bad=N"):
        train(plan_task(strict, dataset, network=small_network()), tmp_path / "other")
    # As the message advises. That the epoch is saved in between begins no new count.
    with pytest.raises(CompoundNetError, match="more than 1 images cannot be read"):
        often = override(strict, [EVERY_STEP])
        train(plan_task(often, dataset, network=small_network()), tmp_path / "other", resume=True)
    lenient = override(strict, ["max_bad=2"])
    train(plan_task(lenient, dataset, network=small_network()), tmp_path / "other", resume=True)
    assert load(tmp_path / "model").num_classes == 2
