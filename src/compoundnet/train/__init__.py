"""Training and evaluation: recipes as data, the loop, checkpoints, results. Torch is imported where it is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from compoundnet.train.results import Result

if TYPE_CHECKING:
    from compoundnet.train.evaluation import Evaluation as Evaluation
    from compoundnet.train.evaluation import evaluate as evaluate
    from compoundnet.train.hardware import Hardware as Hardware
    from compoundnet.train.hardware import launch as launch
    from compoundnet.train.overrides import override as override
    from compoundnet.train.recipe import Recipe as Recipe
    from compoundnet.train.recipe import find_recipe as find_recipe
    from compoundnet.train.recipe import recipes as recipes
    from compoundnet.train.run import Outcome as Outcome
    from compoundnet.train.run import train as train
    from compoundnet.train.sweep import sweep as sweep
    from compoundnet.train.task import Task as Task
    from compoundnet.train.task import plan_task as plan_task
    from compoundnet.train.watching import Epoch as Epoch
    from compoundnet.train.watching import Watcher as Watcher

# Name -> module that has it, loaded on first use: `reproduce` reads result files, and does not wait for torch.
_EXPORTS = {
    "Epoch": "watching",
    "Evaluation": "evaluation",
    "Hardware": "hardware",
    "Outcome": "run",
    "Recipe": "recipe",
    "Task": "task",
    "Watcher": "watching",
    "evaluate": "evaluation",
    "find_recipe": "recipe",
    "launch": "hardware",
    "override": "overrides",
    "plan_task": "task",
    "recipes": "recipe",
    "sweep": "sweep",
    "train": "run",
}

__all__ = ["Result", *_EXPORTS]  # noqa: PLE0604  # names all


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        value = getattr(importlib.import_module(f"compoundnet.train.{_EXPORTS[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'compoundnet.train' has no attribute {name!r}")
