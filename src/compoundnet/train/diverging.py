"""Runs that diverge: how it is told."""

from __future__ import annotations

from compoundnet.base import CompoundNetError
from compoundnet.train.checkpoints import Checkpoints
from compoundnet.train.recipe import Recipe


class DivergedError(CompoundNetError):
    """The loss or a weight is no longer a finite number."""


def diverged(what: str, recipe: Recipe, checkpoints: Checkpoints) -> DivergedError:
    """With what to do: the same settings would come to the same end."""
    change = f"--set lr={recipe.lr / 3:.2g}"
    change += " or --set precision=bf16" if recipe.precision == "fp16" else ""
    paths = checkpoints.paths()
    if not paths:
        return DivergedError(f"{what}, and no checkpoint was saved yet: begin again with {change}")
    return DivergedError(
        f"{what}. The last good checkpoint is {paths[-1]}: go on from it with --resume {change} (remove it, to go back"
        f" further), or begin again with --force {change}"
    )
