"""The results of users.

Result files of `compoundnet evaluate -o` fill the tables' accuracies; studies of `compoundnet search study` fill
Figures 3, 4, 7 and 8.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from compoundnet.base import CompoundNetError, limits, read_file
from compoundnet.train.results import Result

if TYPE_CHECKING:
    from compoundnet.search.study.folder import StudyFolder


class Results(msgspec.Struct, frozen=True):
    """The results in a folder; `evaluations` are in order of date."""

    evaluations: tuple[Result, ...] = ()
    studies: tuple[StudyFolder, ...] = ()
    folder: Path | None = None

    def find(self, network: str, dataset: str | None, images: int) -> Result | None:
        """Return the latest evaluation of a network on all `images` of a data set, or else the latest on another number
        of them; None if there is none."""
        found = [result for result in self.evaluations if result.network == network and result.dataset == dataset]
        whole = [result for result in found if result.count == images] or found
        return whole[-1] if whole else None

    def of_figure(self, number: int) -> tuple[StudyFolder, ...]:
        """Return the studies of a figure, by its number."""
        return tuple(study for study in self.studies if study.study.figure == number)


def read_results(folder: Path) -> Results:
    """Read the results in a folder.

    Results are its result files (`*.json` with a `top1`), those of model folders in it (`*/result.json`), and studies:
    the folder itself, folders in it, and folders in those, as a study of several figures has them. Other files are
    ignored.

    Raises:
        CompoundNetError: a result is broken (the message names the file and the field), or there is none.
    """
    if not folder.is_dir():
        raise CompoundNetError(f"{folder} is not a folder; give the one that holds the result files")
    evaluations = [
        result
        for file in [*sorted(folder.glob("*.json")), *sorted(folder.glob("*/result.json"))]
        if (result := _read(file)) is not None
    ]
    studies = tuple(_studies(folder))
    if not evaluations and not studies:
        raise CompoundNetError(
            f"{folder} holds no result file (JSON with network, dataset, top1 and count) and no folder of"
            " `compoundnet search study`"
        )
    return Results(tuple(sorted(evaluations, key=lambda result: result.measured_at)), studies, folder)


def _read(file: Path) -> Result | None:
    try:
        document: Any = json.loads(read_file(file, limits.METADATA_BYTES))
    except CompoundNetError:
        raise
    except (ValueError, RecursionError) as error:
        raise CompoundNetError(f"{file}: not JSON: {error}") from error
    if not isinstance(document, dict) or "top1" not in document:
        return None
    try:
        return msgspec.convert(document, Result)
    except msgspec.ValidationError as error:
        raise CompoundNetError(f"{file}: not a result file: {error}") from error


def _studies(folder: Path) -> Iterator[StudyFolder]:
    patterns = "search.toml", "*/search.toml", "*/*/search.toml"
    found = [file.parent for pattern in patterns for file in sorted(folder.glob(pattern))]
    if found:
        from compoundnet.search.study.folder import is_study, read_study  # noqa: PLC0415  numpy: tables need none

        yield from (read_study(inner) for inner in found if is_study(inner))
