"""What a checkpoint must share with the run that goes on from it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_model import write_small_model
from small_train import small_dataset

from compoundnet.base import CompoundNetError
from compoundnet.models import load, write_folder
from compoundnet.train import find_recipe, plan_task
from compoundnet.train.identity import check_identity, identity


def test_a_model_of_the_same_name_with_other_weights_is_another_start(tmp_path: Path) -> None:
    """So that the trials of a sweep from another model are not taken for its own."""
    start = write_small_model(tmp_path / "model", classes=3)
    recipe = find_recipe("finetune").replace(resolution=32, minival=0)
    before = identity(plan_task(recipe, small_dataset(), start=start))
    state = {name: tensor + 0.5 for name, tensor in load(start).state_dict().items()}
    shutil.rmtree(start.folder)
    start = write_folder(start.folder, start.network, state, start.preprocess, labels=start.labels, readme="Others.\n")
    after = identity(plan_task(recipe, small_dataset(), start=start))
    with pytest.raises(CompoundNetError, match="another start: digest of its weights is"):
        check_identity(before, after, "out")
