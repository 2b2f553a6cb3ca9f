"""The identity of a run: the values that a checkpoint must share with the run that resumes from it."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from torch import nn

from compoundnet.base import CompoundNetError, plain_values
from compoundnet.base.table_files import utf8
from compoundnet.models.weights_files import sha256_of
from compoundnet.train.recipe import Recipe, convert_fields
from compoundnet.train.schedule import learning_rate, phase_of, total_steps
from compoundnet.train.task import Task

# These do not change any weight, except by the images that may be missing.
_FREE = (
    "save_minutes", "save_epochs", "keep", "keep_finished", "checkpointing", "max_bad", "allow_truncated", "refit"
)  # fmt: skip
# These may be changed when a run resumes, after it diverged or to stop later; the run reports the change.
_STEERING = ("lr", "clip_norm", "precision", "patience")
# These may be changed to train for longer (or shorter) than the run was started for.
_LENGTH = ("epochs", "steps")
_SAMPLE = 1000
_NO_TEACHER = {"model": "none"}


def identity(task: Task) -> str:
    """Return recipe, network, data, loss and augmentation of a task as JSON; images by a sample of names and labels."""
    names = hashlib.sha256()
    for split in filter(None, (task.train, task.held)):
        for index in np.linspace(0, len(split) - 1, _SAMPLE, dtype=int):
            names.update(f"{split.image_name(int(index))}:{split.label_text(int(index))}\n".encode(errors="replace"))
    parts = {
        "network": plain_values(task.network),
        "data": {
            "name": utf8(task.dataset),
            "classes": list(task.train.classes),
            "training images": len(task.train),
            "held-out images": len(task.held) if task.held is not None else 0,
            "digest of their names": names.hexdigest(),
        },
        "recipe": {name: value for name, value in task.recipe.fields().items() if name not in _FREE},
        "start": {"model": "new weights"}
        if task.start is None
        else {"model": task.start.name, "digest of its weights": sha256_of(task.start.weights)},
        "teacher": _NO_TEACHER
        if task.teacher is None
        else {
            "model": task.teacher.name,
            "digest of its weights": sha256_of(task.teacher.weights),
        },
        "function": {
            "loss": described(task.loss) if task.loss is not None else "cross-entropy",
            "augmentation": described(task.augment.transform) if task.augment is not None else "the recipe's",
        },
    }
    return msgspec.json.encode(parts).decode()


def described(function: Any) -> str:
    """Return the name of a function, or the repr of an object, on one line and the same in every process."""
    if isinstance(function, nn.Module):
        digest = hashlib.sha256()
        for name, tensor in function.state_dict().items():
            digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
        shown = " ".join(repr(function).split())
        return f"{shown} {digest.hexdigest()[:16]}" if function.state_dict() else shown
    if isinstance(function, functools.partial):
        return f"{described(function.func)} with {function.args} {function.keywords}"
    if hasattr(function, "__qualname__"):
        return f"{function.__module__}.{function.__qualname__}"
    shown = " ".join(repr(function).split())
    kind = type(function)
    return f"{kind.__module__}.{kind.__qualname__}" if " at 0x" in shown else shown


class Changes(NamedTuple):
    """The allowed differences of a run from the checkpoint that it resumes from.

    Attributes:
        settings: Such as "lr 0.1 instead of 0.4".
        recipe: The recipe of the checkpoint if the run is to be longer or shorter than that one; otherwise None.
    """

    settings: tuple[str, ...]
    recipe: Recipe | None


def check_identity(found: str, expected: str, where: str) -> Changes:
    """Compare the identity of a checkpoint with that of the run that resumes from it.

    Args:
        found: The checkpoint's.
        expected: The run's.
        where: The checkpoints' folder, for the message.

    Raises:
        CompoundNetError: the checkpoint belongs to another task; the message says what differs.
    """
    ours, theirs = msgspec.json.decode(expected), _completed(msgspec.json.decode(found), where)
    before = dict(theirs["recipe"])
    settings = {name: (ours["recipe"].pop(name), theirs["recipe"].pop(name)) for name in (*_STEERING, *_LENGTH)}
    differs = _difference(theirs, ours)
    if differs is not None:
        raise CompoundNetError(
            f"{where}: is a run with {differs}. Resume with the settings it was started with, give another output"
            " (-o), or start again with --force"
        )
    changed = {name: values for name, values in settings.items() if values[0] != values[1]}
    return Changes(
        tuple(f"{name} {mine} instead of {its}" for name, (mine, its) in changed.items() if name in _STEERING),
        convert_fields(before, where) if any(name in changed for name in _LENGTH) else None,
    )


def _completed(found: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a checkpoint's identity with the defaults of what an older version did not have yet.

    Raises:
        CompoundNetError: a newer version wrote it, with a field that is unknown here.
    """
    try:
        recipe = convert_fields(found["recipe"], where)
    except CompoundNetError as error:
        raise CompoundNetError(
            f"{error}; another version of compoundnet wrote the checkpoint: resume with that one, or give another"
            " output (-o)"
        ) from error
    kept = {name: value for name, value in recipe.fields().items() if name not in _FREE}
    return {"teacher": _NO_TEACHER, **found, "recipe": msgspec.json.decode(msgspec.json.encode(kept))}


def going_on(changes: Changes, recipe: Recipe, step: int, epoch_steps: int, done: bool, where: Path) -> list[str]:
    """Return what to tell the user about a run that goes on with changes.

    Args:
        changes: The changes.
        recipe: The recipe of the run from here on.
        step: Number of steps done.
        epoch_steps: Number of steps of an epoch.
        done: Whether the run has no more steps to do.
        where: The checkpoints' folder, for messages.

    Raises:
        CompoundNetError: it cannot go on so.
    """
    steps = total_steps(recipe, epoch_steps)
    more = "ask for more epochs than that (--resume --set epochs=...)"
    if changes.recipe is not None and step > steps:
        raise CompoundNetError(
            f"{where}: {step:,} steps ({step / epoch_steps:.3g} epochs) are done, more than the {steps:,} asked for; to"
            f" go on, {more}; or give another output (-o)"
        )
    if changes.recipe is not None and done and step < steps:
        raise CompoundNetError(
            f"{where}: the run stopped early, after {recipe.patience} evaluations without improvement; to go on, add"
            " --set patience=0"
        )
    if changes.settings and done:
        raise CompoundNetError(
            f"{where}: is a finished run, which cannot continue with {changes.settings[0]}. To go on from it, {more};"
            " or give another output (-o), or start again with --force"
        )
    lines = [f"continuing with {change}: from here on it is a different run" for change in changes.settings]
    before = total_steps(changes.recipe, epoch_steps) if changes.recipe is not None else steps
    if changes.recipe is not None and before != steps:
        last = learning_rate(changes.recipe, max(0, step - 1), before, epoch_steps)
        first, final = (learning_rate(recipe, number, steps, epoch_steps) for number in (step, steps - 1))
        lines.append(
            f"going on after step {step:,} to step {steps:,} ({steps / epoch_steps:.3g} epochs) instead of {before:,}:"
            f" the learning rate was {last:.2g}, and follows the schedule of the new length from here on, from"
            f" {first:.2g} to {final:.2g}"
        )
        lines += _other_phase(recipe, max(0, step - 1), before, step, steps)
    return lines


def _other_phase(recipe: Recipe, last: int, before: int, step: int, steps: int) -> list[str]:
    """What to tell about progressive learning if step number `step` of `steps` is in another phase than step `last` of
    `before` was."""
    was, now = phase_of(last, before, recipe.phases), phase_of(step, steps, recipe.phases)
    if was == now:
        return []
    sizes = [recipe.phase(phase).train_resolution for phase in (was, now)]
    return [
        f"progressive learning {'goes back' if now < was else 'goes on'} from phase {was + 1} to phase {now + 1} of"
        f" {recipe.phases}, with the regularisation of that phase and training images of {sizes[1]} px instead of"
        f" {sizes[0]}"
    ]


def difference(found: str, expected: str) -> str | None:
    """Return the first difference of two identities, as "another recipe: lr is 0.1 there and 0.2 here"."""
    return _difference({"teacher": _NO_TEACHER, **msgspec.json.decode(found)}, msgspec.json.decode(expected))


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
