"""A predictor of batches of columns, as Ray Data's `map_batches` and similar tools call it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError
from compoundnet.base.images import EncodedImage
from compoundnet.base.table_files import utf8
from compoundnet.models import Model, open_model
from compoundnet.models.tuning import is_tuned
from compoundnet.runtime.backends.precisions import FLOAT32
from compoundnet.runtime.predict import Predictor
from compoundnet.runtime.prediction_tables import prediction_columns, prediction_row

_LOG = logging.getLogger(__name__)


class BatchPredictor:
    """Predicts a column of images in batches: `dataset.map_batches(BatchPredictor, fn_constructor_args=("MODEL",))`.

    A batch is a dict of columns of equal length, as Ray Data gives it with batch_format "numpy". Its column of images
    is replaced by the columns of `prediction_columns`: prediction, class_1, probability_1 and so on, and error, which
    says why an image could not be read, and is empty for others. The other columns stay.

    Args:
        model: A name of `compoundnet models list`, a model folder, an exported file, or an opened model. It is opened
            in the process that predicts.
        column: The column of images: the content of image files, pixels uint8[H, W, 3], or paths of files.
        name: The column with the names of images, for messages; by default their numbers in the batch.
        options: As for `Predictor`, such as top, backend, precision, threads or device. Without a precision a model
            that `compoundnet models tune` has tuned runs in float32, and a line says so: each of the processes that
            share the batches would choose by its own timings.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Model,
        *,
        column: str = "bytes",
        name: str | None = None,
        **options: Any,
    ) -> None:
        opened = open_model(model)
        if options.get("precision") is None and is_tuned(opened):
            _LOG.warning("%s was tuned, but runs in float32 here: give precision to choose another", opened.name)
            options["precision"] = FLOAT32
        self.predictor = Predictor(opened, **options)
        self._column, self._name = column, name

    def __call__(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Predict a batch of columns.

        Raises:
            CompoundNetError: A column is missing, or does not hold images.
        """
        for column in filter(None, (self._column, self._name)):
            if column not in batch:
                raise CompoundNetError(f"the batch has no column {column!r}, only {', '.join(map(repr, batch))}")
        values = batch[self._column]
        names = batch[self._name] if self._name is not None else range(len(values))
        images = [_image(value, str(name), self._column) for value, name in zip(values, names, strict=True)]
        rows = [prediction_row(result, self.predictor.top) for result in self.predictor.many(images)]
        kept = {name: column for name, column in batch.items() if name != self._column}
        columns = prediction_columns(self.predictor.top)
        for place, (name, kind) in enumerate(columns):
            if name != "file":
                kept[name] = _array([row[place] for row in rows], kind)
        return kept


def _image(value: Any, name: str, column: str) -> str | EncodedImage:
    if isinstance(value, bytes):
        return EncodedImage(name, value)
    if isinstance(value, np.ndarray):
        return EncodedImage(name, value)
    if isinstance(value, str):
        return value
    raise CompoundNetError(
        f"the column {column!r} must hold the content of image files, pixels or paths, got {type(value).__name__}"
    )


def _array(values: list[Any], kind: type) -> NDArray[Any]:
    if kind is float:
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return np.array(["" if value is None else utf8(value) for value in values], object)
