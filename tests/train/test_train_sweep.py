"""The sweep: Kornblith's grid, and a small one that goes on after an interruption."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_train import small_dataset, small_network

from compoundnet.arch import CompoundNetError
from compoundnet.train import find_recipe, override
from compoundnet.train.sweep import Grid, published_grid, sweep, with_values


def test_the_published_grid() -> None:
    grid = published_grid()
    assert grid.lrs == pytest.approx([10 ** (-4 + step / 2) for step in range(7)])
    assert grid.decay_ratios == pytest.approx([0, *(10 ** (-6 + step / 2) for step in range(7))])
    point = with_values(find_recipe("kornblith"), 0.1, 1e-3, held_out=0.1)
    assert (point.lr, point.minival) == (0.1, 0.1)
    assert point.weight_decay == pytest.approx(1e-4)


def test_a_sweep_goes_on_and_finds_the_rate_that_learns(tmp_path: Path) -> None:
    recipe = override(find_recipe("kornblith"), ["steps=20", "batch=10", "precision=fp32", "area=[0.9, 1.0]"])
    grid = Grid(lrs=(1e-9, 0.1), decay_ratios=(0.0,), held_out=0.2)
    network, data = small_network(), small_dataset(train=150)
    sweep(recipe, data, tmp_path / "model", network=network, grid=grid, trials=1)
    best = sweep(recipe, data, tmp_path / "model", network=network, grid=grid)
    assert (best.lr, best.weight_decay, best.minival) == (0.1, 0.0, 0)
    assert sweep(recipe, data, tmp_path / "model", network=network, grid=grid) == best  # nothing is left to try
    with pytest.raises(CompoundNetError, match="is a sweep with another recipe"):
        sweep(override(recipe, ["steps=21"]), data, tmp_path / "model", network=network, grid=grid)
