"""AutoAugment, RandAugment and TrivialAugment: the operations on an image and their strength.

The policies and what a level means are data, in augment.toml. (timm's `v0` has the same source, but with Pillow 13 its
posterize rejects the 0 bits of one sub-policy and of increasing levels, and its operations round and interpolate
differently.) TrivialAugment is torchvision's, which computes what its authors' code does.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from statistics import NormalDist
from typing import Literal, Protocol

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
    relative: bool = False

    def value(self, level: float, side: int, random: np.random.Generator) -> float:
        """Return the operation's argument for a level from 0 to 10, which RandAugment may exceed, on an image of
        `side` px."""
        value = level / _TOP * self.scale * (side if self.relative else 1)
        if self.whole:
            return int(value) + self.offset
        return (-value if self.signed and random.random() >= 0.5 else value) + self.offset


class _RandAugmentFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    operations: tuple[str, ...]
    levels: dict[str, _Level]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    levels: dict[str, _Level]
    policies: dict[str, tuple[tuple[tuple[str, float, int], ...], ...]]
    randaugment: _RandAugmentFile
    increasing: _RandAugmentFile


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

    The defaults are the authors' code. timm's recipes (`rand-m6-mstd101-inc1`) are `magnitude` m, `noise` mstd, or
    "uniform" for a mstd above 100, `probability` 0.5 and `increasing`.

    Attributes:
        layers: Number of operations (N in the paper).
        magnitude: Strength of the operations (M), 0 to 30; AutoAugment uses 0 to 10.
        noise: Standard deviation of the strength of each operation, which is then from 0 to 10, or to `magnitude` if
            that is more; "uniform": strengths are uniform from 0 to `magnitude`.
        probability: With which each operation is applied.
        increasing: Whether each operation changes an image more at a higher level (timm's `inc1`). In the authors' code
            posterize and solarize change it less, and colour, contrast, brightness and sharpness least at 5.
    """

    layers: int = 2
    magnitude: float = 10
    noise: float | Literal["uniform"] = 0
    probability: float = 1
    increasing: bool = False

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ValueError(f"layers must be at least 1, got {self.layers}")
        if not 0 <= self.magnitude <= 30:
            raise ValueError(f"magnitude must be from 0 to 30, got {self.magnitude}")
        if self.noise != "uniform" and not 0 <= self.noise <= 30:
            raise ValueError(f'noise must be from 0 to 30, or "uniform", got {self.noise}')
        if not 0 < self.probability <= 1:
            raise ValueError(f"probability must be above 0 and at most 1, got {self.probability}")

    def apply(self, image: Image.Image, random: np.random.Generator) -> Image.Image:
        """Apply random operations to an RGB image."""
        chosen = _file().increasing if self.increasing else _file().randaugment
        for _ in range(self.layers):
            name = chosen.operations[below(random, len(chosen.operations))]
            if self.probability == 1 or random.random() < self.probability:
                image = _operate(image, name, self._level(random), _file().levels | chosen.levels, random)
        return image

    def _level(self, random: np.random.Generator) -> float:
        if self.noise == "uniform":
            return random.random() * self.magnitude
        if not self.noise:
            return self.magnitude
        drawn = max(random.random(), 1e-12)  # the normal distribution's inverse has no value at 0
        return min(max(0.0, NormalDist(self.magnitude, self.noise).inv_cdf(drawn)), max(float(_TOP), self.magnitude))


class TrivialAugment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="trivialaugment"):
    """One random operation at a random strength for each image (Mueller and Hutter 2021, arXiv:2103.10158, "wide")."""

    def apply(self, image: Image.Image, random: np.random.Generator) -> Image.Image:
        """Apply a random operation to an RGB image."""
        return _of_torchvision("TrivialAugmentWide").apply(image, random)


class ColorJitter(msgspec.Struct, frozen=True):
    """Random brightness, contrast and saturation in random order, as timm's `color_jitter`.

    Attributes:
        amount: Each factor is uniform from 1 - `amount` (at least 0) to 1 + `amount`.
    """

    amount: float

    def apply(self, image: Image.Image, random: np.random.Generator) -> Image.Image:
        """Change the colours of an RGB image."""
        return _of_torchvision("ColorJitter", *[self.amount] * 3).apply(image, random)


@cache
def _of_torchvision(name: str, *settings: float) -> Augmentation:
    """Return a transform of torchvision that draws its random numbers from ours."""
    # torch and torchvision take seconds to import, and recipes are read without them.
    from torchvision.transforms import v2  # noqa: PLC0415

    from compoundnet.data.own_augmentation import OwnAugmentation  # noqa: PLC0415

    return OwnAugmentation(getattr(v2, name)(*settings))


def _operate(
    image: Image.Image, name: str, level: float, levels: Mapping[str, _Level], random: np.random.Generator
) -> Image.Image:
    value = levels[name].value(level, image.width, random) if name in levels else 0.0
    if name == "Cutout":
        return cutout(image, value, below(random, image.width), below(random, image.height))
    return OPERATIONS[name](image, value)
