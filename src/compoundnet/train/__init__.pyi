from .evaluation import Evaluation, evaluate
from .hardware import Hardware, launch, starts_as_first
from .interruptions import InterruptedRunError
from .overrides import override
from .recipe import Recipe, find_recipe, recipes
from .results import Result
from .run import Outcome, train
from .status import Epoch, Watcher
from .task import Task, plan_task

__all__ = [
    "Epoch",
    "Evaluation",
    "Hardware",
    "InterruptedRunError",
    "Outcome",
    "Recipe",
    "Result",
    "Task",
    "Watcher",
    "evaluate",
    "find_recipe",
    "launch",
    "override",
    "plan_task",
    "recipes",
    "starts_as_first",
    "train",
]
