"""Result files (`compoundnet evaluate -o`), one evaluation each: they fill the accuracy cells of the paper's tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from compoundnet.arch import CompoundNetError
from compoundnet.train.results import Result


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
