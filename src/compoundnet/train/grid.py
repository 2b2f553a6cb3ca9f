"""The points of a sweep: pairs of learning rate and weight decay."""

from __future__ import annotations

from importlib import resources
from typing import NamedTuple

import msgspec

from compoundnet.base import decode_toml
from compoundnet.train.recipe import Recipe


class Point(NamedTuple):
    """`decay_ratio` is weight decay divided by learning rate."""

    lr: float
    decay_ratio: float

    def __str__(self) -> str:
        return f"lr {self.lr:.3g}, weight decay {self.lr * self.decay_ratio:.3g}"


class Grid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Each of `lrs` with each of `decay_ratios`. `held_out` is the share of the training pictures that trials are
    judged on."""

    lrs: tuple[float, ...]
    decay_ratios: tuple[float, ...]
    held_out: float

    def points(self) -> tuple[Point, ...]:
        """In the order that breaks ties: of equal scores the first wins."""
        return tuple(Point(lr, ratio) for lr in self.lrs for ratio in self.decay_ratios)


def published_grid() -> Grid:
    """Kornblith's, from kornblith_grid.toml."""
    name = "kornblith_grid.toml"
    return decode_toml(resources.files("compoundnet.train").joinpath(name).read_bytes(), Grid, name)


def at_point(recipe: Recipe, point: Point, *, held_out: float) -> Recipe:
    """The recipe with a point's values and that share of the pictures held out."""
    changed = recipe.fields() | {"lr": point.lr, "weight_decay": point.lr * point.decay_ratio, "minival": held_out}
    return msgspec.convert(changed, Recipe)
