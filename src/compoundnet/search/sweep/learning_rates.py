"""The points of a sweep: pairs of learning rate and weight decay."""

from __future__ import annotations

from importlib import resources
from typing import Any, Literal, NamedTuple

import msgspec

from compoundnet.base import decode_toml
from compoundnet.data.dataset import Metric
from compoundnet.train.recipe import Recipe
from compoundnet.trials.settings import PointList


class SweepPoint(NamedTuple):
    """A learning rate, and weight decay divided by it."""

    lr: float
    decay_ratio: float

    def __str__(self) -> str:
        return f"lr {self.lr:.3g}, weight decay {self.lr * self.decay_ratio:.3g}"


class SweepGrid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Each of `lrs` with each of `decay_ratios`. `held_out`: the fraction of the training images used to judge."""

    lrs: tuple[float, ...]
    decay_ratios: tuple[float, ...]
    held_out: float

    def points(self) -> tuple[SweepPoint, ...]:
        """Return the points in the order that breaks ties: among equal scores the first wins."""
        return tuple(SweepPoint(lr, ratio) for lr in self.lrs for ratio in self.decay_ratios)


class Sweep(PointList, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="sweep"):
    """Settings of a sweep: its grid, the metric of the data set, and the `train.identity` of the training."""

    grid: SweepGrid
    metric: Metric
    task: dict[str, Any]

    def params(self) -> list[dict[str, float]]:
        """Return the learning rate and the ratio of each trial."""
        return [point._asdict() for point in self.grid.points()]


def published_grid() -> SweepGrid:
    """Return the grid of Kornblith et al. 2019, from kornblith_grid.toml."""
    name = "kornblith_grid.toml"
    return decode_toml(resources.files("compoundnet.search.sweep").joinpath(name).read_bytes(), SweepGrid, name)


def at_point(recipe: Recipe, point: SweepPoint, *, held_out: float | Literal["auto"]) -> Recipe:
    """Return the recipe with the values of a point and the given fraction of the training images held out."""
    changed = recipe.fields() | {"lr": point.lr, "weight_decay": point.lr * point.decay_ratio, "minival": held_out}
    return msgspec.convert(changed, Recipe)
