"""The most probable classes of pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compoundnet.base import CompoundNetError
from compoundnet.base.images import UnreadableImageError
from compoundnet.base.machine import cores
from compoundnet.models import Model, open_model
from compoundnet.runtime.ahead import ahead
from compoundnet.runtime.sessions import session

_TOP = 5


class ClassProbability(msgspec.Struct, frozen=True):
    """A class: its index, its label (the index where the model has no labels), and its probability, 0 to 1."""

    index: int
    label: str
    probability: float


class Prediction(msgspec.Struct, frozen=True):
    """The most probable classes of a picture, best first; `path` is None where it came from memory."""

    path: str | None
    predictions: tuple[ClassProbability, ...]


class Failure(msgspec.Struct, frozen=True):
    """A picture that could not be read, and why."""

    path: str
    reason: str


class Predictor:
    """A model that is ready to say what is in pictures: `Predictor("efficientnet-lite0")("cat.jpg")`.

    model    a name of `compoundnet models list`, a model folder, an exported file, or an opened one of them
    backend  what runs the network, see `session`: onnxruntime unless given
    threads  of the network, and as many that read pictures ahead of it; all cores unless given
    batch    pictures that `many` gives the network at a time
    device   of torch, such as cuda
    top      how many classes to tell; 5, or all where there are fewer, unless given

    Raises CompoundNetError where the model does not classify RGB pictures, or a number is out of range.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Model,
        *,
        backend: str | None = None,
        threads: int | None = None,
        batch: int = 8,
        top: int | None = None,
        device: str = "cpu",
    ) -> None:
        if batch < 1:
            raise CompoundNetError(f"batch must be at least 1, got {batch}")
        self.model = open_model(model)
        network = self.model.network
        if network.in_channels != 3 or network.num_classes < 1:
            raise CompoundNetError(
                f"{self.model.name} reads {network.in_channels} channels and tells {network.num_classes} classes;"
                " predicting needs a model that reads 3 (RGB) and tells at least 1"
            )
        if top is not None and not 1 <= top <= network.num_classes:
            raise CompoundNetError(f"top must be 1 to {network.num_classes}, the classes of the model, got {top}")
        self.top = min(_TOP, network.num_classes) if top is None else top
        self.batch = batch
        self._readers = threads or cores()
        self._session = session(self.model, backend=backend, threads=threads, batch=batch, device=device)

    def __call__(self, picture: str | os.PathLike[str] | Image.Image | NDArray[Any]) -> Prediction:
        """The classes of one picture: a file, a PIL image, or an array (see `compoundnet.base.images.to_rgb`).

        Raises UnreadableImageError, a CompoundNetError, for a file that cannot be read.
        """
        if isinstance(picture, str | os.PathLike):
            return self._predict([(os.fspath(picture), self._read(picture))])[0]
        return self._predict([(None, self.model.preprocess.pixels(picture))])[0]

    def many(self, paths: Iterable[str | os.PathLike[str]]) -> Iterator[Prediction | Failure]:
        """The classes of many files, in their order; a Failure in the place of one that cannot be read.

        Files are read ahead of the network by threads, a bounded number of them, so memory does not grow with their
        number and `paths` may be an endless iterator. Results come `batch` at a time.
        """
        depth = self.batch + 2 * self._readers
        waiting: list[tuple[str, NDArray[np.float32] | Failure]] = []
        for path, picture in ahead(self._try, paths, workers=self._readers, depth=depth):
            waiting.append((os.fspath(path), picture))
            if len(waiting) == self.batch:
                yield from self._in_order(waiting)
                waiting.clear()
        yield from self._in_order(waiting)

    def _read(self, path: str | os.PathLike[str]) -> NDArray[np.float32]:
        return self.model.preprocess.pixels(path)

    def _try(self, path: str | os.PathLike[str]) -> NDArray[np.float32] | Failure:
        try:
            return self._read(path)
        except UnreadableImageError as error:
            return Failure(error.path, error.reason)

    def _in_order(self, read: list[tuple[str, NDArray[np.float32] | Failure]]) -> Iterator[Prediction | Failure]:
        predictions = iter(self._predict([(path, it) for path, it in read if not isinstance(it, Failure)]))
        for _, it in read:
            yield it if isinstance(it, Failure) else next(predictions)

    def _predict(self, pictures: list[tuple[str | None, NDArray[np.float32]]]) -> list[Prediction]:
        if not pictures:
            return []
        logits = self._session(np.stack([picture for _, picture in pictures]))
        if not np.isfinite(logits).all():
            raise CompoundNetError(f"{self.model.name} gives values that are not finite; its weights are damaged")
        return [Prediction(path, self._best(row)) for (path, _), row in zip(pictures, softmax(logits), strict=True)]

    def _best(self, probabilities: NDArray[np.float64]) -> tuple[ClassProbability, ...]:
        labels = self.model.labels
        return tuple(
            ClassProbability(index, str(index) if labels is None else labels[index], float(probabilities[index]))
            for index in np.argsort(-probabilities, kind="stable")[: self.top].tolist()
        )


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities float64[N, classes] of logits float[N, classes]."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities
