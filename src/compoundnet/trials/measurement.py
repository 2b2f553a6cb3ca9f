"""The measurement of a network: training from scratch by a recipe, and evaluation on images not trained on."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from compoundnet.arch import Network, cost
from compoundnet.base import CompoundNetError, limits, plain_values, read_file, write_whole
from compoundnet.base.machine import torch_threads
from compoundnet.data import Dataset
from compoundnet.data.holdout import RULE
from compoundnet.train.hardware import Hardware, launch
from compoundnet.train.interruptions import DivergedError
from compoundnet.train.logs import Logs
from compoundnet.train.results import make_result
from compoundnet.train.status import Epoch, Watcher

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from compoundnet.train import Recipe, Task
    from compoundnet.train.checkpoints import Checkpoints

_log = logging.getLogger(__name__)
# The fraction of the training images that is held out if the recipe holds none out. The images are chosen with seed 0
# for every seed of a trial, so that all trials are judged on the same images.
HELD_OUT = 0.2
_HOLD_OUT_SEED = 0
JudgedOn = Literal["held", "test"]
# Fields of a recipe that do not change the measurement.
_FREE = ("name", "about", "source", "seed", "resolution", "select", "patience")


class TrainingJob(msgspec.Struct, frozen=True):
    """The training of one trial.

    Attributes:
        network: The network to train.
        seed: The seed of the weights and of the training.
        point: A description of the network for people.
        judged_on: The images on which accuracy is measured, as in `measure`.
        keep: The model folder, in models/ of the study's folder, to which the trained network is written.
    """

    network: Network
    seed: int
    point: str
    judged_on: JudgedOn = "held"
    keep: str | None = None


class TrialOutcome(msgspec.Struct, frozen=True):
    """The measurement of a network.

    Attributes:
        accuracy: Top-1 accuracy, a fraction; 0 if training diverged.
        count: Images on which the accuracy was measured.
        macs: Multiply-adds of one image, with the classes of the data set.
        params: Parameters, with the classes of the data set.
        seconds: The duration of the training.
        epochs: (epoch, accuracy on the held-out images) after each evaluation.
        diverged: Whether training diverged.
    """

    accuracy: float
    count: int
    macs: int
    params: int
    seconds: float
    epochs: tuple[tuple[int, float], ...] = ()
    diverged: bool = False


def outcome_of(trial: FrozenTrial) -> TrialOutcome | None:
    """Return the outcome of a trial, or None if the trial did not train its network to the end."""
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
    """Train a network on the training images without the held-out ones, at the resolution of the network, and judge it.

    The same arguments give the same accuracy, bit for bit on one CPU model: a trial computes in one thread, and several
    trials run at once to use all cores.

    Args:
        seed: The seed of the weights and of the training.
        judged_on: "held": held-out training images (`recipe.minival` of them, or HELD_OUT); "test": the test split.
        epoch_done: Called after each evaluated epoch with its number and its accuracy on the held-out images. An
            exception that it raises (optuna.TrialPruned) ends the training and is passed on.
        cache: A folder of finished measurements; a measurement with equal arguments is read from it.
        keep: The model folder to which the trained network is written.

    Raises:
        InterruptedRunError: This process was asked to stop.
        CompoundNetError: The data cannot be used.
    """
    place = cache / f"{fingerprint(network, dataset, recipe, seed, judged_on)}.json" if cache is not None else None
    if place is not None and place.exists() and (keep is None or keep.exists()):
        try:
            known = msgspec.json.decode(read_file(place, limits.METADATA_BYTES), type=TrialOutcome)
        except (ValueError, RecursionError) as error:
            raise CompoundNetError(f"{place}: is damaged: {error}; delete it to measure again") from error
        replay(known, epoch_done)
        return known
    measured = _train(plan(network, dataset, recipe, seed), judged_on, epoch_done, keep)
    if place is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, msgspec.json.encode(measured))
    return measured


def replay(measured: TrialOutcome, epoch_done: Callable[[int, float], None] | None) -> None:
    """Call `epoch_done` for each epoch of a known measurement."""
    for epoch, accuracy in measured.epochs if epoch_done is not None else ():
        assert epoch_done is not None
        epoch_done(epoch, accuracy)


def fingerprint(network: Network, dataset: Dataset, recipe: Recipe, seed: int, judged_on: JudgedOn) -> str:
    """Return a digest of everything that a measurement depends on (not the name and origin of the network)."""
    parts = {
        "network": plain_values(network.replace(name="network", scaling=None)),
        "data": data_identity(dataset),
        "recipe": {key: value for key, value in recipe.fields().items() if key not in _FREE},
        "seed": seed,
        "judged_on": judged_on,
    }
    return hashlib.blake2b(msgspec.json.encode(parts, order="deterministic"), digest_size=16).hexdigest()


def check_one_class(dataset: Dataset) -> None:
    """Raise CompoundNetError if the images have several labels each: networks are judged by top-1 accuracy."""
    if dataset.multilabel:
        raise CompoundNetError(
            f"{dataset.name}: its images have several labels each; searches, studies and sweeps judge networks by the"
            " accuracy of one class an image. `compoundnet train` without --sweep trains on several labels"
        )


def data_identity(dataset: Dataset) -> str:
    """Return a digest of the classes, the counts, and the names and labels of up to 1,000 images per split of a data
    set, and of the rule by which images are held out."""
    digest = hashlib.blake2b("\0".join((RULE, *dataset.classes)).encode(), digest_size=16)
    for name, split in sorted(dataset.splits.items()):
        digest.update(f"\0{name} {len(split)}".encode())
        for index in np.linspace(0, len(split) - 1, min(len(split), 1000), dtype=int).tolist():
            digest.update(f"\0{split.image_name(index)}:{split.label_text(index)}".encode(errors="replace"))
    return digest.hexdigest()


def plan(network: Network, dataset: Dataset, recipe: Recipe, seed: int) -> Task:
    """Return the training task of one trial. The last weights count: choosing the best epoch would favour lucky
    networks."""
    from compoundnet.train import plan_task  # noqa: PLC0415  imports torch, which settings and findings do not need

    check_one_class(dataset)
    minival = HELD_OUT if recipe.minival == "auto" else recipe.minival or HELD_OUT
    changed: dict[str, Any] = recipe.fields() | {"minival": minival, "select": "last", "patience": 0, "seed": seed}
    changed.pop("resolution", None)
    recipe = msgspec.convert(changed, type(recipe))
    return plan_task(recipe, dataset, network=network, holdout_seed=_HOLD_OUT_SEED)


def _train(
    task: Task, judged_on: JudgedOn, epoch_done: Callable[[int, float], None] | None, keep: Path | None
) -> TrialOutcome:
    from compoundnet.train.counts import Tolerance, count  # noqa: PLC0415  imports torch, which settings and findings do not need
    from compoundnet.train.engine import Engine  # noqa: PLC0415
    from compoundnet.train.model_output import write_model  # noqa: PLC0415

    epochs: list[tuple[int, float]] = []

    class EpochWatcher(Watcher):
        def epoch_ended(self, epoch: Epoch) -> None:
            if epoch.held_top1 is not None:
                epochs.append((epoch.epoch, epoch.held_top1))
                if epoch_done is not None:
                    epoch_done(*epochs[-1])

    judged = task.held if judged_on == "held" else task.test
    if judged is None:
        raise CompoundNetError(f"{task.dataset} has no test images with known classes to judge networks on")
    images, started, costs = len(judged), time.monotonic(), cost(task.network)
    fabric = launch(Hardware(devices=1), task.recipe)
    with torch_threads(1):
        engine = Engine(task, fabric, no_checkpoints(), Logs(None), watcher=EpochWatcher())
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
                counts = count(
                    engine.evaluation_net(), judged, task.preprocess, fabric, batch=task.recipe.batch,
                    tolerance=Tolerance(task.recipe.max_bad, "test", engine.noted),
                )  # fmt: skip
                images, accuracy = counts.count, counts.top1
                result = make_result(task.network.name, task.dataset, counts, str(keep or ""))
            for text in engine.noted.lines:
                _log.warning(text)
            if keep is not None:
                write_model(task, keep, engine.selected_weights(), engine.history, result, replace=True)
    return TrialOutcome(accuracy, images, costs.macs, costs.params, time.monotonic() - started, tuple(epochs), diverged)


def no_checkpoints() -> Checkpoints:
    """Return checkpoints that store nothing: a trial is short, and starts again after an interruption."""
    from compoundnet.train.checkpoints import Checkpoints  # noqa: PLC0415  imports torch, as above

    class NoCheckpoints(Checkpoints):
        lasting = False

        def save(self, state: dict[str, Any], step: int) -> None:
            """Store nothing."""

    return NoCheckpoints(Path("no checkpoints"), keep=1)
