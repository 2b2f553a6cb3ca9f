"""AutoAugment and RandAugment: the operations on an image and their strength, as the authors' code chooses them.

The policies and what a level means are data, in augment.toml. (timm's `v0` has the same source, but with Pillow 13 its
posterize rejects the 0 bits of one sub-policy, and its operations round and interpolate differently.)
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Protocol

import msgspec
import numpy as np
from PIL import Image

from compoundnet.base import did_you_mean
from compoundnet.data.operations import OPERATIONS, cutout
from compoundnet.data.randomness import below

_TOP = 10  # the highest level a policy names


class Augmentation(Protocol):
    """The augmentation, the last part of a training transform."""

    def apply(self, image: Image.Image, random: np.random.Generator) -> Image.Image:
        """Return an RGB image of the same size; all randomness comes from `random`."""
        ...


class _Level(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    scale: float
    offset: float = 0.0
    whole: bool = False
    signed: bool = False

    def value(self, level: float, random: np.random.Generator) -> float:
        """Return the operation's argument for a level from 0 to 10; RandAugment goes beyond."""
        value = level / _TOP * self.scale + self.offset
        if self.whole:
            return int(value)
        return -value if self.signed and random.random() >= 0.5 else value


class _RandAugmentFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    operations: tuple[str, ...]
    levels: dict[str, _Level]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    levels: dict[str, _Level]
    policies: dict[str, tuple[tuple[tuple[str, float, int], ...], ...]]
    randaugment: _RandAugmentFile


@cache
def _file() -> _File:
    return msgspec.toml.decode(resources.files("compoundnet.data").joinpath("augment.toml").read_bytes(), type=_File)


class AutoAugment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="autoaugment"):
    """A random sub-policy of a learned policy for each image."""

    policy: str = "v0"

    def __post_init__(self) -> None:
        policies = _file().policies
        if self.policy not in policies:
            raise ValueError(f"there is no policy named {self.policy!r}{did_you_mean(self.policy, policies)}")

    def apply(self, image: Image.Image, random: np.random.Generator) -> Image.Image:
        """Apply a random sub-policy to an RGB image."""
        policies = _file().policies[self.policy]
        for name, probability, level in policies[below(random, len(policies))]:
            if random.random() < probability:
                image = _operate(image, name, level, _file().levels, random)
        return image


class RandAugment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="randaugment"):
    """Random operations for each image.

    Attributes:
        layers: Number of operations (N in the paper).
        magnitude: Strength of the operations (M), 0 to 30; AutoAugment uses 0 to 10.
    """

    layers: int = 2
    magnitude: float = 10

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ValueError(f"layers must be at least 1, got {self.layers}")
        if not 0 <= self.magnitude <= 30:
            raise ValueError(f"magnitude must be from 0 to 30, got {self.magnitude}")

    def apply(self, image: Image.Image, random: np.random.Generator) -> Image.Image:
        """Apply random operations to an RGB image."""
        ours = _file().randaugment
        for _ in range(self.layers):
            name = ours.operations[below(random, len(ours.operations))]
            image = _operate(image, name, self.magnitude, _file().levels | ours.levels, random)
        return image


def _operate(
    image: Image.Image, name: str, level: float, levels: dict[str, _Level], random: np.random.Generator
) -> Image.Image:
    value = levels[name].value(level, random) if name in levels else 0.0
    if name == "Cutout":
        return cutout(image, value, below(random, image.width), below(random, image.height))
    return OPERATIONS[name](image, value)
