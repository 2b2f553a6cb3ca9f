"""What a picture goes through before a network's weights see it. It belongs to the weights, not to the network."""

from __future__ import annotations

import math
import os
from typing import Literal

import msgspec

from compoundnet.base import check, decode_toml, read_toml, write_whole

# Mean and standard deviation of ImageNet's training pictures, as the authors' preprocessing.py has them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# preprocessing.py: CROP_PADDING, the rule that every published checkpoint was evaluated with.
_CROP_PADDING = 32


class Preprocess(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Evaluation preprocessing: centre crop, resize to `size`, then (pixel / 255 - mean) / std for each channel.

    size           side of the square input, pixels
    crop           side of the centre crop as a fraction of the picture's shorter side
    interpolation  of the resize
    mean, std      in units of pixel / 255; one value for each channel of the picture (RGB), or one for all of them
    """

    size: int
    crop: float
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        check(self.size >= 1, f"size must be at least 1 px, got {self.size}")
        check(0 < self.crop <= 1, f"crop must be above 0 and at most 1, got {self.crop}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            check(len(values) in (1, 3), f"{name} must hold 1 or 3 values, got {len(values)}")
            check(all(map(math.isfinite, values)), f"{name} must be finite, got {list(values)}")
        check(all(value > 0 for value in self.std), f"std must be above 0, got {list(self.std)}")

    @classmethod
    def authors(cls, size: int) -> Preprocess:
        """The authors' for EfficientNet: crop size / (size + 32), bicubic, ImageNet's mean and deviation."""
        return cls(size=size, crop=size / (size + _CROP_PADDING))

    @classmethod
    def authors_lite(cls, size: int) -> Preprocess:
        """The authors' for EfficientNet-Lite: the same crop, and (pixel - 127) / 128."""
        return cls(size=size, crop=size / (size + _CROP_PADDING), mean=(127 / 255,) * 3, std=(128 / 255,) * 3)

    @classmethod
    def loads(cls, text: str | bytes, source: str = "<text>") -> Preprocess:
        """Read TOML. An unknown field, a wrong type or an impossible value is a CompoundNetError naming the field."""
        return decode_toml(text, cls, source)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Preprocess:
        """Read a preprocess.toml."""
        return read_toml(path, cls)

    def dumps(self) -> str:
        """This as TOML; `Preprocess.loads` gives an equal value back."""
        return msgspec.toml.encode(self).decode()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the TOML file whole or not at all."""
        write_whole(path, self.dumps().encode())
