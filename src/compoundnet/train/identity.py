"""What a checkpoint must agree in with the run that goes on from it."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import numpy as np

from compoundnet.base import CompoundNetError, plain_values
from compoundnet.train.task import Task

# These change no weight, or only which pictures may be missing.
_FREE = ("save_minutes", "save_epochs", "keep", "checkpointing", "max_bad")
# What may be changed on the way, to go on after a run that diverged. It is said.
_STEERING = ("lr", "clip_norm", "precision")
_SAMPLE = 1000


def identity(task: Task) -> str:
    """Recipe, network and data of a task, as JSON. Of the pictures a sample of names and labels takes part."""
    names = hashlib.sha256()
    for split in filter(None, (task.train, task.held)):
        for index in np.linspace(0, len(split) - 1, _SAMPLE, dtype=int):
            names.update(f"{split.image_name(int(index))}:{split.labels[index]}\n".encode(errors="replace"))
    parts = {
        "network": plain_values(task.network),
        "data": {
            "name": task.dataset,
            "classes": list(task.train.classes),
            "training pictures": len(task.train),
            "held-out pictures": len(task.held) if task.held is not None else 0,
            "digest of their names": names.hexdigest(),
        },
        "recipe": {name: value for name, value in task.recipe.fields().items() if name not in _FREE},
        "start": {"model": task.start.name if task.start is not None else "new weights"},
    }
    return msgspec.json.encode(parts).decode()


def check_identity(found: str, expected: str, where: str) -> list[str]:
    """Raise where a checkpoint is of another task, naming what differs; what may differ is returned.

    As "lr 0.1 instead of 0.4".
    """
    ours, theirs = (msgspec.json.decode(text) for text in (expected, found))
    settings = {name: (ours["recipe"].pop(name), theirs["recipe"].pop(name)) for name in _STEERING}
    differs = _difference(theirs, ours)
    if differs is not None:
        raise CompoundNetError(
            f"{where}: is a run with {differs}. Resume with the settings it was started with, give another output"
            " (-o), or --force to begin anew"
        )
    return [f"{name} {mine} instead of {its}" for name, (mine, its) in settings.items() if mine != its]


def difference(found: str, expected: str) -> str | None:
    """The first thing in which two identities differ, as "another recipe: lr is 0.1 there and 0.2 here"."""
    return _difference(msgspec.json.decode(found), msgspec.json.decode(expected))


def _difference(theirs: dict[str, Any], ours: dict[str, Any]) -> str | None:
    for part, mine in ours.items():
        its = theirs[part]
        for name in mine | its:
            if mine.get(name) != its.get(name):
                return f"another {part}: {name} is {_short(its.get(name))} there and {_short(mine.get(name))} here"
    return None


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
