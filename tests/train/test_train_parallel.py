"""Several processes do what one does: the same weights at the same total batch, every image counted once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_train import class_folders, small_dataset, small_network, small_recipe

from compoundnet.data import open_dataset
from compoundnet.models import load
from compoundnet.train import Hardware, launch, plan_task, train
from compoundnet.train.counts import count

SUPPORT = Path(__file__).parent.parent / "support"
# What is random by process, dropout and stochastic depth, is off; the rest is as in training. In float64's place a step
# size at which float32's rounding does not grow: the same run twice on other thread counts differs as much.
SETTINGS = ["survival=1", "dropout=0", "lr=0.04"]

pytestmark = pytest.mark.slow  # each test starts several processes of torch


def torchrun(processes: int, script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes),
         str(SUPPORT / script), *map(str, arguments)],
        capture_output=True, text=True, timeout=240, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done


# 50 images are 7 steps of 7 or 8: where there are 7, one process has 4 and the other 3, each with its weight.
@pytest.mark.parametrize("uneven", [[], ["minival=10"], ["minival=10", "accumulate=2"]])
@pytest.mark.parametrize("strategy", [[], ["--fsdp"]])
def test_two_processes_reach_the_weights_of_one(tmp_path: Path, strategy: list[str], uneven: list[str]) -> None:
    settings = [*SETTINGS, *uneven, *(["norm=frozen"] if "accumulate=2" in uneven else [])]
    train(plan_task(small_recipe(*settings), small_dataset(), network=small_network()), tmp_path / "one")
    torchrun(2, "train_once.py", tmp_path / "two", *strategy, *settings)
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("strategy", [[], ["--fsdp"]])
def test_two_processes_resume_to_the_bit(tmp_path: Path, strategy: list[str]) -> None:
    torchrun(2, "train_once.py", tmp_path / "whole", *strategy)
    every = "save_epochs=1", "keep=9", "keep_finished=all"
    torchrun(2, "train_once.py", tmp_path / "cut", *strategy, *every)
    for path in sorted((tmp_path / "cut.run" / "checkpoints").iterdir())[1:]:
        path.unlink()
    torchrun(2, "train_once.py", tmp_path / "cut", "--resume", *strategy, *every)
    one, two = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "cut"))
    assert one == two


def test_without_synchronised_norm_the_written_network_is_the_evaluated_one(tmp_path: Path) -> None:
    """Each process has other statistics then; what the log and result.json say is of those that are written."""
    settings = ["sync_norm=false", "epochs=3", "lr=0.1", "patience=0", "select=last"]
    torchrun(2, "train_once.py", tmp_path / "two", *settings)
    task = plan_task(small_recipe(*settings), small_dataset(), network=small_network())
    assert task.held is not None
    written = count(load(tmp_path / "two"), task.held, task.preprocess, launch(Hardware(accelerator="cpu")))
    last = (tmp_path / "two" / "log.csv").read_text().splitlines()[-1].split(",")
    assert float(last[5]) == pytest.approx(written.loss, rel=1e-6)


def test_a_machine_that_does_not_see_the_checkpoints_is_refused(tmp_path: Path) -> None:
    torchrun(2, "train_once.py", tmp_path / "run0", "epochs=1")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         str(SUPPORT / "train_once.py"), str(tmp_path / "run{rank}"), "--resume", "epochs=1"],
        capture_output=True, text=True, timeout=240, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode != 0
    assert "cannot be read by 1 of 2 processes: all machines must see the same output folder" in done.stderr


def test_one_two_and_three_processes_count_the_same(tmp_path: Path) -> None:
    train(plan_task(small_recipe("epochs=1"), small_dataset(), network=small_network()), tmp_path / "model")
    results = []
    for processes in (1, 2, 3):
        torchrun(processes, "evaluate_once.py", tmp_path / "model", tmp_path / f"result{processes}")
        for rank in range(processes):
            found = json.loads((tmp_path / f"result{processes}.{rank}").read_text())
            del found["measured_at"]
            results.append(found)
    assert results[0]["count"] == 31
    assert all(found == results[0] for found in results)


@pytest.mark.parametrize("most", [2, 3])
def test_processes_agree_on_what_cannot_be_read(tmp_path: Path, most: int) -> None:
    """Each of two processes has fewer unreadable images than are tolerated; both together may have more."""
    data = class_folders(tmp_path / "data", {"dark": 20, "light": 20})
    test = open_dataset(data).split("test")
    for index in (0, 2, 5):  # of the first process two, of the second one
        (data / test.image_name(index)).write_bytes(b"")
    settings = ["epochs=1", "minival=0", "select=last", "patience=0", f"max_bad={most}"]
    torchrun(2, "train_once.py", tmp_path / "two", f"--data={data}", *settings)
    assert (tmp_path / "two" / "weights.safetensors").exists()
    result = tmp_path / "two" / "result.json"
    assert result.exists() == (most == 3)
    if most == 3:
        assert json.loads(result.read_text())["count"] == 5


@pytest.mark.parametrize("number", range(3))
def test_processes_that_end_after_a_sum_end_well(number: int) -> None:
    """One of gloo's threads aborted five of eight such runs, by asking for an interpreter that was gone."""
    torchrun(3, "sums_once.py")
