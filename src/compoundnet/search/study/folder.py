"""A scaling study as its folder holds it: what was asked (search.toml) and what came of it (result.toml)."""

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
    """`summary` is None while trials are missing."""

    folder: Path
    study: ScalingStudy
    summary: StudySummary | None

    def row(self, place: StudyNetwork) -> StudyRow | None:
        """What was measured of a network; None where nothing was."""
        rows = self.summary.rows if self.summary is not None else ()
        return next((row for row in rows if row.multipliers == place.multipliers and row.accuracy is not None), None)

    def model(self, place: StudyNetwork) -> Path | None:
        """The model folder that a network was kept in; None where it was not."""
        folder = self.folder / MODELS / place.name
        return folder if (folder / "network.toml").is_file() else None


def is_study(folder: Path) -> bool:
    """Whether `search study` has begun here."""
    file = folder / SEARCH
    return file.is_file() and read_toml(file, _Kind).kind == "study"


def read_study(folder: Path) -> StudyFolder:
    """Raises CompoundNetError where a file cannot be read."""
    result = folder / RESULT
    summary = read_toml(result, StudySummary) if result.is_file() else None
    return StudyFolder(folder, read_toml(folder / SEARCH, ScalingStudy), summary)
