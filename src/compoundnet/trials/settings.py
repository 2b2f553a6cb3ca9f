"""What the settings of a search must be able to say. They are data, kept in the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from compoundnet.base import CompoundNetError

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

# Attributes of a trial: its place in the search, and the worker that has it.
POSITION, WORKER = "position", "worker"


class Settings(Protocol):
    """What a search was asked to do: a frozen `msgspec.Struct` with a tag field `kind`."""

    def trials(self) -> int:
        """Return how many trials there will be, exactly."""

    def params(self) -> Sequence[Mapping[str, float]]:
        """Return each trial's parameters, for a list of points; nothing where a sampler draws them."""

    def directions(self) -> list[str]:
        """Return "maximize" or "minimize" for each value."""

    def sampler(self) -> optuna.samplers.BaseSampler:
        """Return a new sampler. Its draws depend on the seed, a trial's position and the counted trials alone."""

    def pruner(self) -> optuna.pruners.BasePruner:
        """Return the pruner, which is asked after each evaluated epoch."""


class PointList(msgspec.Struct, frozen=True):
    """What settings of a list of points have in common: no sampler is asked, and no trial ends early."""

    def params(self) -> Sequence[Mapping[str, float]]:
        """Return the parameters of each trial."""
        raise NotImplementedError

    def trials(self) -> int:
        """Return how many trials there will be."""
        return len(self.params())

    def directions(self) -> list[str]:
        """Return the direction of the one value, an accuracy."""
        return ["maximize"]

    def sampler(self) -> optuna.samplers.BaseSampler:
        """Return a sampler that is never asked."""
        from optuna.samplers import RandomSampler  # optuna takes a while, and reading settings needs none of it

        return RandomSampler(0)

    def pruner(self) -> optuna.pruners.BasePruner:
        """Return the pruner that ends no trial: a point without a result would have no place in the ranking."""
        from optuna.pruners import NopPruner  # as above

        return NopPruner()


def position(trial: FrozenTrial | optuna.Trial) -> int:
    """Return a trial's position in its search; its number in a study that was made otherwise."""
    found: int = trial.user_attrs.get(POSITION, trial.number)
    return found


def as_toml(settings: Settings) -> bytes:
    """Return the settings as a TOML document, for people."""
    return msgspec.toml.encode(_without_none(msgspec.json.decode(msgspec.json.encode(settings))))


def check_same(found: str, wanted: str, where: str) -> None:
    """Raise where a study has other settings (JSON documents), naming the first that differs."""
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
    """TOML has no null: a field without a value is left out."""
    if isinstance(value, dict):
        return {key: _without_none(part) for key, part in value.items() if part is not None}
    return [_without_none(part) for part in value] if isinstance(value, list) else value
