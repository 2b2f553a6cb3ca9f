"""The most probable classes of images."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compoundnet.base import CompoundNetError
from compoundnet.base.image_values import Range
from compoundnet.base.images import EncodedImage, Reading, UnreadableImageError, decode, image_errors
from compoundnet.base.machine import cores
from compoundnet.models import Model, Postprocess, open_model
from compoundnet.runtime.backends.registry import find_backend
from compoundnet.runtime.backends.session import USUAL_BATCH, batch_for
from compoundnet.runtime.sessions import session
from compoundnet.runtime.timing.agreement import MOST_IMAGES, spread

_TOP = 5
# The label of an image whose most probable class is not probable enough.
UNKNOWN_LABEL = "unknown"
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class ClassProbability(msgspec.Struct, frozen=True, omit_defaults=True):
    """A class with its probability.

    Attributes:
        index: The index of the class.
        label: The label of the class; its index as text if the model has no labels.
        probability: 0 to 1.
        threshold: Of a model of several labels an image: the image has the label if `probability` is at least this;
            None for other models.
    """

    index: int
    label: str
    probability: float
    threshold: float | None = None

    @property
    def predicted(self) -> bool:
        """Whether the image has this label, of a model of several labels an image."""
        return self.threshold is not None and self.probability >= self.threshold


class Prediction(msgspec.Struct, frozen=True, omit_defaults=True):
    """The most probable classes of an image.

    Attributes:
        path: The file; None for an image from memory.
        predictions: Best first. Of a model of several labels an image: all labels, those of the image first.
        labels: Of a model of several labels an image: those of this image, the most probable first; None for other
            models.
        unknown: Whether no class is as probable as the `unknown_below` of the predictor.
        damage: The damage of a truncated or damaged file that is used as far as it can be decoded; None for others.
    """

    path: str | None
    predictions: tuple[ClassProbability, ...]
    labels: tuple[str, ...] | None = None
    unknown: bool = False
    damage: str | None = None

    @property
    def label(self) -> str:
        """The label of the most probable class, or "unknown"; several labels of an image with commas between them."""
        if self.labels is not None:
            return ",".join(self.labels)
        return UNKNOWN_LABEL if self.unknown else self.predictions[0].label


class Failure(msgspec.Struct, frozen=True):
    """An image that could not be read, with the reason."""

    path: str
    reason: str


class _Pixels(NamedTuple):
    """An image for the network, float32[3, size, size], and its damage if it is truncated."""

    values: NDArray[np.float32]
    damage: str | None


class Predictor:
    """A model that is ready to classify images: `Predictor("efficientnet-lite0")("cat.jpg")`.

    Args:
        model: A name of `compoundnet models list`, a model folder, an exported file, or an opened model.
        backend: The backend, as for `session`; onnxruntime by default.
        precision: The precision, as for `session`; float32 by default, unless the model folder was tuned.
        check_on: For the precision auto: images on which precisions are compared with float32, of which at most 100 are
            read, and only if the cache lacks the comparison.
        threads: Number of threads of the network, and of threads that read images ahead; all cores by default.
        batch: Number of images in a batch of `many`; by default 8, or two for each thread where every thread of a CPU
            runs images of its own. The times of auto are of 8 by default.
        top: Number of classes to return; by default 5, or all if there are fewer. A model of several labels an image
            returns all labels by default, and in any case those of the image.
        device: The device of torch, such as cuda.
        unknown_below: An image is unknown if its most probable class is less probable than this, 0 to 1.
        allow_truncated: Whether truncated or damaged files are used as far as they can be decoded.
        value_range: The values that become 0 and 255 in images with more than 8 bits a value; by default those of the
            model's preprocessing.

    Raises:
        CompoundNetError: The model does not classify RGB images, or a number is out of range.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Model,
        *,
        backend: str | None = None,
        precision: str | None = None,
        check_on: Sequence[str | os.PathLike[str] | EncodedImage] = (),
        threads: int | None = None,
        batch: int | None = None,
        top: int | None = None,
        device: str = "cpu",
        unknown_below: float = 0.0,
        allow_truncated: bool = False,
        value_range: Range | None = None,
    ) -> None:
        if not 0 <= unknown_below <= 1:
            raise CompoundNetError(f"unknown_below must be a probability from 0 to 1, got {unknown_below}")
        self.unknown_below = unknown_below
        if batch is not None and batch < 1:
            raise CompoundNetError(f"batch must be at least 1, got {batch}")
        self.model = open_model(model)
        network = self.model.network
        if network.in_channels != 3 or network.num_classes < 1:
            raise CompoundNetError(
                f"{self.model.name} reads {network.in_channels} channels and predicts {network.num_classes} classes;"
                " predicting needs a model that reads 3 (RGB) and predicts at least 1"
            )
        if unknown_below and self.model.postprocess.multilabel:
            raise CompoundNetError(
                f"{self.model.name} gives an image any number of labels, or none; unknown_below is for models that give"
                " each image one class"
            )
        if top is not None and not 1 <= top <= network.num_classes:
            raise CompoundNetError(f"top must be 1 to {network.num_classes}, the classes of the model, got {top}")
        most = network.num_classes if self.model.postprocess.multilabel else min(_TOP, network.num_classes)
        self.top = most if top is None else top
        self.allow_truncated = allow_truncated
        self.preprocess = self.model.preprocess
        if value_range is not None:
            self.preprocess = msgspec.structs.replace(self.preprocess, range=value_range)
        self._readers = threads or cores()
        self.session = session(
            self.model,
            backend=backend,
            precision=precision,
            threads=threads,
            batch=batch or USUAL_BATCH,
            device=device,
            images=lambda: self._probe(check_on),
        )
        self.batch = batch or batch_for(find_backend(self.session.backend), device, self._readers)

    def __repr__(self) -> str:
        return f"<Predictor of {self.model.network.num_classes} classes, top {self.top}: {self.session!r}>"

    def __call__(self, image: str | os.PathLike[str] | Image.Image | NDArray[Any]) -> Prediction:
        """Classify one image.

        Args:
            image: A file, a PIL image of any mode, or an array (see `compoundnet.base.images.to_rgb`).

        Raises:
            UnreadableImageError: The file cannot be read.
        """
        path = os.fspath(image) if isinstance(image, str | os.PathLike) else None
        return self._predict([(path, self._read(image))])[0]

    def find_range(self, paths: Iterable[str | os.PathLike[str]]) -> str | None:
        """Use one range for all files with more than 8 bits a value, and return a note that says which.

        Nothing happens, and None is returned, if the preprocessing has a range or there are no such files.
        """
        self.preprocess, note = self.preprocess.with_range_of(paths)
        return note

    def many(self, images: Iterable[str | os.PathLike[str] | EncodedImage]) -> Iterator[Prediction | Failure]:
        """Classify many files, or images in memory with names.

        Threads read a bounded number of files ahead of the network, so memory does not grow with their number, and
        `images` may be an endless iterator. Results come `batch` at a time.

        Yields:
            A prediction for each file, in order, or a Failure if the file cannot be read.
        """
        depth = self.batch + 2 * self._readers
        waiting: list[tuple[str, _Pixels | Failure]] = []
        for item, image in map_ahead(self._try, images, workers=self._readers, depth=depth):
            waiting.append((item.name if isinstance(item, EncodedImage) else os.fspath(item), image))
            if len(waiting) == self.batch:
                yield from self._in_order(waiting)
                waiting.clear()
        yield from self._in_order(waiting)

    def _probe(self, images: Sequence[str | os.PathLike[str] | EncodedImage]) -> NDArray[np.float32]:
        """Pixels float32[N, 3, size, size] of images spread evenly over a sequence, those that can be read."""
        read = map_ahead(self._try, spread(images, MOST_IMAGES), workers=self._readers, depth=2 * self._readers)
        found = [image.values for _, image in read if not isinstance(image, Failure)]
        size = self.preprocess.size
        return np.stack(found) if found else np.empty((0, 3, size, size), np.float32)

    def _read(self, image: str | os.PathLike[str] | Image.Image | NDArray[Any]) -> _Pixels:
        damage: list[str] = []
        pixels = self.preprocess.pixels(image, allow_truncated=self.allow_truncated, damaged=damage.append)
        return _Pixels(pixels, damage[0] if damage else None)

    def _try(self, image: str | os.PathLike[str] | EncodedImage) -> _Pixels | Failure:
        try:
            return self._decode(image) if isinstance(image, EncodedImage) else self._read(image)
        except UnreadableImageError as error:
            return Failure(error.path, error.reason)

    def _decode(self, image: EncodedImage) -> _Pixels:
        damage: list[str] = []
        with image_errors(lambda: image.name):
            reading = Reading(self.preprocess.range, self.allow_truncated)
            rgb = decode(image.content, reading, damaged=damage.append)
            return _Pixels(self.preprocess.pixels(rgb), damage[0] if damage else None)

    def _in_order(self, read: list[tuple[str, _Pixels | Failure]]) -> Iterator[Prediction | Failure]:
        predictions = iter(self._predict([(path, it) for path, it in read if not isinstance(it, Failure)]))
        for _, it in read:
            yield it if isinstance(it, Failure) else next(predictions)

    def _predict(self, images: list[tuple[str | None, _Pixels]]) -> list[Prediction]:
        if not images:
            return []
        rows = self.probabilities(np.stack([image.values for _, image in images]))
        return [self.describe(row, path, image.damage) for (path, image), row in zip(images, rows, strict=True)]

    def probabilities(self, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probabilities of all classes, float64[N, classes], of images that are prepared already.

        Args:
            pixels: float32[N, 3, size, size], as `preprocess.pixels` returns them.
        """
        return self.model.postprocess.probabilities(self.session(pixels))

    def describe(
        self, row: NDArray[np.float64], path: str | None = None, damage: str | None = None, *, top: int | None = None
    ) -> Prediction:
        """Return the prediction of an image.

        Args:
            row: The probabilities of all classes, float64[classes].
            path: The file; None for an image from memory.
            damage: Of a truncated file.
            top: Number of classes; by default that of the predictor.
        """
        best = best_classes(row, self.model.labels, self.model.postprocess, top or self.top)
        labels = tuple(it.label for it in best if it.predicted) if self.model.postprocess.multilabel else None
        return Prediction(path, best, labels, bool(row.max() < self.unknown_below), damage)


def best_classes(
    probabilities: NDArray[np.float64], labels: tuple[str, ...] | None, how: Postprocess, top: int
) -> tuple[ClassProbability, ...]:
    """Return the `top` most probable classes, best first; of several labels an image first those of the image, all.

    Args:
        probabilities: float64[classes], of one image.
        labels: Of the classes; None if they have no names.
        how: Of the model.
        top: Number of classes.
    """
    order = np.argsort(-probabilities, kind="stable")
    if how.multilabel:
        predicted = how.predicted(probabilities)[order]
        order = np.concatenate([order[predicted], order[~predicted]])
        top = max(top, int(predicted.sum()))
    return tuple(
        ClassProbability(
            index,
            str(index) if labels is None else labels[index],
            float(probabilities[index]),
            how.threshold(index) if how.multilabel else None,
        )
        for index in order[:top].tolist()
    )


def map_ahead(
    work: Callable[[_Item], _Result], items: Iterable[_Item], *, workers: int, depth: int
) -> Iterator[tuple[_Item, _Result]]:
    """Call `work` on items in threads, ahead of the consumer of the results, which come in the order of the items.

    Args:
        work: The function to call. Its exceptions are raised here.
        items: The items, possibly endless.
        workers: Number of threads.
        depth: Largest number of items that are done or in progress, so that memory does not grow with their number.

    Yields:
        Each item with its result.
    """
    waiting: deque[tuple[_Item, Future[_Result]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="compoundnet-ahead")
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) == depth:
                first, result = waiting.popleft()
                yield first, result.result()
        while waiting:
            first, result = waiting.popleft()
            yield first, result.result()
    finally:
        pool.shutdown(cancel_futures=True)
