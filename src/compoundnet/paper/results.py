"""Result files, one evaluation each: what fills the accuracy cells of the paper's tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from compoundnet.arch import CompoundNetError


class Result(msgspec.Struct, frozen=True):
    """One evaluation, one JSON file. A file may hold more fields than these.

    network         name of the network, as `compoundnet list` or `scale` gives it
    dataset         what it was evaluated on; `imagenet` is the validation set of ILSVRC 2012
    top1, top5      fractions of the images, from 0 to 1
    mean_per_class  mean over the classes of the fraction that is right
    count           images
    model           the weights: a name of `compoundnet models list`, or a model folder
    measured_at     date and time, ISO 8601
    version         of compoundnet
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

    def __post_init__(self) -> None:
        for name in ("top1", "top5", "mean_per_class"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} is a fraction from 0 to 1, got {value}")
        if self.count < 1:
            raise ValueError(f"count must be at least 1, got {self.count}")


def read_results(folder: Path) -> tuple[Result, ...]:
    """The result files (`*.json` with a `top1`) of a folder, oldest measurement first. Other files are left alone.

    Raises CompoundNetError for a result that is broken, naming the file and the field, and for a folder without any.
    """
    if not folder.is_dir():
        raise CompoundNetError(f"{folder} is not a folder; give the one that holds the result files")
    results = []
    for file in sorted(folder.glob("*.json")):
        try:
            document: Any = json.loads(file.read_bytes())
        except ValueError as error:
            raise CompoundNetError(f"{file}: not JSON: {error}") from error
        if isinstance(document, dict) and "top1" in document:
            try:
                results.append(msgspec.convert(document, Result))
            except msgspec.ValidationError as error:
                raise CompoundNetError(f"{file}: not a result file: {error}") from error
    if not results:
        raise CompoundNetError(f"{folder} holds no result file (JSON with network, dataset, top1 and count)")
    return tuple(sorted(results, key=lambda result: result.measured_at))


def find_result(results: tuple[Result, ...], network: str, dataset: str | None) -> Result | None:
    """The latest result of a network on a dataset."""
    found = [result for result in results if result.network == network and result.dataset == dataset]
    return found[-1] if found else None
