"""Predictions written to files while they are made: a row for each image, whether it could be read or not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import PurePath

import msgspec

from compoundnet.base.progress import ignore
from compoundnet.base.table_files import Columns, csv_file, parquet_file
from compoundnet.runtime.predict import Failure, Prediction, Predictor


class PredictionCounts(msgspec.Struct, frozen=True):
    """The number of images, of those that could not be read, that are unknown, and that are truncated but used."""

    images: int
    failures: int
    unknown: int
    damaged: int = 0


def write_predictions(
    predictor: Predictor,
    paths: Iterable[str | os.PathLike[str]],
    *,
    csv: str | os.PathLike[str] | None = None,
    parquet: str | os.PathLike[str] | None = None,
    each: Callable[[Prediction | Failure], object] = ignore,
) -> PredictionCounts:
    """Predict the classes of many images, and write the rows of `prediction_columns` as they are made.

    Memory does not grow with the number of images. The files appear when the last image is predicted, or not at all.

    Args:
        predictor: The model.
        paths: Image files.
        csv: The CSV file to write.
        parquet: The Parquet file to write, which needs pyarrow.
        each: Called with each prediction, and with each image that could not be read.

    Raises:
        CompoundNetError: a file cannot be written, or pyarrow is missing.
    """
    images = failures = unknown = damaged = 0
    columns = prediction_columns(predictor.top)
    with ExitStack() as files:
        writers = [
            files.enter_context(table(path, columns))
            for table, path in ((csv_file, csv), (parquet_file, parquet))
            if path is not None
        ]
        for result in predictor.many(paths):
            images += 1
            failures += isinstance(result, Failure)
            unknown += isinstance(result, Prediction) and result.unknown
            damaged += isinstance(result, Prediction) and result.damage is not None
            for write in writers:
                write(prediction_row(result, predictor.top))
            each(result)
    return PredictionCounts(images, failures, unknown, damaged)


def prediction_columns(top: int) -> Columns:
    """Return the columns of a prediction's row.

    file and prediction; the `top` most probable classes with their probabilities; error, the reason why an image could
    not be read, or the damage of one that is used as far as it can be decoded. The prediction is the first class, or
    "unknown"; of a model of several labels an image all its labels, with commas between them.
    """
    ranked = [
        column for place in range(1, top + 1) for column in ((f"class_{place}", str), (f"probability_{place}", float))
    ]
    return (("file", PurePath), ("prediction", str), *ranked, ("error", str))


def prediction_row(result: Prediction | Failure, top: int) -> Sequence[object]:
    """Return the row of an image."""
    if isinstance(result, Failure):
        return (result.path, None, *[None] * (2 * top), result.reason)
    ranked = [value for found in result.predictions[:top] for value in (found.label, found.probability)]
    return (result.path, result.label, *ranked, result.damage)
