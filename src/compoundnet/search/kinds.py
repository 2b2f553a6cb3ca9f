"""The kinds of searches. The settings of a search are stored in its study, so a worker only needs to open the study."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.trials.database import Heartbeat
from compoundnet.trials.network_judge import NetworkSearch
from compoundnet.trials.studies import OpenedStudy
from compoundnet.trials.studies import open_study as open_any_study

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from compoundnet.search.findings import Findings, ReportFigure

# Kind -> the class of its settings in compoundnet.search.KIND.settings, which is imported when a search of that kind is
# opened: a frozen msgspec.Struct with `tag_field="kind"`, `tag=` its name here and `forbid_unknown_fields=True`.
# compoundnet.search.KIND.findings has `find`, `figures` and `result`.
KINDS = {"coefficients": "CoefficientSearch", "architecture": "ArchitectureSearch", "study": "ScalingStudy"}


class Search(NetworkSearch, Protocol):
    """The settings of a search of any kind. `seed` seeds the random numbers of the search itself."""

    @property
    def seed(self) -> int: ...


class FindingsModule(Protocol):
    """The interface of the module `findings` of a kind of search: functions of the settings and the trials that
    count."""

    def find(self, settings: Any, trials: Sequence[FrozenTrial], /) -> Findings:
        """Return the findings."""

    def figures(self, settings: Any, trials: Sequence[FrozenTrial], findings: Findings, /) -> list[ReportFigure]:
        """Return the figures of the report. Requires at least one trained network."""

    def result(self, settings: Any, trials: Sequence[FrozenTrial], /) -> str:
        """Return the text of result.toml. Raises CompoundNetError if no trial is finished."""


def decode(text: str | bytes, source: str = "the study's settings") -> Search:
    """Read the settings of a search of any kind from their JSON document."""
    fields = msgspec.json.decode(text)
    kind = fields.get("kind")
    if kind not in KINDS:
        raise CompoundNetError(f"{source}: there is no kind of search named {kind!r}{did_you_mean(str(kind), KINDS)}")
    made = getattr(importlib.import_module(f"compoundnet.search.{kind}.settings"), KINDS[kind])
    try:
        return msgspec.convert(fields, made)  # type: ignore[no-any-return]  # the class is found by name
    except msgspec.ValidationError as error:
        raise CompoundNetError(f"{source}: {error}; another version of compoundnet may have written them") from error


def findings_of(settings: Search) -> FindingsModule:
    """Return the module with the findings of a kind of search."""
    kind = type(settings).__struct_config__.tag  # type: ignore[attr-defined]  # a msgspec.Struct
    module: Any = importlib.import_module(f"compoundnet.search.{kind}.findings")
    found: FindingsModule = module
    return found


def open_study(
    storage: str | Path, name: str | None = None, *, heartbeat: Heartbeat | None = None
) -> OpenedStudy[Search]:
    """Open the study of a search in a folder, or the study of that name at a PostgreSQL URL.

    Raises:
        CompoundNetError: There is no such study, or its storage cannot be reached.
    """
    return open_any_study(storage, decode, name, heartbeat=heartbeat)
