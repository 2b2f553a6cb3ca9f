"""`--set key=value`: changes to the fields of a recipe."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from typing import Any, get_args

import msgspec

from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.base.values import check_nesting
from compoundnet.train.recipe import ELSEWHERE, Recipe, convert_fields

# The fields that have the word "none" among their values.
_WORDS = frozenset(field.name for field in msgspec.structs.fields(Recipe) if "none" in get_args(field.type))

# Fields of a recipe that say how steps are taken, and so nothing about a probe without any.
_UNUSED_BY_PROBES = (
    "accumulate", "area", "batch", "channels_last", "checkpointing", "clip_norm", "compile", "decay_bias", "dropout",
    "ema_decay", "evaluate_epochs", "flip", "frozen_epochs", "frozen_stages", "keep", "keep_finished",
    "label_smoothing", "layer_decay", "lr", "lr_batch", "norm", "norm_momentum", "optimizer", "precision", "refit",
    "save_epochs", "save_minutes", "schedule", "survival", "sync_norm", "train_resolution", "warmup_epochs",
    "weight_decay",
)  # fmt: skip


def override(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """Apply `key=value` settings to a recipe, in order.

    The value is written as in TOML (`0.1`, `true`, `[0.5, 1.0]`); text needs no quotes, and `none` empties a field that
    may be empty. A dot names a field of a part: `optimizer.eps=0.01`; changing a part's `kind` starts from that kind's
    defaults. Setting `epochs` clears `steps`, and the other way round.

    Raises:
        CompoundNetError: a setting is malformed, or a field cannot have that value.
    """
    fields: dict[str, Any] = recipe.fields()
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals or not key:
            raise CompoundNetError(f"--set {setting}: expected key=value, such as lr=0.01")
        _set(fields, key.split("."), _value(text.strip()), setting)
    return convert_fields(fields, "--set")


def unused_note(recipe: Recipe, settings: Iterable[str]) -> str | None:
    """Return a line that names the `--set` fields that a recipe without steps does not use; None if there are none."""
    if recipe.has_steps:
        return None
    given = dict.fromkeys(setting.partition("=")[0].strip().split(".")[0] for setting in settings)
    unused = [name for name in given if name in _UNUSED_BY_PROBES]
    if not unused:
        return None
    return f"not used, because a probe takes no steps: {', '.join(unused)}; --set epochs=... fine-tunes after it"


def _set(fields: dict[str, Any], keys: list[str], value: Any, setting: str) -> None:
    first, *rest = keys
    if first not in Recipe.__struct_fields__:
        meant = did_you_mean(first, Recipe.__struct_fields__, ELSEWHERE)
        raise CompoundNetError(f"--set {setting}: a recipe has no field {first!r}{meant}")
    if not rest:
        fields[first] = "none" if value is None and first in _WORDS else value
        for one, other in (("epochs", "steps"), ("steps", "epochs")):
            if first == one:
                fields[other] = 0
        return
    part = fields.get(first)
    if len(rest) > 1 or (part is not None and not isinstance(part, dict)):
        raise CompoundNetError(f"--set {setting}: {first} has no parts")
    name = rest[0]
    kept = part if isinstance(part, dict) and not (name == "kind" and part.get("kind") != value) else {}
    fields[first] = {**kept, name: value}


def _value(text: str) -> Any:
    if text.lower() == "none":
        return None
    check_nesting(text, "--set")
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # no TOML, or a number of more digits than Python reads
        return text
    return found["value"] if len(found) == 1 else text  # more than one, after a line break
