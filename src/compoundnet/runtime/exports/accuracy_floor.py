"""int8 that keeps its accuracy: the layers that quantisation harms most go back to float32 until the drop on labelled
images is small enough."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError, Notify, ignore
from compoundnet.data.dataset import Dataset
from compoundnet.data.lookup import open_dataset
from compoundnet.data.model_classes import check_labelled, labels_of, match_classes
from compoundnet.models import Model
from compoundnet.runtime.session_source import Run

# Images on which the layers are compared, and runs that are timed.
_SHOWN, _TIMED = 8, 15
# Images in memory; more are read again each time.
_MEMORY = 2**30


class Quantiser(Protocol):
    """A network that is calibrated for int8: `layers` in order, and `write`, which leaves some of them in float32."""

    layers: tuple[str, ...]

    def write(self, file: Path, float32: Collection[str] = ()) -> None: ...


class AccuracyFloor(msgspec.Struct, frozen=True):
    """What int8 costs in accuracy, and the layers that stay in float32 for it.

    Attributes:
        max_drop: The largest drop that was allowed, as a fraction of the images.
        drop: The accuracy in float32 less that of the file.
        accuracy: Of the file: the fraction of the images whose most probable class is right.
        float32_accuracy: Of the network in float32.
        images: The number of labelled images.
        split: Which images of the data they are: test, val or all.
        layers: The number of layers that can be int8.
        float32_layers: The names of those that stay in float32, the most sensitive first.
        files: The number of files that were tried.
        time: The time of the file for one image on one thread, as a fraction of that in float32.
    """

    max_drop: float
    drop: float
    accuracy: float
    float32_accuracy: float
    images: int
    split: str
    layers: int
    float32_layers: tuple[str, ...]
    files: int
    time: float


class LabelledImages:
    """Preprocessed images with the number of the model's class: of the test split, or of val if there is no test split,
    or all if there is neither.

    Attributes:
        name: test, val or all.

    Args:
        data: As `compoundnet.data.open_dataset` takes it, of one class an image, or an opened data set.
        described: The model.
        notify: Called with a line on what was understood of the data, and one if the range of the images' values had to
            be found.

    Raises:
        CompoundNetError: There is no such data; its classes are not those of the model, or not published; or the model
            or the images have several labels.
    """

    def __init__(self, data: str | os.PathLike[str] | Dataset, described: Model, notify: Notify = ignore) -> None:
        if described.postprocess.multilabel:
            raise CompoundNetError(
                f"{described.name} gives several labels an image; max-drop is for one class an image"
            )
        dataset = (
            data if isinstance(data, Dataset) else open_dataset(data, test_fraction=0, labels=labels_of(described))
        )
        notify(dataset.text())
        dataset, found_range = dataset.with_range(described.preprocess.range)
        if found_range is not None:
            notify(found_range)
        self._split, self._how = dataset.split(dataset.evaluation), described.preprocess
        check_labelled(described, dataset, self._split)
        # Without test and validation images the training images are all that there are.
        self.name = "all" if self._split.name == "train" else self._split.name
        self._classes = match_classes(described, self._split)[self._split.labels]
        size = len(self) * 3 * 4 * self._how.size**2
        self._kept = list(self._read()) if size <= _MEMORY else None

    def __len__(self) -> int:
        return len(self._split)

    def __iter__(self) -> Iterator[tuple[NDArray[np.float32], int]]:
        return self._read() if self._kept is None else iter(self._kept)

    def _read(self) -> Iterator[tuple[NDArray[np.float32], int]]:
        for (image, _), number in zip(self._split, self._classes.tolist(), strict=True):
            yield self._how.pixels(image), number


def meet_floor(
    quantiser: Quantiser,
    file: Path,
    open_file: Callable[[Path], Run],
    float32: Run,
    images: LabelledImages,
    max_drop: float,
    notify: Notify,
) -> AccuracyFloor:
    """Write a file in int8 whose accuracy is at most `max_drop` below that of float32.

    If all layers in int8 drop further, each is quantised alone and ranked by the error of the logits, and the smallest
    number of the most sensitive layers that suffices is sought by doubling and halving.

    Args:
        quantiser: The calibrated network.
        file: The file to write. Others are tried in a folder beside it.
        open_file: Opens a file in the library for which it is written.
        float32: The network in float32.
        images: The labelled images.
        max_drop: As a fraction of the images.
        notify: Called with a line for each file that is tried.

    Raises:
        CompoundNetError: No assignment with a layer in int8 holds; the message says the best that was found.
    """
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        trials = _Trials(quantiser, Path(folder), file.name, open_file)
        expected, total = _accuracy(float32, images), len(quantiser.layers)
        found: dict[int, float] = {}
        ranked: tuple[str, ...] = ()

        def holds(count: int) -> bool:
            found[count] = _accuracy(trials.open(ranked[:count]), images)
            notify(
                f"int8 with {count} of {total} layers in float32: accuracy {found[count]:.2%},"
                f" {expected - found[count]:.2%} below float32"
            )
            return expected - found[count] <= max_drop + 1e-9

        missed, few = -1, 0
        while not holds(few):
            if few == 0:
                notify(f"comparing {total} layers, each in int8 alone")
                ranked = _ranked(trials, float32, images)
            if few >= total - 1:
                best = max(found, key=found.__getitem__)
                raise CompoundNetError(
                    f"no int8 file has an accuracy within {max_drop:.2%} of float32's {expected:.2%}; the best found"
                    f" has {found[best]:.2%}, a drop of {expected - found[best]:.2%}, with {best} of {total} layers in"
                    " float32. Nothing was written: allow a larger --max-drop, or calibrate on more images like those"
                    " of --data"
                )
            missed, few = few, max(1, min(2 * few, total - 1))
        while few - missed > 1:
            middle = (missed + few) // 2
            missed, few = (missed, middle) if holds(middle) else (middle, few)
        ratio = _time_ratio(trials, ranked[:few], next(iter(images))[0])
        quantiser.write(file, ranked[:few])
    return AccuracyFloor(
        max_drop=max_drop,
        drop=expected - found[few],
        accuracy=found[few],
        float32_accuracy=expected,
        images=len(images),
        split=images.name,
        layers=total,
        float32_layers=ranked[:few],
        files=len(found),
        time=ratio,
    )


class _Trials:
    """Files that are tried, each under its own path: a library may still read one while the next is written."""

    def __init__(self, quantiser: Quantiser, folder: Path, name: str, open_file: Callable[[Path], Run]) -> None:
        self.quantiser = quantiser
        self._folder, self._name, self._open_file = folder, name, open_file
        self._count = 0

    def open(self, float32: Collection[str]) -> Run:
        """Write a file with these layers in float32, and open it."""
        self._count += 1
        file = self._folder / str(self._count) / self._name
        file.parent.mkdir()
        self.quantiser.write(file, float32)
        run = self._open_file(file)
        shutil.rmtree(file.parent, ignore_errors=True)
        return run


def _accuracy(run: Run, images: Iterable[tuple[NDArray[np.float32], int]]) -> float:
    return float(np.mean([int(run(image[None]).argmax()) == number for image, number in images]))


def _ranked(trials: _Trials, float32: Run, images: LabelledImages) -> tuple[str, ...]:
    """The layers by the error that each causes in the logits if it alone is in int8, the largest first."""
    batch = [image[None] for image, _ in islice(images, _SHOWN)]
    expected = [float32(image) for image in batch]
    layers = trials.quantiser.layers
    errors = {}
    for layer in layers:
        run = trials.open([other for other in layers if other != layer])
        found = [run(image) for image in batch]
        errors[layer] = sum(float(np.square(one - wanted).sum()) for one, wanted in zip(found, expected, strict=True))
    return tuple(sorted(layers, key=errors.__getitem__, reverse=True))


def _time_ratio(trials: _Trials, float32: Collection[str], image: NDArray[np.float32]) -> float:
    """The time of a file as a fraction of that with all layers in float32: medians of interleaved runs."""
    runs = [trials.open(layers) for layers in (trials.quantiser.layers, float32)]
    times: list[list[float]] = [[], []]
    for _ in range(_TIMED):
        for run, took in zip(runs, times, strict=True):
            start = time.perf_counter()
            run(image[None])
            took.append(time.perf_counter() - start)
    whole, int8 = (float(np.median(took)) for took in times)
    return int8 / whole
