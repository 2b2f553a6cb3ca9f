"""`fit`: look at the images, screen the candidates, race the best, and finish with the best that fits."""

from __future__ import annotations

import datetime
import math
import os
import shutil
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from compoundnet.base import CompoundNetError, Notify, Progress, ignore, make_folder
from compoundnet.base.machine import check_threads, processor
from compoundnet.data import Dataset, open_dataset
from compoundnet.data.classes import check_classes
from compoundnet.data.copies import copies_remark
from compoundnet.data.names import some
from compoundnet.fit.earlier import begin
from compoundnet.fit.images import identity_of, without
from compoundnet.fit.job import Confirm, FitJob
from compoundnet.fit.limits import Limits
from compoundnet.fit.race import RungStudy, join_race
from compoundnet.fit.race_run import trainings_of
from compoundnet.fit.starts import StartingModels, is_from_scratch, open_models
from compoundnet.fit.state import FIT_FILE, Fit, fit_folder, work_folder
from compoundnet.fit.steps import Steps
from compoundnet.fit.trainings import Trainings
from compoundnet.fit.ways import check_format
from compoundnet.models.folder import check_target
from compoundnet.models.weights_files import sha256_of
from compoundnet.trials.database import without_password


def fit(
    data: str | os.PathLike[str] | Dataset,
    output: str | os.PathLike[str],
    limits: Limits | None = None,
    *,
    models: Sequence[str] | None = None,
    seconds: float | None = None,
    format: str = "onnx",  # noqa: A002  the option's name on the command line
    threads: int = 1,
    workers: int = 1,
    storage: str | None = None,
    seed: int = 0,
    replace: bool = False,
    confirm: Confirm = lambda _: True,
    progress: Progress = ignore,
    notify: Notify = ignore,
) -> Fit:
    """Find the most accurate classifier of the images within a budget, and write it.

    Writes OUTPUT (a model folder), the deployed file beside it and OUTPUT.fit (`fit.json`, report.html). What an
    earlier call with the same data has found is used again. Ctrl-C leaves the best so far.

    Args:
        data: A string as for `open_dataset`, or an opened data set.
        output: The model folder.
        limits: The budget; no limits by default.
        models: Names, folders or `hf-hub:` addresses; by default all that are at hand (`models_at_hand`).
        seconds: The time for all of it: after a sixth no further candidate is screened, and the rest is for
            fine-tuning. By default all candidates are screened, and the answer is a probe.
        format: The format of the deployed file: onnx, openvino, torch or litert.
        threads: Threads of the network that is timed.
        workers: The number of fine-tunings at a time.
        storage: A PostgreSQL URL for the race, so that `join_fit` can work on it on other machines.
        seed: The seed of the fine-tunings; all of them, and the probe, are judged on the same held-out images.
        replace: Whether to start anew and replace an earlier result.
        confirm: Asked before the first fine-tuning, with what is about to be done and how long it takes; not again by a
            call that goes on with it.
        progress: Called with the number of images whose features are computed.
        notify: Called with a line for each candidate, and for each choice.

    Raises:
        CompoundNetError: Nothing fits (the message says what comes nearest), no model is at hand, the output exists,
            another process writes it, a class has fewer than two images, or nothing here runs the format.
    """
    began, target, limits = time.monotonic(), Path(output), limits or Limits()
    deadline = math.inf if seconds is None else time.time() + seconds
    threads = check_threads(threads)
    check_format(format)
    if seconds is not None and storage is not None:
        without_password(storage)  # a URL that cannot be read is no reason to screen for long before
    folder = fit_folder(target)
    check_target(target, replace or (folder / FIT_FILE).exists())
    dataset, assumed = _checked(data)
    try:
        with FileLock(make_folder(folder) / "lock", blocking=False):
            said = list(filter(None, (assumed, copies_remark(dataset))))
            opened = open_models(models, folder, said.append, trained=seconds is not None)
            for name, model in opened.items():
                if target.exists() and model.folder.samefile(target):
                    raise CompoundNetError(
                        f"{name} is the folder that the answer is written to: give another output (-o), or a copy of it"
                    )
            new = Fit(
                data=dataset.name,
                understood=dataset.text(),
                identity=identity_of(dataset),
                limits=limits,
                threads=threads,
                processor=processor(),
                format=format,
                weights={name: sha256_of(model.weights) for name, model in opened.items()},
                new_weights=any(is_from_scratch(model) for model in opened.values()),
                made_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                version=metadata.version("compoundnet"),
            )
            work = work_folder(target, new.identity)
            state = begin(new, target, work, anew=replace, notify=notify)
            for text in said:
                notify(text)
                state = state.noted(text, passing=True)
            starts = StartingModels(opened, dataset.split("train"), work / "inherited")
            job = FitJob(
                dataset=dataset, target=target, identity=new.identity, starts=starts, began=began, seconds=seconds,
                deadline=deadline, workers=workers, storage=storage, seed=seed, confirm=confirm, progress=progress,
                notify=notify,
            )  # fmt: skip
            return Steps(job).run(state)
    except Timeout as error:
        raise CompoundNetError(f"another process writes {target}; wait for it, or give another output (-o)") from error
    except CompoundNetError:
        # Refused before it found anything; without a folder if that could not be made.
        if folder.is_dir() and {path.name for path in folder.iterdir()} <= {"lock"}:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def join_fit(
    data: str | os.PathLike[str] | Dataset,
    output: str | os.PathLike[str],
    storage: str,
    *,
    models: Sequence[str] | None = None,
    notify: Notify = ignore,
) -> int:
    """Work on the fine-tunings of a fit that another process runs with the same storage and output's name.

    Args:
        data: The same images.
        output: The output of the fit; this process keeps its checkpoints in OUTPUT.fit.
        storage: The PostgreSQL URL.
        models: The models that the fit starts from; by default all at hand.
        notify: Called with a line for each fine-tuning that is finished here, and for what ended the work.

    Returns:
        The number of fine-tunings that were finished here.

    Raises:
        InterruptedRunError: This process was asked to stop.
        CompoundNetError: The images are other ones, a model that the fit starts from is not among those here or has
            other weights, or the storage cannot be used.
    """
    (dataset, assumed), target = _checked(data), Path(output)
    if assumed is not None:
        notify(assumed)
    folder = make_folder(fit_folder(target))
    work = work_folder(target, identity_of(dataset))
    starts = StartingModels(open_models(models, folder, notify), dataset.split("train"), work / "inherited")

    def trainings(rung: RungStudy, until: float) -> Trainings:
        for name, weights in rung.weights.items():
            if name not in starts.opened:
                raise CompoundNetError(
                    f"the fit starts from {name}, which is not among the models here"
                    f" ({', '.join(starts.opened)}): install or fetch it, or give it as --candidate"
                )
            if sha256_of(starts.opened[name].weights) != weights:
                raise CompoundNetError(f"{name} has other weights here than where the fit was started: use the same")
        return trainings_of(without(dataset, rung.unreadable), work, starts, rung.candidates, 1, until)

    return join_race(trainings, storage, target.name, notify)


def _checked(data: str | os.PathLike[str] | Dataset) -> tuple[Dataset, str | None]:
    """The data, read with one range by all steps, and a note if that had to be found."""
    dataset = data if isinstance(data, Dataset) else open_dataset(data)
    if "train" not in dataset.splits:
        raise CompoundNetError(f"{dataset.name} has no training images to choose a classifier by")
    train = dataset.split("train")
    check_classes(train, dataset.name)
    alone = [train.classes[label] for label in np.flatnonzero(train.counts() < 2)]
    if alone:
        raise CompoundNetError(
            f"{dataset.name}: {some(alone)} {'has' if len(alone) == 1 else 'each have'} 1 training image, and fit needs"
            f" two of each {'label' if train.multilabel else 'class'}, by which candidates are cross-validated (test"
            " images are not used for that): add images, or remove what has too few"
        )
    return dataset.with_range(None)
