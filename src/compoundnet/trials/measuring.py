"""Measuring a network: trained from scratch by a recipe, judged on pictures that it was not trained on."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from compoundnet.arch import Network, cost
from compoundnet.base import CompoundNetError, plain_values, write_whole
from compoundnet.base.machine import torch_threads
from compoundnet.data import Dataset

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from compoundnet.train import Recipe, Task
    from compoundnet.train.checkpoints import Checkpoints

# Of the training pictures, where the recipe holds none out. Chosen by seed 0 whatever the trial's seed is, so that
# all trials are judged on the same pictures.
HELD_OUT = 0.2
_HOLD_OUT_SEED = 0
JudgedOn = Literal["held", "test"]
# What a recipe says and a measurement does not go by.
_FREE = ("name", "about", "source", "seed", "resolution", "select", "patience")


class TrainingJob(msgspec.Struct, frozen=True):
    """What one trial trains.

    Attributes:
        network: The network.
        seed: Of its weights and its training.
        point: The network in words, for people.
        judged_on: The images that the accuracy is of.
        keep: The name of the model folder, in models/ of the study's folder, that the trained network is written to.
    """

    network: Network
    seed: int
    point: str
    judged_on: JudgedOn = "held"
    keep: str | None = None


class TrialOutcome(msgspec.Struct, frozen=True):
    """accuracy   top-1, a fraction of `count` pictures; 0 where training diverged
    macs, params  of the network as it was trained, with the data's classes
    seconds       that it took
    epochs        (epoch, accuracy on held-out pictures) after each evaluation
    """

    accuracy: float
    count: int
    macs: int
    params: int
    seconds: float
    epochs: tuple[tuple[int, float], ...] = ()
    diverged: bool = False


def outcome_of(trial: FrozenTrial) -> TrialOutcome | None:
    """Return the outcome of a trial that has trained its network to the end, or None."""
    return msgspec.convert(trial.user_attrs["outcome"], TrialOutcome) if trial.state.name == "COMPLETE" else None


def measure(
    network: Network,
    dataset: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    judged_on: JudgedOn = "held",
    epoch_done: Callable[[int, float], None] | None = None,
    cache: Path | None = None,
    keep: Path | None = None,
) -> TrialOutcome:
    """Train on the training pictures less the held-out ones, at the network's own resolution.

    The same arguments give the same accuracy, to the bit on one CPU: a trial computes in one thread, and machines are
    filled by running several trials at once.

    judged_on   "held": held-out training pictures (`recipe.minival` of them, or HELD_OUT); "test": the test split
    epoch_done  called after each evaluated epoch with its number and its accuracy on held-out pictures; what it raises
                (optuna.TrialPruned) ends the training and is passed on
    cache       a folder in which finished measurements are found again by their content
    keep        the model folder to write the trained network to

    Raises InterruptedRunError when it is asked to stop, CompoundNetError where the data cannot be used.
    """
    place = cache / f"{fingerprint(network, dataset, recipe, seed, judged_on)}.json" if cache is not None else None
    if place is not None and place.exists() and (keep is None or keep.exists()):
        known = msgspec.json.decode(place.read_bytes(), type=TrialOutcome)
        replay(known, epoch_done)
        return known
    measured = _train(plan(network, dataset, recipe, seed), judged_on, epoch_done, keep)
    if place is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, msgspec.json.encode(measured))
    return measured


def replay(measured: TrialOutcome, epoch_done: Callable[[int, float], None] | None) -> None:
    """Tell of a known measurement's epochs as if it were trained now."""
    for epoch, accuracy in measured.epochs if epoch_done is not None else ():
        assert epoch_done is not None
        epoch_done(epoch, accuracy)


def fingerprint(network: Network, dataset: Dataset, recipe: Recipe, seed: int, judged_on: JudgedOn) -> str:
    """Of everything that decides a measurement; what a network is called and was scaled from does not."""
    parts = {
        "network": plain_values(network.replace(name="network", scaling=None)),
        "data": data_identity(dataset),
        "recipe": {key: value for key, value in recipe.fields().items() if key not in _FREE},
        "seed": seed,
        "judge": judged_on,
    }
    return hashlib.blake2b(msgspec.json.encode(parts, order="deterministic"), digest_size=16).hexdigest()


def data_identity(dataset: Dataset) -> str:
    """Of a data set's classes, picture names and labels, as far as a sample of them tells."""
    import numpy as np

    digest = hashlib.blake2b("\0".join(dataset.classes).encode(), digest_size=16)
    for name, split in sorted(dataset.splits.items()):
        digest.update(f"\0{name} {len(split)}".encode())
        for index in np.linspace(0, len(split) - 1, min(len(split), 1000), dtype=int).tolist():
            digest.update(f"\0{split.image_name(index)}:{split.labels[index]}".encode(errors="replace"))
    return digest.hexdigest()


def plan(network: Network, dataset: Dataset, recipe: Recipe, seed: int) -> Task:
    """The task of one trial: the last weights count, as choosing the best epoch would flatter the luckier network."""
    from compoundnet.data.holdout import hold_out
    from compoundnet.train import plan_task

    if "train" not in dataset.splits:
        raise CompoundNetError(f"{dataset.name} has no training pictures to search with")
    train, held = hold_out(dataset.split("train"), recipe.minival or HELD_OUT, _HOLD_OUT_SEED)
    changed: dict[str, Any] = recipe.fields() | {"minival": 0, "select": "last", "patience": 0, "seed": seed}
    changed.pop("resolution", None)
    rest = msgspec.structs.replace(dataset, splits={**dataset.splits, "train": train})
    task = plan_task(msgspec.convert(changed, type(recipe)), rest, network=network)
    return msgspec.structs.replace(task, held=held)


def _train(
    task: Task, judged_on: JudgedOn, epoch_done: Callable[[int, float], None] | None, keep: Path | None
) -> TrialOutcome:
    from compoundnet.train.counts import count
    from compoundnet.train.engine import Engine
    from compoundnet.train.hardware import Hardware, launch
    from compoundnet.train.interruptions import DivergedError
    from compoundnet.train.logs import Logs
    from compoundnet.train.results import make_result
    from compoundnet.train.run import write_model
    from compoundnet.train.status import Epoch, Watcher

    epochs: list[tuple[int, float]] = []

    class Ears(Watcher):
        def epoch_ended(self, epoch: Epoch) -> None:
            if epoch.held_top1 is not None:
                epochs.append((epoch.epoch, epoch.held_top1))
                if epoch_done is not None:
                    epoch_done(*epochs[-1])

    judged = task.held if judged_on == "held" else task.test
    if judged is None:
        raise CompoundNetError(f"{task.dataset} has no test pictures with known classes to judge networks on")
    started, costs = time.monotonic(), cost(task.network)
    fabric = launch(Hardware(devices=1), task.recipe)
    with torch_threads(1):
        engine = Engine(task, fabric, no_checkpoints(), Logs(None), watcher=Ears())
        try:
            engine.run()
        except DivergedError:
            accuracy, diverged = 0.0, True
        else:
            diverged = False
            result = None
            if judged_on == "held":
                accuracy = epochs[-1][1]
            else:
                counts = count(engine.evaluable, judged, task.preprocess, fabric, batch=task.recipe.batch)
                accuracy, result = counts.top1, make_result(task.network.name, task.dataset, counts, str(keep or ""))
            if keep is not None:
                write_model(task, keep, engine.weights, engine.history, result, replace=True)
    return TrialOutcome(
        accuracy, len(judged), costs.macs, costs.params, time.monotonic() - started, tuple(epochs), diverged
    )


def no_checkpoints() -> Checkpoints:
    """A trial is short: one that is interrupted begins again, and comes to the same."""
    from compoundnet.train.checkpoints import Checkpoints

    class Forgetful(Checkpoints):
        def save(self, state: dict[str, Any], step: int) -> None:
            """Keep nothing."""

    return Forgetful(Path("no checkpoints"), keep=1)
