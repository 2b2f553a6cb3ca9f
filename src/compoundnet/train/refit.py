"""The second training of a run: on all training images, when the held-out ones have decided.

Held-out images choose the epoch whose weights are the best, fit the temperature and choose the thresholds, but teach
the network nothing. `refit` then trains once more from the start with the same seed and schedule, on these images too,
for as many epochs as were found to be the best. What was fitted on the held-out images stays: there are none left to
fit it on.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from compoundnet.train.checkpoints import Checkpoints
from compoundnet.train.engine import Engine
from compoundnet.train.identity import identity
from compoundnet.train.logs import Logs
from compoundnet.train.status import Watcher
from compoundnet.train.task import Task

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def refit_task(task: Task) -> Task:
    """Return the task of training on all images of a task with held-out ones."""
    assert task.whole is not None
    recipe = task.recipe.replace(minival=0, select="last", patience=0, refit=False)
    return msgspec.structs.replace(task, recipe=recipe, train=task.whole, held=None, whole=None, notes=())


def refit(
    task: Task, folder: Path, selected: int, epoch_steps: int, fabric: Fabric, *, workers: int, watcher: Watcher | None
) -> Engine:
    """Train on all images, and return the finished run, whose checkpoints stay. It goes on where it was interrupted.

    Args:
        task: The task with held-out images.
        folder: The run's folder, in which it gets a folder of its own.
        selected: The step of the first training whose weights were selected.
        epoch_steps: Steps of an epoch of the first training.
        fabric: The processes.
        workers: Decoding processes of each process.
        watcher: Receives the events.
    """
    again = refit_task(task)
    # By what determines it: if the first training is changed or goes on, this one starts anew.
    digest = hashlib.sha256(f"{identity(again)} {selected} {epoch_steps}".encode()).hexdigest()[:8]
    place, first = folder / f"refit-{digest}", fabric.is_global_zero
    if first:
        remove_refits(folder, but=place)
    fabric.barrier()
    checkpoints = Checkpoints(place / "checkpoints", again.recipe.keep)
    # Without the loggers of the first training, which count its steps.
    engine = Engine(again, fabric, checkpoints, Logs(place if first else None, ()), workers=workers, watcher=watcher)
    engine.stop_after(selected if again.recipe.steps else round(selected / epoch_steps * engine.epoch_steps))
    engine.resume()
    if first and watcher is not None:
        length = selected / epoch_steps
        epochs = f"{length:.3g} epoch{'s' * (length != 1)}"
        watcher.notify(f"refit: training from the start on all {len(again.train):,} images, for {epochs}")
    engine.run()
    return engine


def finish_refits(folder: Path, kept: Literal["last", "all", "none"]) -> None:
    """Delete the checkpoints of the second training in a run's folder that are not to be kept."""
    for place in folder.glob("refit-*"):
        Checkpoints(place / "checkpoints", keep=1).finish(kept)


def remove_refits(folder: Path, but: Path | None = None) -> None:
    """Delete the second trainings in a run's folder that are not to be continued."""
    for old in folder.glob("refit-*"):
        if old != but:
            shutil.rmtree(old, ignore_errors=True)
