"""What kinds of searches there are, and what each must be able to say. A search is data: it lies in its study, so that
any worker that is given the storage and the study's name knows all it needs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from compoundnet.arch import Network
from compoundnet.base import CompoundNetError, did_you_mean

if TYPE_CHECKING:
    import optuna

    from compoundnet.search.measuring import Measured
    from compoundnet.train import Recipe

# Kind -> (module, class), imported when a search of that kind is opened. Each class is a frozen msgspec.Struct with
# `tag_field="kind"`, `tag=` its name here and `forbid_unknown_fields=True`.
KINDS = {
    "coefficients": ("coefficients", "CoefficientSearch"),
    "architecture": ("architecture", "Architecture"),
    "study": ("study_figures", "ScalingStudy"),
}

# Those whose networks are all known before they start.
_LISTED = ("coefficients", "study")

Judge = Literal["held", "test"]


class Job(msgspec.Struct, frozen=True):
    """What one trial trains.

    point  says it for people
    judge  which pictures the accuracy is of
    keep   the name of the model folder that the trained network is written to, below models/ in the study's folder,
           where it has one
    """

    network: Network
    seed: int
    point: str
    judge: Judge = "held"
    keep: str | None = None


class Search(Protocol):
    """A search of any kind.

    data    as `open_dataset` takes it
    recipe  of every trial; its seed is replaced by the job's
    seed    of whatever is random in the search itself
    """

    @property
    def data(self) -> str: ...
    @property
    def recipe(self) -> Recipe: ...
    @property
    def seed(self) -> int: ...

    def trials(self) -> int:
        """How many there will be, exactly."""

    def networks(self) -> tuple[Network, ...]:
        """Those that will be trained; or, where a sampler decides, some drawn at random, to tell the cost by."""

    def sampler(self) -> optuna.samplers.BaseSampler:
        """Made anew for each trial: its draws depend on the seed, the trial's number and the finished trials alone."""

    def pruner(self) -> optuna.pruners.BasePruner:
        """Asked after each evaluated epoch."""

    def directions(self) -> list[str]:
        """ "maximize" or "minimize" for each value."""

    def propose(self, trial: optuna.Trial) -> Job:
        """A listed search's job is the trial's number's; any other suggests its choices."""

    def values(self, job: Job, measured: Measured, /) -> tuple[float, ...]:
        """What the study is told, one for each direction."""

    def result(self, study: optuna.Study) -> str:
        """The text of result.toml. Raises CompoundNetError where no trial is finished."""


def is_listed(search: Search) -> bool:
    """Whether all its networks are known before it starts; else a sampler decides."""
    return msgspec.to_builtins(search)["kind"] in _LISTED


def encode(search: Search) -> str:
    """One JSON document."""
    return msgspec.json.encode(search).decode()


def decode(text: str | bytes, source: str = "the study's settings") -> Search:
    """What `encode` gave."""
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


def as_toml(search: Search) -> str:
    """For people to read: search.toml."""
    return msgspec.toml.encode(_without_none(msgspec.to_builtins(search))).decode()


def check_same(found: Search, wanted: Search, where: str) -> None:
    """Raise where a study is of another search, naming the field that differs."""
    theirs, ours = _flat(msgspec.to_builtins(found)), _flat(msgspec.to_builtins(wanted))
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
