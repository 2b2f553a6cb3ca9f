"""Tuning: the precisions of a model, measured on labelled images and recorded in its folder."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compoundnet import runtime
from compoundnet.base import (
    CompoundNetError,
    Notify,
    Progress,
    check_output_file,
    ignore,
    make_folder,
    scratch_folder,
)
from compoundnet.base.images import UnreadableImageError
from compoundnet.base.machine import check_threads
from compoundnet.data import Dataset, Split, open_dataset
from compoundnet.data.model_classes import check_labelled, labels_of, match_classes
from compoundnet.models import ModelFolder, Postprocess, open_folder
from compoundnet.models.tuning import INT8_FILE, LEAST_AGREEMENT, TUNING_FILE, TunedWay, Tuning
from compoundnet.models.weights_files import sha256_of
from compoundnet.runtime.backends.choices import LEAST_IMAGES
from compoundnet.runtime.backends.precisions import FLOAT32, INT8, Way
from compoundnet.runtime.backends.session import open_session
from compoundnet.runtime.session_source import SessionSource, find_source
from compoundnet.runtime.timing.agreement import spread
from compoundnet.runtime.timing.fastest import time_ways
from compoundnet.train.counts import predict_readable
from compoundnet.train.hardware import Hardware, launch

# Images on which int8 is calibrated.
_CALIBRATION = 200
# The batch of `Predictor`, for which the times are kept in the cache.
_BATCH = 8


class Tuned(msgspec.Struct, frozen=True):
    """The result of `tune`.

    Attributes:
        folder: The model folder.
        tuning: The record in it.
        milliseconds: The time of a batch of 8 images in each way, in the order of the record.
        threads: Threads of the network in these times.
        calibration: The number of images on which int8 was calibrated; 0 without int8.
    """

    folder: str
    tuning: Tuning
    milliseconds: tuple[float, ...]
    threads: int
    calibration: int


def tune(
    model: str | os.PathLike[str] | ModelFolder,
    data: str | os.PathLike[str] | Dataset,
    *,
    split: str | None = None,
    least_agreement: float = LEAST_AGREEMENT,
    threads: int | None = None,
    device: str = "cpu",
    workers: int | None = None,
    progress: Progress = ignore,
    notify: Notify = ignore,
) -> Tuned:
    """Measure the agreement with float32 and the accuracy of every precision that runs here, and record them.

    From then on sessions of the model run in the fastest precision that agrees, unless they are given one. int8 is
    calibrated on 200 training images, or where there are none on images that are then not measured.

    Args:
        model: A model folder, by name, path or opened. It gets the files precision.toml and int8.onnx.
        data: As for `open_dataset`, with as many labels an image as the model predicts; or an opened data set.
        split: The images that are measured; by default test, or val if there is no test split.
        least_agreement: The fraction of the images on which a precision must predict what float32 predicts.
        threads: Threads of the network; all cores by default.
        device: A GPU whose precisions are measured too, such as cuda.
        workers: Decoding processes.
        progress: Called with the number of images that have just been measured.
        notify: Called with one line for each precision that is left out, and if the range of the images' values had to
            be found.

    Raises:
        CompoundNetError: The classes of the images are not those of the model, or not published; the images have
            several labels, and the model predicts one class; or the folder cannot be written. The folder is as before
            then.
    """
    if not 0 < least_agreement <= 1:
        raise CompoundNetError(f"the least agreement must be above 0 and at most 1, got {least_agreement}")
    opened = open_folder(model)
    dataset = data if isinstance(data, Dataset) else open_dataset(data, labels=labels_of(opened))
    dataset, found_range = dataset.with_range(opened.preprocess.range)
    if found_range is not None:
        notify(found_range)
    measured, calibration = _divide(dataset, split or dataset.evaluation)
    if len(measured) < LEAST_IMAGES:
        raise CompoundNetError(
            f"{dataset.name} has {len(measured)} {measured.name} images to measure, and {LEAST_IMAGES} are the least;"
            " without training images half of them calibrate int8"
        )
    check_labelled(opened, dataset, measured)
    mapping = match_classes(opened, measured)
    if opened.postprocess.multilabel:
        measured = measured.with_several_labels()
    threads = check_threads(threads)
    record = opened.folder / TUNING_FILE
    check_output_file(record)
    with scratch_folder(record) as scratch:
        source, count = _with_int8(opened, calibration, scratch, notify)
        ways = _ways(source, device)
        agreed, right = _measure(opened, source, ways, measured, mapping, threads, device, workers, progress)
        tuning = Tuning(
            data=f"{dataset.name}, {measured.name}",
            images=len(measured),
            weights=sha256_of(opened.weights),
            least_agreement=least_agreement,
            ways=tuple(
                TunedWay(way.backend.name, way.precision, float(agreement), float(accuracy))
                for way, agreement, accuracy in zip(ways, agreed, right, strict=True)
            ),
            int8=sha256_of(scratch / INT8_FILE) if count else "",
        )
        times = _times(source, ways, threads, device)
        tuning.save(scratch / TUNING_FILE)
        record.unlink(missing_ok=True)  # killed from here on, the folder is one that was not tuned
        if count:
            (scratch / INT8_FILE).replace(opened.folder / INT8_FILE)
        else:
            (opened.folder / INT8_FILE).unlink(missing_ok=True)
        (scratch / TUNING_FILE).replace(record)
    return Tuned(str(opened.folder), tuning, times, threads, count)


def _divide(dataset: Dataset, name: str) -> tuple[Split, Split]:
    """The images that are measured, and those on which int8 is calibrated."""
    measured = dataset.split(name)
    other = dataset.splits.get("train")
    if other is not None and name != "train":
        return measured, other
    count = min(_CALIBRATION, len(measured) // 2)
    chosen = np.array(spread(range(len(measured)), count), np.int64)[:count]
    return measured.subset(np.setdiff1d(np.arange(len(measured)), chosen)), measured.subset(chosen)


def _with_int8(model: ModelFolder, images: Split, scratch: Path, notify: Notify) -> tuple[SessionSource, int]:
    """The source of the model with an int8 form in `scratch`, and the number of images on which it was calibrated."""
    source = find_source(model, tuned=False)  # what was measured before may be of other weights
    if not any(way.precision == INT8 for way in runtime.runnable()):
        notify("int8 is left out: no installed backend runs it")
        return dataclasses.replace(source, quantised=None), 0
    file, folder = scratch / INT8_FILE, make_folder(scratch / "calibration")
    count = 0
    for index in spread(range(len(images)), _CALIBRATION):
        try:
            images.image(index).save(folder / f"{count:03d}.png", compress_level=1)
        except UnreadableImageError as error:
            notify(f"{error}; it is left out")
            continue
        count += 1
    try:
        if not count:
            raise CompoundNetError("none of the images for its calibration can be read")
        runtime.export(model, file, precision=INT8, calibrate=folder)
    except CompoundNetError as error:
        notify(f"int8 is left out: {error}")
        return dataclasses.replace(source, quantised=None), 0
    return dataclasses.replace(source, quantised=lambda: find_source(file)), count


def _ways(source: SessionSource, device: str) -> list[Way]:
    """float32 on the default backend, which the others are compared with, then each narrower precision."""
    known = [*runtime.runnable(), *(runtime.runnable(device) if device != "cpu" else ())]
    reference = next(way for way in known if way.precision == FLOAT32)
    reduced = [way for way in known if way.precision != FLOAT32 and way.backend.in_auto and way.backend.folders]
    return [reference, *(way for way in reduced if way.precision != INT8 or source.quantised is not None)]


def _place(way: Way, device: str) -> str:
    """The device of a way: the GPU for what only a GPU runs."""
    return "cpu" if way.precision in way.backend.precisions else device


def _measure(
    model: ModelFolder,
    source: SessionSource,
    ways: Sequence[Way],
    images: Split,
    mapping: NDArray[np.int64],
    threads: int,
    device: str,
    workers: int | None,
    progress: Progress,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The agreement with the first way, and the accuracy, of each way."""
    runs = [open_session(source, way.backend, threads, _place(way, device), way.precision) for way in ways]

    def outputs(pixels: Tensor) -> Tensor:
        return torch.from_numpy(np.concatenate([run(pixels.numpy()) for run in runs], axis=1))

    def values(logits: Tensor, labels: Tensor, _: Tensor) -> Tensor:
        each = [model.postprocess.decided(part) for part in np.split(logits.cpu().numpy(), len(runs), axis=1)]
        right = [_right(decided, labels.cpu().numpy(), mapping, model.postprocess) for decided in each]
        same = [_rows(decided == each[0]) for decided in each]
        return torch.from_numpy(np.stack([*same, *right], axis=1))

    fabric = launch(Hardware(devices=1, accelerator="cpu"))
    found = predict_readable(
        outputs, values, images, model.preprocess, fabric,
        columns=2 * len(ways), batch=_BATCH, workers=workers, progress=progress,
    ).values  # fmt: skip
    agreed, right = np.split(found.mean(axis=0), 2)
    return agreed, right


def _right(
    decided: NDArray[Any], labels: NDArray[Any], mapping: NDArray[np.int64], postprocess: Postprocess
) -> NDArray[np.bool_]:
    if postprocess.multilabel:
        return _rows(decided[:, mapping] == labels.astype(bool))
    return _rows(decided == mapping[labels])


def _rows(same: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(same.all(axis=1)) if same.ndim > 1 else same


def _times(source: SessionSource, ways: Sequence[Way], threads: int, device: str) -> tuple[float, ...]:
    by_device: dict[str, list[Way]] = {}
    for way in ways:
        by_device.setdefault(_place(way, device), []).append(way)
    found = {way: time for place, some in by_device.items() for way, time in
             time_ways(source, some, threads, _BATCH, place).items()}  # fmt: skip
    return tuple(found[way] for way in ways)
