"""A result file: one evaluation as JSON."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import msgspec

from compoundnet import __version__
from compoundnet.base import json_document

if TYPE_CHECKING:  # `reproduce` reads result files without importing torch
    from compoundnet.train.counts import Counts


class Result(msgspec.Struct, frozen=True):
    """The accuracies of one evaluation. Its JSON file may hold more fields.

    Attributes:
        network: Name of the network, as in `compoundnet list` or `scale`.
        dataset: The data set of the evaluation; `imagenet` is the validation set of ILSVRC 2012.
        top1: Fraction of the images, from 0 to 1.
        count: Number of images.
        top5: Fraction of the images, from 0 to 1.
        mean_per_class: Mean over the classes of the fraction that is right.
        model: The weights: a name of `compoundnet models list`, or a model folder.
        measured_at: Date and time, ISO 8601.
        version: Of compoundnet.
        by: Name of the person who measured it.
    """

    network: str
    dataset: str
    top1: float
    count: int
    top5: float | None = None
    mean_per_class: float | None = None
    model: str = ""
    measured_at: str = ""
    version: str = ""
    by: str = ""

    def __post_init__(self) -> None:
        for name in ("top1", "top5", "mean_per_class"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} is a fraction from 0 to 1, got {value}")
        if self.count < 1:
            raise ValueError(f"count must be at least 1, got {self.count}")


class LabelResult(Result, frozen=True):
    """The result of a model of several labels an image, at its thresholds.

    `top1` is the fraction of the images of which all labels are right; in the JSON file it is `all_right`.

    Attributes:
        mean_average_precision: Mean over the labels that an image has (mAP), a fraction.
        mean_f1: Mean over these labels of F1.
    """

    mean_average_precision: float = 0.0
    mean_f1: float = 0.0


def make_result(network: str, dataset: str, counts: Counts, model: str) -> Result:
    """Return the result of counted predictions, dated now."""
    return Result(
        network, dataset, counts.top1, counts.count, counts.top5, counts.mean_per_class, model, now(), __version__
    )


def now() -> str:
    """Return the date and time, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def write_result(result: Result, **more: object) -> bytes:
    """Return the JSON file of a result, with `more` fields after its own."""
    return json_document(result_fields(result) | more)


def result_fields(result: Result) -> dict[str, object]:
    """Return the fields of a result as plain values, under their names in a result file."""
    fields: dict[str, object] = msgspec.to_builtins(result)
    if isinstance(result, LabelResult):
        fields = {"all_right" if name == "top1" else name: fields[name] for name in fields}
        del fields["top5"], fields["mean_per_class"]
    return fields
