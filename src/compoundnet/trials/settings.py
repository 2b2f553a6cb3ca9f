"""The interface of the settings of a search. Settings are data, stored in the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from compoundnet.base import CompoundNetError

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

# Attributes of a trial: its position in the search, and the worker that runs it.
POSITION, WORKER = "position", "worker"


class Settings(Protocol):
    """The settings of a search: a frozen `msgspec.Struct` with a tag field `kind`."""

    def trials(self) -> int:
        """Return the exact number of trials."""

    def params(self) -> Sequence[Mapping[str, float]]:
        """Return the parameters of each trial for a list of points; nothing if a sampler draws them."""

    def directions(self) -> list[str]:
        """Return "maximize" or "minimize" for each value."""

    def sampler(self) -> optuna.samplers.BaseSampler:
        """Return a new sampler. Its draws depend only on the seed, the position of the trial and the counted trials."""

    def pruner(self) -> optuna.pruners.BasePruner:
        """Return the pruner, which is called after each evaluated epoch."""


class PointList(msgspec.Struct, frozen=True):
    """The common part of settings with a list of points: no sampler is called, and no trial ends early."""

    def params(self) -> Sequence[Mapping[str, float]]:
        """Return the parameters of each trial."""
        raise NotImplementedError

    def trials(self) -> int:
        """Return the number of trials."""
        return len(self.params())

    def directions(self) -> list[str]:
        """Return the direction of the one value, an accuracy."""
        return ["maximize"]

    def sampler(self) -> optuna.samplers.BaseSampler:
        """Return a sampler that is never called."""
        from optuna.samplers import RandomSampler  # noqa: PLC0415  importing optuna is slow; reading needs none of it

        return RandomSampler(0)

    def pruner(self) -> optuna.pruners.BasePruner:
        """Return the pruner that ends no trial: a point without a result cannot be ranked."""
        from optuna.pruners import NopPruner  # noqa: PLC0415  optuna, as above

        return NopPruner()


def position(trial: FrozenTrial | optuna.Trial) -> int:
    """Return the position of a trial in its search; its number if another program made the study."""
    found: int = trial.user_attrs.get(POSITION, trial.number)
    return found


def as_toml(settings: Settings) -> bytes:
    """Return the settings as a TOML document, for people."""
    return msgspec.toml.encode(_without_none(msgspec.json.decode(msgspec.json.encode(settings))))


def check_same(found: str, wanted: str, where: str) -> None:
    """Raise if the settings of a study (JSON documents) differ, and name the first difference."""
    theirs, ours = (_flat(msgspec.json.decode(text)) for text in (found, wanted))
    for field in theirs | ours:
        if theirs.get(field) != ours.get(field):
            raise CompoundNetError(
                f"{where} holds another search: {field} is {_short(theirs.get(field))} there and"
                f" {_short(ours.get(field))} here. Continue it with the settings it was started with, or give another"
                " output (-o)"
            )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        name: entry
        for key, part in value.items()
        for name, entry in _flat(part, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _without_none(value: Any) -> Any:
    """Omit fields without a value, because TOML has no null."""
    if isinstance(value, dict):
        return {key: _without_none(part) for key, part in value.items() if part is not None}
    return [_without_none(part) for part in value] if isinstance(value, list) else value
