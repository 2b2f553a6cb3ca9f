"""The parts of a recipe that have fields of their own: optimisers, schedules, progressive learning, distillation."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from compoundnet.arch.spec import MIN_RESOLUTION
from compoundnet.base import check, limits

# What `--teacher-features` sets: about the paper's gamma of 3,000 at 128 images a batch.
FEATURES = 20.0
# Each phase has a loader of its own.
_MOST_PHASES = 100


class RecipePart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of all parts: frozen, and an unknown field is an error."""


def _check_decays(optimizer: RecipePart, *names: str) -> None:
    """Check the factors by which an optimiser's averages of the gradient fade."""
    for name in names:
        value = getattr(optimizer, name)
        check(0 <= value < 1, f"{name} must be from 0 to below 1, got {value}")


def _check_eps(eps: float) -> None:
    check(0 <= eps < math.inf, f"eps must not be negative, nor infinite, got {eps}")


class RMSProp(RecipePart, frozen=True, tag_field="kind", tag="rmsprop"):
    """TensorFlow's RMSProp: `eps` inside the root, mean square from ones, learning rate inside the momentum."""

    decay: float = 0.9
    momentum: float = 0.9
    eps: float = 1e-3

    def __post_init__(self) -> None:
        _check_decays(self, "decay", "momentum")
        _check_eps(self.eps)


class SGD(RecipePart, frozen=True, tag_field="kind", tag="sgd"):
    """Stochastic gradient descent with momentum, Nesterov's by default."""

    momentum: float = 0.9
    nesterov: bool = True

    def __post_init__(self) -> None:
        _check_decays(self, "momentum")
        check(
            self.momentum > 0 or not self.nesterov,
            "nesterov needs a momentum above 0: without momentum set nesterov = false too",
        )


class AdamW(RecipePart, frozen=True, tag_field="kind", tag="adamw"):
    """Adam with decoupled weight decay."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        _check_decays(self, "beta1", "beta2")
        _check_eps(self.eps)


class Staircase(RecipePart, frozen=True, tag_field="kind", tag="staircase"):
    """The learning rate is multiplied by `factor` every `epochs` epochs, counted from the first step."""

    factor: float = 0.97
    epochs: float = 2.4

    def __post_init__(self) -> None:
        check(0 < self.factor <= 1, f"factor must be above 0 and at most 1, got {self.factor}")
        check(0 < self.epochs < math.inf, f"epochs must be above 0 and finite, got {self.epochs}")


class Cosine(RecipePart, frozen=True, tag_field="kind", tag="cosine"):
    """The learning rate falls along half a cosine to 0 at the end."""


class Constant(RecipePart, frozen=True, tag_field="kind", tag="constant"):
    """The learning rate is the same throughout."""


class Progressive(RecipePart, frozen=True):
    """Progressive learning: phases of equal length, in which resolution and regularisation rise together, in equal
    steps from the first phase to the last (Tan and Le 2021, arXiv:2104.00298, Algorithm 1).

    Attributes:
        resolution: Side of the training images in the first and in the last phase, pixels.
        phases: Number of phases.
        magnitude: Of RandAugment, in the first and in the last phase; None: that of the recipe throughout.
        mixup: The recipe's field, likewise.
        cutmix: The recipe's field, likewise.
        erase: The recipe's field, likewise.
        dropout: The recipe's field, likewise.
    """

    resolution: tuple[int, int]
    phases: int = 4
    magnitude: tuple[float, float] | None = None
    mixup: tuple[float, float] | None = None
    cutmix: tuple[float, float] | None = None
    erase: tuple[float, float] | None = None
    dropout: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check(1 <= self.phases <= _MOST_PHASES, f"phases must be from 1 to {_MOST_PHASES}, got {self.phases}")
        check(
            min(self.resolution) >= MIN_RESOLUTION and max(self.resolution) <= limits.SIDE,
            f"resolution must be at least {MIN_RESOLUTION} and at most {limits.SIDE:,} px in every phase, got"
            f" {list(self.resolution)}",
        )

    def at(self, phase: int) -> dict[str, float]:
        """Return the values of a phase, counted from 0, by name; those that are None are missing."""
        share = phase / (self.phases - 1) if self.phases > 1 else 1.0
        pairs = {name: getattr(self, name) for name in self.__struct_fields__ if name != "phases"}
        return {name: pair[0] + (pair[1] - pair[0]) * share for name, pair in pairs.items() if pair is not None}


class Distillation(RecipePart, frozen=True):
    """How a network learns from a teacher (Hinton et al. 2015, arXiv:1503.02531).

    Attributes:
        weight: Of the teacher's loss, temperature^2 times the divergence of the student's probabilities from the
            teacher's; the loss of the labels has the rest.
        temperature: By which the logits of both are divided.
        view: "same": the teacher sees the crop that the student sees, with the same augmentation but nothing erased, at
            its own resolution (Beyer et al. 2022, arXiv:2106.05237); "whole": it sees each image once, as in
            evaluation, which takes far less time.
        features: Weight of the loss that compares how alike the images of a batch are, by the features before the
            classifier (Tung and Mori 2019, arXiv:1907.09682, whose gamma is this times the batch); 0 leaves it out.
    """

    weight: float = 0.5
    temperature: float = 2.0
    view: Literal["same", "whole"] = "same"
    features: float = 0.0

    def __post_init__(self) -> None:
        check(0 <= self.weight <= 1, f"weight must be from 0 to 1, got {self.weight}")
        check(0 < self.temperature < math.inf, f"temperature must be above 0 and finite, got {self.temperature}")
        check(0 <= self.features < math.inf, f"features must not be negative, nor infinite, got {self.features}")
        check(self.weight > 0 or self.features > 0, "weight and features are both 0: the teacher would teach nothing")
