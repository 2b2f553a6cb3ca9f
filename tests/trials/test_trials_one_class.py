"""Searches and sweeps are for images of one class: data with several labels is refused before anything is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_train import small_dataset, small_network, small_recipe

from compoundnet.base import CompoundNetError
from compoundnet.data import Dataset
from compoundnet.search.sweep.trainings import sweep
from compoundnet.trials.measurement import measure


def several() -> Dataset:
    whole = small_dataset()
    splits = {name: split.with_several_labels() for name, split in whole.splits.items()}
    assert all(np.all(split.labels.sum(axis=1) == 1) for split in splits.values())
    return Dataset("greys", splits)


def test_a_trial_and_a_sweep_refuse_several_labels(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match=r"greys: its images have several labels each; searches, studies and"):
        measure(small_network(), several(), small_recipe(), seed=0)
    with pytest.raises(CompoundNetError, match="without --sweep trains on several labels"):
        sweep(small_recipe(), several(), tmp_path / "out", network=small_network())
    assert list(tmp_path.iterdir()) == []
