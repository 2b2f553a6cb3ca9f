"""`fit`: look at the images, screen the candidates, and finish with the best that fits."""

from __future__ import annotations

import datetime
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path

import msgspec
import numpy as np
from filelock import FileLock, Timeout

from compoundnet.base import (
    CompoundNetError,
    Notify,
    Progress,
    format_bytes,
    ignore,
    make_folder,
    scratch_folder,
    write_whole,
)
from compoundnet.base.machine import check_threads, processor
from compoundnet.data import Dataset, Split, open_dataset
from compoundnet.data.classes import check_classes
from compoundnet.data.dataset import UNKNOWN
from compoundnet.fit.candidates import Candidate, Limits, find_candidates, models_at_hand
from compoundnet.fit.fine_tuning import TooLongError, fine_tune
from compoundnet.fit.report import write_fit_report
from compoundnet.fit.screen import Screened, noise, probe_of, screen
from compoundnet.fit.state import FIT_FILE, Answer, Fit, fit_folder, read_fit
from compoundnet.models import ModelFolder, open_folder, read_folder
from compoundnet.models.folder import check_target
from compoundnet.runtime import export, session
from compoundnet.runtime.timing.rounds import time_rounds
from compoundnet.train import InterruptedRunError, evaluate, find_recipe, plan_task, train
from compoundnet.train.evaluation.evaluation_report import wilson
from compoundnet.train.results import write_result

# A candidate is not timed if another resolution of its model predicts more than this times the limit.
_HOPELESS = 1.5
# Images that calibrate int8.
_CALIBRATION = 200


def fit(
    data: str | os.PathLike[str] | Dataset,
    output: str | os.PathLike[str],
    limits: Limits | None = None,
    *,
    models: Sequence[str] | None = None,
    seconds: float | None = None,
    threads: int = 1,
    replace: bool = False,
    progress: Progress = ignore,
    notify: Notify = ignore,
) -> Fit:
    """Find the most accurate classifier of the images within a budget, and write it.

    Writes OUTPUT (a model folder), OUTPUT.onnx (the deployed file) and OUTPUT.fit (`fit.json`, report.html). What an
    earlier call with the same data has screened is used again. Ctrl-C ends the screening, and the best so far is
    finished.

    Args:
        data: A string as for `open_dataset`, or an opened data set.
        output: The model folder.
        limits: The budget; no limits by default.
        models: Names, folders or `hf-hub:` addresses; by default all that are at hand (`models_at_hand`).
        seconds: After a third of this time no further candidate is screened, and the network of the answer is
            fine-tuned in the rest, if that is enough. By default all candidates are screened, and the answer is a
            probe.
        threads: Threads of the network that is timed.
        replace: Whether to replace an earlier result.
        progress: Called with the number of images whose features are computed.
        notify: Called with a line for each candidate, and for each choice.

    Raises:
        CompoundNetError: Nothing fits (the message says what comes nearest), no model is at hand, the output exists,
            another process writes it, or a class has fewer than two images.
    """
    began, target, limits = time.monotonic(), Path(output), limits or Limits()
    threads = check_threads(threads)
    folder = fit_folder(target)
    check_target(target, replace or (folder / FIT_FILE).exists())
    dataset = data if isinstance(data, Dataset) else open_dataset(data)
    if "train" not in dataset.splits:
        raise CompoundNetError(f"{dataset.name} has no training images to choose a classifier by")
    check_classes(dataset.split("train"), dataset.name)
    opened = {name: open_folder(name) for name in (models_at_hand() if models is None else models)}
    chosen = {
        name: plan_task(find_recipe("probe"), dataset, start=model).preprocess.size for name, model in opened.items()
    }
    candidates = find_candidates(chosen, len(dataset.classes), limits)
    fitting = [candidate for candidate, excess in candidates if excess is None]
    if not fitting:
        least, excess = min(candidates, key=lambda pair: (pair[0].params, pair[0].macs))
        raise CompoundNetError(f"no model at hand fits {limits.text()}: the smallest is {least}, whose {excess}")
    try:
        with FileLock(make_folder(folder) / "lock", blocking=False):
            state = _begin(dataset, limits, threads, folder, notify)
            screening = None if seconds is None else seconds / 3
            state = _screened(state, candidates, opened, dataset, folder, began, screening, progress, notify)
            state = _finish(state, dataset, target, notify)
            _keep(state, folder)
            if seconds is not None:
                left = seconds - (time.monotonic() - began)
                state = _improved(state, opened, dataset, target, left, notify)
                _keep(state, folder)
            return state
    except Timeout as error:
        raise CompoundNetError(f"another process writes {target}; wait for it, or give another output (-o)") from error


def _keep(state: Fit, folder: Path) -> None:
    write_whole(folder / FIT_FILE, msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n")
    write_fit_report(state, folder / "report.html")


def _begin(dataset: Dataset, limits: Limits, threads: int, folder: Path, notify: Notify) -> Fit:
    """The state of an earlier call with the same data, budget and machine, or a new one."""
    new = Fit(
        dataset.name, dataset.text(), _digest(dataset), limits, threads, processor(),
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
    kept = tuple(one for one in before.screened if one.accuracy is not None)
    if kept:
        notify(f"going on: {len(kept)} candidates are screened already")
    return msgspec.structs.replace(new, screened=kept)


def _digest(dataset: Dataset) -> str:
    """Digest of the training images' content and labels."""
    train, digest = dataset.split("train"), hashlib.sha256()
    for index in range(len(train)):
        encoded = train.read(index)
        digest.update(encoded if isinstance(encoded, bytes) else np.ascontiguousarray(encoded).tobytes())
        digest.update(train.label_text(index).encode())
    return digest.hexdigest()[:24]


def _screened(
    state: Fit,
    candidates: list[tuple[Candidate, str | None]],
    opened: dict[str, ModelFolder],
    dataset: Dataset,
    folder: Path,
    began: float,
    seconds: float | None,
    progress: Progress,
    notify: Notify,
) -> Fit:
    """Screen the candidates in turn until the time is up or Ctrl-C; each result is kept at once."""
    known = {one.candidate: one for one in state.screened}
    found: list[Screened] = []
    rates: dict[str, float] = {}  # milliseconds of a multiply-add
    left, limit = 0, state.limits.max_latency
    stopped = False
    for candidate, excess in candidates:
        if excess is not None:
            found.append(Screened(candidate, dropped=excess))
            continue
        if candidate in known:
            one = _again(known[candidate], limit)
        elif stopped or (found and seconds is not None and time.monotonic() - began > seconds and _any(found)):
            left += 1
            continue
        elif limit is not None and rates.get(candidate.model, 0) * candidate.macs > _HOPELESS * limit:
            predicted = rates[candidate.model] * candidate.macs
            one = Screened(candidate, dropped=f"predicted to take {predicted:.3g} ms, more than {limit:g} ms")
        else:
            try:
                one = screen(
                    candidate, dataset, opened[candidate.model], state.limits,
                    threads=state.threads, progress=progress, notify=notify,
                )  # fmt: skip
                notify(str(one))
            except KeyboardInterrupt:
                if not _any(found):
                    raise
                stopped, left = True, left + 1
                notify("stopped; finishing with the best so far")
                continue
        if one.latency is not None:
            rates[candidate.model] = one.latency / candidate.macs
        found.append(one)
        state = msgspec.structs.replace(state, screened=tuple(found))
        write_whole(folder / FIT_FILE, msgspec.json.encode(state))
    if left:
        notify(f"{left} candidates are not screened; the same command goes on")
    return msgspec.structs.replace(state, screened=tuple(found), left=left)


def _any(found: list[Screened]) -> bool:
    return any(one.accuracy is not None and one.dropped is None for one in found)


def _again(one: Screened, limit: float | None) -> Screened:
    """A result of an earlier call under the present limit."""
    slow = limit is not None and one.latency is not None and one.latency > limit
    return msgspec.structs.replace(one, dropped=f"more than {limit:g} ms" if slow else None)


def _finish(state: Fit, dataset: Dataset, target: Path, notify: Notify) -> Fit:
    """Write the best candidate that meets its budget in its final form."""
    notes = []
    if not state.ranking:
        nearest = min((one for one in state.screened if one.latency is not None), key=lambda one: one.latency or 0.0)
        raise CompoundNetError(
            f"nothing fits {state.limits.text()}: the fastest that was timed, {nearest.candidate}, takes"
            f" {nearest.latency:.3g} ms"
        )
    wanted = state.limits.min_accuracy
    if wanted is not None and (state.ranking[0].accuracy or 0) < wanted:
        notes.append(f"nothing reaches {wanted:.1%}: this is the most accurate")
    for one in state.ranking:
        probed = partial(_probed, one.candidate, dataset)
        answer, excess = _deployed(one, probed, state, dataset, target)
        if answer is not None:
            for text in notes:
                notify(text)
            return msgspec.structs.replace(state, answer=answer, notes=tuple(notes))
        notes.append(f"{one.candidate} was the best, but {excess} in its final form; the next takes its place")
    raise CompoundNetError(f"nothing fits {state.limits.text()} in its final form: {notes[0]}")


def _improved(
    state: Fit, opened: dict[str, ModelFolder], dataset: Dataset, target: Path, left: float, notify: Notify
) -> Fit:
    """Fine-tune the network of the answer, if there is time, and let it take the place of the probe."""
    answer = state.answer
    assert answer is not None
    reason = "the images have several labels" if dataset.multilabel else ""
    reason = reason or ("" if left > 0 else "the time is up")
    if not reason:
        candidate = answer.candidate
        try:
            tuned = fine_tune(candidate, dataset, opened[candidate.model], fit_folder(target), left, notify)
        except TooLongError as error:
            reason = str(error)
        except (InterruptedRunError, KeyboardInterrupt):
            reason = "fine-tuning was stopped; the same command goes on"
        else:
            notify(str(tuned))
            if not tuned.better:
                return _noted(state, str(tuned))
            (one,) = (one for one in state.screened if one.candidate == candidate)

            def copied(folder: Path) -> ModelFolder:
                shutil.copytree(tuned.model.folder, folder)
                return read_folder(folder)

            better, excess = _deployed(one, copied, state, dataset, target, fine_tuned=True)
            if better is not None:
                return _noted(msgspec.structs.replace(state, answer=better), str(tuned))
            reason = f"fine-tuned it {excess}"
    notify(f"the answer is the probe: {reason}")
    return _noted(state, f"the answer is the probe: {reason}")


def _noted(state: Fit, text: str) -> Fit:
    return msgspec.structs.replace(state, notes=(*state.notes, text))


def _probed(candidate: Candidate, dataset: Dataset, folder: Path) -> ModelFolder:
    """Write the probe of a candidate."""
    task = msgspec.structs.replace(probe_of(candidate, dataset, open_folder(candidate.model)), test=None)
    return train(task, folder).model


def _deployed(
    one: Screened,
    make: Callable[[Path], ModelFolder],
    state: Fit,
    dataset: Dataset,
    target: Path,
    *,
    fine_tuned: bool = False,
) -> tuple[Answer | None, str]:
    """The answer, written by `make`, exported and measured; or None, and by what it misses its budget."""
    candidate, limits = one.candidate, state.limits
    file = target.with_name(f"{target.name}.onnx")
    with scratch_folder(target) as scratch:
        model = make(scratch / target.name)
        calibration = None
        if candidate.precision == "int8":
            calibration = _calibration_images(dataset.split("train"), scratch)
        written = export(model, scratch / file.name, precision=candidate.precision, calibrate=calibration)
        run, image = session(scratch / file.name, threads=state.threads), noise(candidate.resolution)
        latency = time_rounds({"": lambda: run(image)})[""].median
        if limits.max_latency is not None and latency > limits.max_latency:
            return None, f"takes {latency:.3g} ms"
        if limits.max_size is not None and written.bytes > limits.max_size:
            return None, f"its file has {format_bytes(written.bytes)}"
        result = interval = None
        if dataset.evaluation != "train" and not (dataset.split(dataset.evaluation).labels == UNKNOWN).any():
            found = evaluate(scratch / file.name, dataset)
            result = msgspec.structs.replace(found.result, model=str(file))
            bounds = wilson(round(result.top1 * result.count), result.count)
            interval = (bounds.low, bounds.high)
            write_whole(scratch / target.name / "result.json", write_result(result))
        if target.exists():
            target.rename(scratch / "replaced")
        (scratch / target.name).rename(target)
        (scratch / file.name).replace(file)
    return (
        Answer(candidate, str(target), str(file), fine_tuned, one.accuracy or 0.0, latency, written.bytes,
               written.agreement, result, interval),
        "",
    )  # fmt: skip


def _calibration_images(images: Split, scratch: Path) -> Path:
    folder = make_folder(scratch / "calibration")
    for index in np.linspace(0, len(images) - 1, min(_CALIBRATION, len(images)), dtype=int):
        images.image(int(index)).save(folder / f"{index}.png")
    return folder
