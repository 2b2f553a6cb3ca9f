"""A scaling study in its folder: the settings (search.toml), the results (result.toml) and the kept models."""

from __future__ import annotations

from pathlib import Path

import msgspec

from compoundnet.base import read_toml
from compoundnet.search.study.settings import ScalingStudy, StudyNetwork
from compoundnet.search.study.summary import StudyRow, StudySummary

SEARCH, RESULT, MODELS = "search.toml", "result.toml", "models"


class _Kind(msgspec.Struct, frozen=True):
    kind: str


class StudyFolder(msgspec.Struct, frozen=True):
    """A study read from its folder. `summary` is None while trials are unfinished."""

    folder: Path
    study: ScalingStudy
    summary: StudySummary | None

    def row(self, place: StudyNetwork) -> StudyRow | None:
        """Return the results of a network, or None if there are none."""
        rows = self.summary.rows if self.summary is not None else ()
        return next((row for row in rows if row.multipliers == place.multipliers and row.accuracy is not None), None)

    def model(self, place: StudyNetwork) -> Path | None:
        """Return the model folder of a network, or None if it was not kept."""
        folder = self.folder / MODELS / place.name
        return folder if (folder / "network.toml").is_file() else None


def is_study(folder: Path) -> bool:
    """Return whether the folder holds a study of `search study`."""
    file = folder / SEARCH
    return file.is_file() and read_toml(file, _Kind).kind == "study"


def read_study(folder: Path) -> StudyFolder:
    """Read a study from its folder.

    Raises:
        CompoundNetError: A file cannot be read.
    """
    result = folder / RESULT
    summary = read_toml(result, StudySummary) if result.is_file() else None
    return StudyFolder(folder, read_toml(folder / SEARCH, ScalingStudy), summary)
