"""`fit`: look at the images, screen the candidates, race the best, and finish with the best that fits."""

from __future__ import annotations

import datetime
import os
import shutil
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from compoundnet.base import CompoundNetError, Notify, Progress, ignore, make_folder
from compoundnet.base.machine import check_threads, processor
from compoundnet.data import Dataset, open_dataset
from compoundnet.data.classes import check_classes
from compoundnet.fit.candidates import Candidate
from compoundnet.fit.images import identity_of
from compoundnet.fit.limits import Limits
from compoundnet.fit.race import join_race
from compoundnet.fit.starts import StartingModels, open_models
from compoundnet.fit.state import FIT_FILE, Fit, fit_folder, read_fit, work_folder
from compoundnet.fit.steps import STAYS, Confirm, Steps, trainings_of
from compoundnet.fit.trainings import Trainings
from compoundnet.fit.ways import check_format
from compoundnet.models.folder import check_target


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
        format: The format of the deployed file: onnx, openvino or torch.
        threads: Threads of the network that is timed.
        workers: The number of fine-tunings at a time.
        storage: A PostgreSQL URL for the race, so that `join_fit` can work on it on other machines.
        seed: The seed of the fine-tunings; all of them, and the probe, are judged on the same held-out images.
        replace: Whether to replace an earlier result.
        confirm: Asked before the first fine-tuning, with what is about to be done and how long it takes.
        progress: Called with the number of images whose features are computed.
        notify: Called with a line for each candidate, and for each choice.

    Raises:
        CompoundNetError: Nothing fits (the message says what comes nearest), no model is at hand, the output exists,
            another process writes it, or a class has fewer than two images.
    """
    began, target, limits = time.monotonic(), Path(output), limits or Limits()
    threads = check_threads(threads)
    check_format(format)
    folder = fit_folder(target)
    check_target(target, replace or (folder / FIT_FILE).exists())
    dataset = _checked(data)
    try:
        with FileLock(make_folder(folder) / "lock", blocking=False):
            state = _begin(dataset, limits, threads, format, folder, notify)
            work = work_folder(target, state.identity)
            starts = StartingModels(open_models(models, folder, notify), dataset.split("train"), work / "inherited")
            return Steps(
                dataset, target, work, starts, began, seconds, workers, storage, seed, confirm, progress, notify
            ).run(state)  # fmt: skip
    except Timeout as error:
        raise CompoundNetError(f"another process writes {target}; wait for it, or give another output (-o)") from error
    except CompoundNetError:
        if {path.name for path in folder.iterdir()} <= {"lock"}:  # it was refused before it found anything
            shutil.rmtree(folder, ignore_errors=True)
        raise


def join_fit(
    data: str | os.PathLike[str] | Dataset,
    output: str | os.PathLike[str],
    storage: str,
    *,
    models: Sequence[str] | None = None,
    seed: int = 0,
    notify: Notify = ignore,
) -> int:
    """Work on the fine-tunings of a fit that another process runs with the same storage and output's name.

    Args:
        data: The same images.
        output: The output of the fit; this process keeps its checkpoints in OUTPUT.fit.
        storage: The PostgreSQL URL.
        models: The models that the fit starts from; by default all at hand.
        seed: The seed of the fine-tunings.
        notify: Called with a line for each fine-tuning that is finished here.

    Returns:
        The number of fine-tunings that were finished here.
    """
    dataset, target = _checked(data), Path(output)
    folder = make_folder(fit_folder(target))
    work = work_folder(target, identity_of(dataset))
    starts = StartingModels(open_models(models, folder, notify), dataset.split("train"), work / "inherited")

    def trainings(candidates: Sequence[Candidate]) -> Trainings:
        return trainings_of(dataset, work, starts, candidates, 1, float("inf"), seed)

    return join_race(trainings, storage, target.name, notify)


def _checked(data: str | os.PathLike[str] | Dataset) -> Dataset:
    dataset = data if isinstance(data, Dataset) else open_dataset(data)
    if "train" not in dataset.splits:
        raise CompoundNetError(f"{dataset.name} has no training images to choose a classifier by")
    check_classes(dataset.split("train"), dataset.name)
    return dataset


def _begin(dataset: Dataset, limits: Limits, threads: int, form: str, folder: Path, notify: Notify) -> Fit:
    """The state of an earlier call with the same data and machine, or a new one."""
    new = Fit(
        dataset.name, dataset.text(), identity_of(dataset), limits, threads, processor(), form,
        made_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        version=metadata.version("compoundnet"),
    )  # fmt: skip
    if not (folder / FIT_FILE).exists():
        return new
    try:
        before = read_fit(folder)
    except CompoundNetError as error:
        notify(f"{error}; starting anew")
        return new
    if (before.identity, before.processor, before.threads) != (new.identity, new.processor, new.threads):
        notify(f"{folder} holds results of other images, or of another machine; starting anew")
        return new
    if before.format != form:
        notify(f"{folder} holds latencies in the format {before.format}; candidates are timed anew")
        return new
    kept = tuple(one for one in before.screened if one.accuracy is not None)
    if kept:
        notify(f"going on: {len(kept)} candidates are screened already")
    new = msgspec.structs.replace(new, screened=kept, ratios=before.ratios)
    answer = before.answer if before.limits == limits else None
    if answer is not None and Path(answer.model).exists() and Path(answer.file).exists():
        return msgspec.structs.replace(
                new, answer=answer, finished=before.finished, plan=before.plan, seconds=before.seconds,
                rungs=before.rungs,
                notes=tuple(note for note in before.notes if not note.startswith(STAYS)),
            )  # fmt: skip
    return new
