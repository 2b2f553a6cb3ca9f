"""Checkpoints that are damaged are passed over, and those that cannot be read at the moment stay as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_train import small_dataset, small_network, small_recipe

from compoundnet.base import CompoundNetError
from compoundnet.train import plan_task, train
from compoundnet.train.checkpoints import Checkpoints


def test_damaged_checkpoints_do_not_count_among_those_kept(tmp_path: Path) -> None:
    """They are put aside: the ones written after them are newer than none."""
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (10, 100, 200):
        checkpoints.save({"step": step}, step)
    for step in (100, 200):
        checkpoints.path(step).write_bytes(b"no checkpoint")
    assert checkpoints.load() == {"step": 10}
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (20, 30):
        checkpoints.save({"step": step}, step)
    assert [path.name for path in checkpoints.paths()] == ["step-000000020.pt", "step-000000030.pt"]
    assert checkpoints.load() == {"step": 30}
    checkpoints.clear()
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_is_out_of_reach_is_not_taken_for_damaged(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    for step in (10, 20):
        checkpoints.save({"step": step}, step)
    checkpoints.path(20).rename(tmp_path / "elsewhere")
    checkpoints.path(20).symlink_to(tmp_path / "elsewhere")
    assert checkpoints.load() == {"step": 20}
    (tmp_path / "elsewhere").rename(tmp_path / "away")
    with pytest.raises(CompoundNetError, match=r"step-000000020\.pt: the checkpoint cannot be read: No such file"):
        checkpoints.load()
    (tmp_path / "away").rename(tmp_path / "elsewhere")
    assert checkpoints.load() == {"step": 20}


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_again_by_itself(tmp_path: Path) -> None:
    task = plan_task(small_recipe("epochs=1", "keep_finished=all"), small_dataset(), network=small_network())
    train(task, tmp_path / "model")
    kept = sorted((tmp_path / "model.run" / "checkpoints").iterdir())
    assert kept
    for path in kept:
        path.write_bytes(path.read_bytes()[:1000])
    for _ in range(2):
        with pytest.raises(CompoundNetError, match=r"all checkpoints are damaged, .*: start again with --force"):
            train(task, tmp_path / "model", resume=True)
    assert sorted((tmp_path / "model.run" / "checkpoints").iterdir()) == kept
