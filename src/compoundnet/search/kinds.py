"""The kinds of searches. A search's settings are kept in its study, so that a worker needs only to find the study."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.trials.database import Heartbeat
from compoundnet.trials.judging import NetworkSearch
from compoundnet.trials.studies import OpenedStudy
from compoundnet.trials.studies import open_study as open_any_study

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

# Kind -> the module and the class of its settings, imported when a search of that kind is opened: a frozen
# msgspec.Struct with `tag_field="kind"`, `tag=` its name here and `forbid_unknown_fields=True`.
KINDS = {
    "coefficients": ("coefficients", "CoefficientSearch"),
    "architecture": ("architecture", "Architecture"),
    "study": ("study_figures", "ScalingStudy"),
}


class Search(NetworkSearch, Protocol):
    """Settings of a search of any kind. `seed` is of whatever is random in the search itself."""

    @property
    def seed(self) -> int: ...

    def result(self, trials: Sequence[FrozenTrial]) -> str:
        """Return the text of result.toml. Raises CompoundNetError where no trial is finished."""


def decode(text: str | bytes, source: str = "the study's settings") -> Search:
    """Read the settings of a search from their JSON document, of whatever kind they are."""
    fields = msgspec.json.decode(text)
    kind = fields.get("kind")
    if kind not in KINDS:
        raise CompoundNetError(f"{source}: there is no kind of search named {kind!r}{did_you_mean(str(kind), KINDS)}")
    module, name = KINDS[kind]
    made = getattr(importlib.import_module(f"compoundnet.search.{module}"), name)
    try:
        return msgspec.convert(fields, made)  # type: ignore[no-any-return]  # the class is found by name
    except msgspec.ValidationError as error:
        raise CompoundNetError(f"{source}: {error}; another version of compoundnet may have written them") from error


def open_study(
    storage: str | Path, name: str | None = None, *, heartbeat: Heartbeat | None = None
) -> OpenedStudy[Search]:
    """Open the study of a search, in a folder or of that name at a PostgreSQL URL.

    Raises:
        CompoundNetError: There is none, or its storage cannot be reached.
    """
    return open_any_study(storage, decode, name, heartbeat=heartbeat)
