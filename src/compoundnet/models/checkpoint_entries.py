"""Which entry of a checkpoint holds the weights: by the names that training programs give them, and inside others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from compoundnet.base import CompoundNetError
from compoundnet.models.torch_files import array_of

# The entries of moving averages, and of the trained weights beside them, most specific first.
_AVERAGED = (
    "state_dict_ema", "ema_state_dict", "model_ema_state_dict", "model_state_dict_ema", "model_ema", "ema_model",
    "model_ema_best", "params_ema", "ema_weights", "swa_state_dict", "swa_model", "averaged_model", "average", "ema",
    "shadow",
)  # fmt: skip
_TRAINED = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "params", "weights",
    "student", "encoder", "backbone", "generator",
)  # fmt: skip
# Beside the average of Lightning's WeightAveraging, which is `state_dict` itself.
_BEFORE_AVERAGING = "current_model_state"
# Entries that hold tensors, but no weights.
_OTHER = re.compile(r".*(optim|sched|scaler|loss|criterion|callbacks?|loops|rng|args|hyper|config|history|averaging).*")
_NESTED = 3  # dictionaries around that of the weights
_NAMED = 5  # how many entries a message names


def unnested(content: Mapping[Any, Any]) -> tuple[list[Mapping[Any, Any]], Mapping[Any, Any], list[str]]:
    """Follow the only entry that holds dictionaries of tensors inward, to where these have names of their own.

    Returns:
        The dictionaries around, outermost first; that with the weights; and a note for each entry that was entered.
    """
    around: list[Mapping[Any, Any]] = []
    notes: list[str] = []
    while len(around) < _NESTED and (name := _only_nest(content)) is not None:
        around.append(content)
        content = content[name]
        if name not in _TRAINED:
            notes.append(f"took the weights in the entry {name}")
    return around, content, notes


def _only_nest(content: Mapping[Any, Any]) -> Any | None:
    """The name of the only entry that holds dictionaries of tensors, if no other holds tensors, and it is not that of a
    moving average."""
    entries = {name: value for name, value in content.items() if not _OTHER.fullmatch(str(name).lower())}
    if any(_holds_tensors(value) for value in (entries, *entries.values())):
        return None
    seen: set[int] = set()
    nests = [name for name, value in entries.items() if _is_nest(value, seen, _NESTED)]
    return nests[0] if len(nests) == 1 and nests[0] not in _AVERAGED else None


def _is_nest(value: object, seen: set[int], depth: int) -> bool:
    """Whether a value is a dictionary that holds dictionaries of tensors; `seen` are those looked at, as a file may
    repeat one any number of times, or hold it in itself."""
    if not isinstance(value, Mapping) or id(value) in seen or not depth:
        return False
    seen.add(id(value))
    return any(_holds_tensors(inner) or _is_nest(inner, seen, depth - 1) for inner in value.values())


def _holds_tensors(value: object) -> bool:
    return isinstance(value, Mapping) and any(
        isinstance(item, Tensor) or array_of(item) is not None for item in value.values()
    )


def weights_in(content: Mapping[Any, Any], path: Path, raw: bool) -> tuple[Mapping[Any, Any], bool, bool, list[str]]:
    """The tensors of the weights, whether they are averaged, whether the file has an average, and the notes."""
    unwrapped = {str(name): _unwrapped(value) for name, value in (*_of_callbacks(content), *content.items())}
    entries = {name: value for name, value in unwrapped.items() if value is not None}
    averaged = next((name for name in _AVERAGED if name in entries), None)
    trained = next((name for name in _TRAINED if name in entries), None)
    if _BEFORE_AVERAGING in entries and trained == "state_dict":
        averaged, trained = "state_dict", _BEFORE_AVERAGING
    if not entries:
        return content, False, False, []
    if raw and trained is None and averaged is not None:
        raise CompoundNetError(f"{path} holds the moving average {averaged} only; leave out raw")
    if averaged is not None and not raw:
        beside = f", not the trained ones, {trained}; --raw takes those" if trained else ""
        return entries[averaged], True, True, [f"took the averaged weights, {averaged}{beside}"]
    if trained is not None:
        beside = f", not their average, {averaged}" if averaged else ""
        notes = [f"took the trained weights, {trained}{beside}"] if averaged else []
        left = [name for name in entries if name not in (trained, averaged) and not _OTHER.fullmatch(name.lower())]
        if left:
            held = ", ".join(f"{name} ({len(entries[name])} tensors)" for name in left[:_NAMED])
            notes.append(f"took the weights in the entry {trained}, and left out {held}")
        return entries[trained], False, averaged is not None, notes
    others = [name for name in entries if not _OTHER.fullmatch(name.lower())]
    if len(others) != 1:
        held = ", ".join(f"{name} ({len(value)} tensors)" for name, value in list(entries.items())[:_NAMED])
        raise CompoundNetError(
            f"{path} holds several dictionaries of tensors, none of them named as weights usually are: {held}."
            " Save the state dict of the network alone: torch.save(model.state_dict(), ...)"
        )
    return entries[others[0]], False, False, [f"took the weights in the entry {others[0]}"]


def _of_callbacks(content: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """The moving averages that callbacks of Lightning keep, as {"callbacks": {"EMA": {"ema_state_dict": ...}}}."""
    callbacks = content.get("callbacks")
    for state in callbacks.values() if isinstance(callbacks, Mapping) else ():
        if isinstance(state, Mapping):
            yield from ((name, state[name]) for name in _AVERAGED if name in state)


def _unwrapped(value: object) -> Mapping[Any, Any] | None:
    """A dictionary of tensors, also one level further down ({"module": {...}}); None for anything else."""
    if not isinstance(value, Mapping) or not value:
        return None
    if _holds_tensors(value):
        return value
    for name in ("state_dict", "module", "model", "shadow"):
        inner = value.get(name)
        if isinstance(inner, Mapping) and any(isinstance(item, Tensor) for item in inner.values()):
            return inner
    return None
