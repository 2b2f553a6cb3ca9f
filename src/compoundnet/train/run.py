"""A run from its task to the model folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError, Notify, Progress, make_folder
from compoundnet.base.machine import default_threads, torch_threads
from compoundnet.data import Split
from compoundnet.data.dataset import Labels
from compoundnet.models import ModelFolder, read_folder
from compoundnet.models.folder import check_target
from compoundnet.train.checkpoints import Checkpoints
from compoundnet.train.counts import Counts, Tolerance, count
from compoundnet.train.decoding import decoding_processes
from compoundnet.train.engine import Engine
from compoundnet.train.evaluation.calibration import (
    TemperatureFit,
    fit_label_temperature,
    fit_temperature,
    held_out_logits,
)
from compoundnet.train.evaluation.multi_label import multi_label_report
from compoundnet.train.hardware import Hardware, launch, repeatable
from compoundnet.train.held_out import ENOUGH
from compoundnet.train.logistic import Probe
from compoundnet.train.logs import Logs
from compoundnet.train.model_output import Decided, make_postprocess, write_model
from compoundnet.train.probe import probe_task, set_classifier, test_probe
from compoundnet.train.processes import on_first
from compoundnet.train.refit import finish_refits, refit, remove_refits
from compoundnet.train.results import Result, make_result
from compoundnet.train.several_labels import (
    LabelPredictions,
    ThresholdFit,
    count_labels,
    fit_thresholds,
    label_predictions,
)
from compoundnet.train.status import Epoch, Noted, Watcher
from compoundnet.train.task import Task
from compoundnet.train.teacher import KEPT

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.loggers.logger import Logger
    from torch import Tensor

    from compoundnet.nn import ConvNet


class Outcome(msgspec.Struct, frozen=True):
    """A finished run.

    Attributes:
        model: The model folder.
        history: The log.
        result: The result on the test images; None if there are none, or too many of them cannot be read.
        calibration: The temperature that was fitted on the held-out images; None if none was.
        thresholds: Of several labels an image, the thresholds that were chosen on the held-out images; None if none
            were.
        probe: The probe, if the recipe has no steps and it is the result; else None.
        refit: The log of the second training, on all images; None if there was none.
        notes: The images that were left out because they cannot be read; a line for each kind of them.
    """

    model: ModelFolder
    history: tuple[Epoch, ...]
    result: Result | None
    calibration: TemperatureFit | None
    thresholds: ThresholdFit | None = None
    probe: Probe | None = None
    refit: tuple[Epoch, ...] | None = None
    notes: tuple[str, ...] = ()


UNDECIDED = (
    "the threshold of each label is 0.5: no training images were held out to choose it on (--set minival=0.1 holds some"
    " out)"
)
UNCALIBRATED = (
    "probabilities are not calibrated: no training images were held out to calibrate them on (--set minival=0.1 holds"
    " some out)"
)


def run_folder(output: Path) -> Path:
    """Return the folder of a run's checkpoints and logs, next to its future model folder."""
    return output.with_name(f"{output.name}.run")


def train(
    task: Task,
    output: str | os.PathLike[str],
    *,
    fabric: Fabric | None = None,
    workers: int | None = None,
    resume: bool = False,
    replace: bool = False,
    watcher: Watcher | None = None,
    loggers: Sequence[Logger] | None = None,
) -> Outcome:
    """Train, evaluate once on the test images, and write the model folder `output`. All processes call it with the same
    arguments.

    Held-out and test images that cannot be read, up to `max_bad` of each, are left out and named in the notes of the
    outcome.

    Args:
        task: From `plan_task`.
        output: The model folder. Checkpoints and logs are in `run_folder(output)`.
        fabric: The processes, from `launch`; this one by default.
        workers: Decoding processes for each process; by default none where an epoch's images
            take less than five seconds to decode (`decoding_processes`).
        resume: Whether to continue from the last checkpoint, or start if there is none.
        replace: Whether to start again if there is a run or a model folder.
        watcher: Receives the events of the run.
        loggers: Lightning's loggers, in place of TensorBoard's; see `Logs`. Only the first process calls them.

    Raises:
        InterruptedRunError: the process was asked to stop; a checkpoint is saved.
        DivergedError: the loss or a weight is not finite.
        CompoundNetError: the output exists, a checkpoint cannot be saved, or there are too many unreadable images
            among those that are trained on or held out. The last good checkpoint stays. Of too many among the test
            images a note tells, and there is no result.
    """
    output = Path(output)
    fabric = fabric or launch(Hardware(), task.recipe)
    first, folder = fabric.is_global_zero, run_folder(output)
    alone = _alone(folder, output) if first else contextlib.nullcontext()
    with alone, repeatable(task.recipe), torch_threads(default_threads()):
        checkpoints = Checkpoints(folder / "checkpoints", task.recipe.keep)
        check_output(output, resume=resume, replace=replace)
        if first and not resume:
            checkpoints.clear()
            remove_refits(folder)
            (folder / KEPT).unlink(missing_ok=True)
        fabric.barrier()  # before any process looks for checkpoints that the first one clears
        events = watcher if first and watcher is not None else Watcher()
        if task.recipe.has_steps:
            if workers is None:
                workers = decoding_processes(task)
            engine = Engine(
                task, fabric, checkpoints, Logs(folder if first else None, loggers), workers=workers, watcher=watcher
            )
            if resume and not engine.resume():
                events.notify(f"there is no checkpoint in {checkpoints.folder}; starting at the first step")
            if first and watcher is not None:
                events.planned(engine.summary())
            engine.run()
            made = _finished(task, engine, folder, fabric, workers, events, str(output))
        else:
            made = _probed(task, fabric, events, str(output))
        if first:
            try:
                write_model(
                    task, output, made.weights, made.history, made.result, made.decided, made.probe, made.refit,
                    replace=resume or replace,
                )  # fmt: skip
                checkpoints.finish(task.recipe.keep_finished)
                finish_refits(folder, task.recipe.keep_finished)
            except CompoundNetError as error:
                raise CompoundNetError(
                    f"{error}. The training is kept: solve this, and --resume writes the model"
                ) from error
    fabric.barrier()
    return Outcome(
        read_folder(output), tuple(made.history), made.result, *made.decided, made.probe, made.refit, made.notes
    )


class _Made(NamedTuple):
    """What a run is about to write."""

    weights: dict[str, Tensor]
    history: list[Epoch]
    result: Result | None
    decided: Decided
    probe: Probe | None = None
    refit: tuple[Epoch, ...] | None = None
    notes: tuple[str, ...] = ()


def _finished(
    task: Task,
    engine: Engine,
    folder: Path,
    fabric: Fabric,
    workers: int,
    events: Watcher,
    model: str,
) -> _Made:
    """Evaluate a training that is at its last step, and train on all images if the recipe says so."""
    net, weights, again, notes = engine.evaluation_net(), engine.selected_weights(), None, list[str]()
    net.load_state_dict(weights)
    decided = _decide_held_out(task, net, fabric, workers, events, engine.noted)
    if task.whole is not None:
        second = refit(task, folder, engine.selected_step, engine.epoch_steps, fabric, workers=workers, watcher=events)
        net, weights = second.evaluation_net(), second.selected_weights()
        again, notes = tuple(second.history), second.noted.lines
    result = _test(task, net, fabric, workers, events, engine.noted, decided, model)
    said = tuple(dict.fromkeys([*engine.noted.lines, *notes]))
    return _Made(weights, engine.history, result, decided, refit=again, notes=said)


def _probed(task: Task, fabric: Fabric, events: Watcher, model: str) -> _Made:
    """Fit and evaluate a probe, which is calibrated on the images that each fold leaves out."""
    noted = Noted(events)
    probe = probe_task(task, fabric, events, noted)
    net = task.make_net()
    set_classifier(net, probe)
    held = probe.held_out.astype(np.float64)
    enough = len(held) >= ENOUGH
    decided, results = _decide(task, held, probe.labels, calibrated=task.calibrated and enough), list[Result]()
    for fit in filter(None, decided):
        events.notify(str(fit))
    if task.calibrated and not enough:
        events.notify(f"probabilities are not calibrated: {len(held):,} images are too few to do it")
    if task.test is not None:

        def test() -> None:
            with _without_result(noted):
                found = test_probe(task, probe, fabric, events, noted, make_postprocess(task, *decided))
                results.append(_result(task, found, decided, model))

        on_first(test, fabric)
    return _Made(net.state_dict(), [], results[0] if results else None, decided, probe, notes=tuple(noted.lines))


def _decide_held_out(
    task: Task, net: ConvNet, fabric: Fabric, workers: int, events: Watcher, notify: Notify
) -> Decided:
    """Decide on the held-out images, if there are any, and say so."""
    decided = Decided(None, None)
    if task.held is not None and (task.multilabel or task.calibrated):
        with _reported(events, "the held-out images", task.held, fabric) as progress:
            found = held_out_logits(
                net, task.held, task.preprocess, fabric,
                workers=workers, progress=progress, tolerance=Tolerance(task.recipe.max_bad, "held-out", notify),
            )  # fmt: skip
        decided = _decide(task, found.values, task.held.labels[found.numbers], calibrated=task.calibrated)
    calibration, thresholds = decided
    if task.multilabel:
        events.notify(str(thresholds) if thresholds is not None else UNDECIDED)
    if task.calibrated:
        events.notify(str(calibration) if calibration is not None else UNCALIBRATED)
    return decided


def _decide(task: Task, logits: NDArray[np.float64], labels: Labels, *, calibrated: bool) -> Decided:
    """Fit a temperature on logits float64[N, classes] of images that were not trained on, and choose the threshold of
    each label."""
    if not task.multilabel:
        return Decided(fit_temperature(logits, labels.astype(np.int64)) if calibrated else None, None)
    calibration = fit_label_temperature(logits, labels.astype(np.bool_)) if calibrated else None
    held = label_predictions(logits, labels, make_postprocess(task, calibration, None))
    return Decided(calibration, fit_thresholds(held, task.train.classes))


def _test(
    task: Task,
    net: ConvNet,
    fabric: Fabric,
    workers: int,
    events: Watcher,
    notify: Notify,
    decided: Decided,
    model: str,
) -> Result | None:
    """Evaluate once on the test images, if there are any."""
    if task.test is None:
        return None
    tolerance = Tolerance(task.recipe.max_bad, "test", notify)
    with _without_result(notify), _reported(events, "the test images", task.test, fabric) as progress:
        if task.multilabel:
            found: Counts | LabelPredictions = count_labels(
                net, task.test, task.preprocess, fabric, postprocess=make_postprocess(task, *decided),
                workers=workers, progress=progress, tolerance=tolerance,
            )  # fmt: skip
        else:
            found = count(
                net, task.test, task.preprocess, fabric, workers=workers, progress=progress, tolerance=tolerance
            )
        return _result(task, found, decided, model)
    return None


@contextlib.contextmanager
def _without_result(notify: Notify) -> Iterator[None]:
    """Let a training whose test images cannot be evaluated end with a model all the same."""
    try:
        yield
    except CompoundNetError as error:
        notify(
            f"the test images were not evaluated: {error}. The model is written without a result; once they can be"
            " read, `compoundnet evaluate` measures it"
        )


def _result(task: Task, found: Counts | LabelPredictions, decided: Decided, model: str) -> Result:
    name, classes = task.network.name, task.train.classes
    if isinstance(found, Counts):
        return make_result(name, task.dataset, found, model)
    report = multi_label_report(found, classes, np.arange(len(classes)), make_postprocess(task, *decided))
    return report.result(name, task.dataset, model)


@contextlib.contextmanager
def _reported(events: Watcher, what: str, split: Split, fabric: Fabric) -> Iterator[Progress]:
    """Report an evaluation, which all processes do together."""
    events.evaluation_started(what, len(split))
    try:
        yield lambda images: events.evaluated(images * fabric.world_size)
    finally:
        events.evaluation_ended()


def check_output(output: Path, *, resume: bool, replace: bool) -> None:
    """Raise CompoundNetError if `train` would refuse to write to `output`, before any work is done."""
    check_target(output, resume or replace)
    checkpoints = run_folder(output) / "checkpoints"
    left = Checkpoints(checkpoints, keep=1).paths()
    if resume and output.exists() and not left:
        raise CompoundNetError(
            f"{output} is finished, and no checkpoint of its run is left in {checkpoints} to go on from. Train on from"
            f" its weights into another folder (--from {output} -o ...), or start again with --force"
        )
    if left and not (resume or replace):
        raise CompoundNetError(
            f"{checkpoints} holds checkpoints of a run for {output}: --resume continues it, --force starts again, and"
            " another output (-o) leaves it alone"
        )


@contextlib.contextmanager
def _alone(folder: Path, output: Path) -> Iterator[None]:
    """Let only one run at a time write to an output; the system releases the lock when its process is killed."""
    try:
        make_folder(folder)
        lock = FileLock(folder / "lock", blocking=False)
        lock.acquire()
    except OSError as error:
        if isinstance(error, Timeout):
            raise CompoundNetError(
                f"another process is training {output}; wait for it, or give another output (-o)"
            ) from error
        raise CompoundNetError(f"{folder}: cannot be written: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
