"""A training recipe as a value: all that decides the trained weights apart from data, network and machine."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, Literal

import msgspec

from compoundnet.base import CompoundNetError, check, decode_toml, did_you_mean
from compoundnet.data.augment import AutoAugment, RandAugment


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all parts share: frozen, and an unknown field is an error."""


class RMSProp(_Part, frozen=True, tag_field="kind", tag="rmsprop"):
    """TensorFlow's: `eps` inside the root, mean square from ones, the learning rate inside the momentum."""

    decay: float = 0.9
    momentum: float = 0.9
    eps: float = 1e-3


class SGD(_Part, frozen=True, tag_field="kind", tag="sgd"):
    """Momentum, Nesterov's by default."""

    momentum: float = 0.9
    nesterov: bool = True


class AdamW(_Part, frozen=True, tag_field="kind", tag="adamw"):
    """Adam with decoupled weight decay."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


class Staircase(_Part, frozen=True, tag_field="kind", tag="staircase"):
    """Times `factor` every `epochs` epochs, counted from the first step."""

    factor: float = 0.97
    epochs: float = 2.4


class Cosine(_Part, frozen=True, tag_field="kind", tag="cosine"):
    """Half a cosine, down to 0 at the end."""


class Constant(_Part, frozen=True, tag_field="kind", tag="constant"):
    """The same throughout."""


class Recipe(_Part, frozen=True):
    """Fields by what they decide; an epoch is one pass over the training pictures in whole batches.

    name, about, source   what it is called, what it is for, and where its numbers are from
    epochs, steps         length; one of the two, the other is 0
    batch                 pictures a step, over all processes and accumulated parts together
    accumulate            parts a process cuts its share of a batch into, to fit memory
    lr, lr_batch          learning rate for that many pictures a step, scaled with `batch`; lr_batch 0: `lr` as it is
    warmup_epochs         lr rises from 0 over them; the schedule goes on underneath
    weight_decay          of all but batch norm's parameters; coupled (in the gradient) except in AdamW
    decay_bias            whether biases decay too
    layer_decay           lr of each block is this times that of the block after it
    frozen_epochs         at the start only the classifier learns, at lr, on the trunk as it was loaded
    clip_norm             of the gradient, over all parameters; 0 does not clip
    ema_decay             of the average of weights and statistics, which is what is evaluated; 0 keeps none
    norm                  "train", or "frozen": batch norm's statistics stay as they were loaded
    norm_momentum         torch's sense. 0: the network's; "kornblith": min(10 / steps of an epoch, 0.1)
    sync_norm             statistics over the batches of all processes
    survival, dropout     other than the network's
    resolution, crop      of the input, pixels, and the evaluation's centre crop; other than the network's or model's
    area, flip, augment   of the training pictures (`data.TrainingTransform`)
    minival               training pictures held out to judge epochs by: a count, or a fraction below 1
    evaluate_epochs       epochs between evaluations on them
    select                "best": the weights of the best evaluation; "last": those of the last step
    patience              evaluations without a better one before training stops; 0 never stops early
    save_minutes, save_epochs, keep   checkpoints: how often, and how many stay
    max_bad               pictures of an epoch that may be unreadable
    """

    name: str
    about: str
    source: str
    batch: int
    lr: float
    optimizer: RMSProp | SGD | AdamW
    schedule: Staircase | Cosine | Constant
    epochs: float = 0
    steps: int = 0
    accumulate: int = 1
    lr_batch: int = 0
    warmup_epochs: float = 0
    weight_decay: float = 0
    decay_bias: bool = True
    layer_decay: float = 1
    frozen_epochs: float = 0
    clip_norm: float = 0
    label_smoothing: float = 0
    ema_decay: float = 0
    norm: Literal["train", "frozen"] = "train"
    norm_momentum: float | Literal["kornblith"] = 0
    sync_norm: bool = True
    survival: float | None = None
    dropout: float | None = None
    resolution: int | None = None
    crop: float | None = None
    area: tuple[float, float] = (0.08, 1.0)
    flip: bool = True
    augment: AutoAugment | RandAugment | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = True
    compile: bool = False
    checkpointing: bool = False
    minival: float = 0
    evaluate_epochs: int = 1
    select: Literal["best", "last"] = "last"
    patience: int = 0
    save_minutes: float = 10
    save_epochs: int = 1
    keep: int = 2
    max_bad: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check((self.epochs > 0) != (self.steps > 0), "give either epochs or steps, above 0, and leave the other 0")
        for name in ("batch", "accumulate", "evaluate_epochs", "save_epochs", "keep"):
            check(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("lr", "save_minutes"):
            check(getattr(self, name) > 0, f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("lr_batch", "warmup_epochs", "weight_decay", "frozen_epochs", "clip_norm", "minival", "patience",
                     "max_bad"):  # fmt: skip
            check(getattr(self, name) >= 0, f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("label_smoothing", "ema_decay", "dropout"):
            check(0 <= (getattr(self, name) or 0) < 1, f"{name} must be from 0 to below 1, got {getattr(self, name)}")
        for name in ("layer_decay", "survival", "crop"):
            value = getattr(self, name)
            check(value is None or 0 < value <= 1, f"{name} must be above 0 and at most 1, got {value}")
        check(
            self.norm_momentum == "kornblith" or 0 <= self.norm_momentum <= 1,
            f"norm_momentum must be from 0 to 1, got {self.norm_momentum}",
        )
        check(
            self.minival > 0 or (self.select == "last" and self.patience == 0),
            "select = 'best' and patience judge by held-out pictures: give minival, a count or a fraction",
        )

    def fields(self) -> dict[str, Any]:
        """Plain values, as TOML has them: a field without a value is left out."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in fields.items() if value is not None}

    def dumps(self) -> str:
        """This recipe as TOML; `read_recipe` gives an equal one back."""
        return msgspec.toml.encode(self.fields()).decode()


@cache
def recipes() -> dict[str, Recipe]:
    """The recipes that ship with the package, by name."""
    folder = resources.files("compoundnet.train").joinpath("recipes")
    read = [decode_toml(file.read_bytes(), Recipe, file.name) for file in folder.iterdir()]
    return {recipe.name: recipe for recipe in sorted(read, key=lambda recipe: recipe.name)}


def find_recipe(name: str) -> Recipe:
    """A recipe by name, or in a TOML file."""
    if name.endswith(".toml"):
        from compoundnet.base import read_toml

        return read_toml(name, Recipe)
    if name not in recipes():
        raise CompoundNetError(f"there is no recipe named {name!r}{did_you_mean(name, recipes())}")
    return recipes()[name]
