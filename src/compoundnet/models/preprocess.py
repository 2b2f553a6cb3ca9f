"""The preprocessing of images before inference. It belongs to the weights, not to the network."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compoundnet.base import Notify, TomlStruct, check, ignore, limits
from compoundnet.base.images import EncodedImage, Reading, find_range_of_files, read_image, to_rgb

if TYPE_CHECKING:
    from torch import Tensor

    from compoundnet.arch import Network

# Mean and standard deviation of ImageNet's training images, from the authors' preprocessing.py.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# preprocessing.py: CROP_PADDING, the rule used in the evaluation of every published checkpoint.
_CROP_PADDING = 32
_WHOLE_FROM = 320  # pixels; of EfficientNetV2
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

# How an image that is not square becomes the square input of a network; see `Preprocess`.
Fit: TypeAlias = Literal["crop", "pad", "squash"]
# Left, top, right, bottom in pixels of an image; right and bottom are the first outside.
Box: TypeAlias = tuple[int, int, int, int]


class Preprocess(TomlStruct, frozen=True, forbid_unknown_fields=True):
    """Evaluation preprocessing: a box of the image, resized to `size`, then (pixel / 255 - mean) / std per channel.

    `fit` says which box:

    - `crop`: the centre square, `crop` times the image's shorter side. What lies outside is lost. The authors'.
    - `pad`: the square around the image, `crop` times its longer side. Shapes keep their proportions, and the rest of
      the square has the mean colour. timm's crop_mode "border".
    - `squash`: the image whatever its shape, `crop` times each side. The two sides are scaled differently, so that
      every pixel of the input shows the image. timm's crop_mode "squash".

    The order is that of the authors' preprocessing.py: crop before resize, so that nothing outside the box affects a
    pixel. The resize is that of PIL, which is antialiased, as in timm and torchvision; TensorFlow 1's is not. A
    `Preprocess` is callable: `preprocess("cat.jpg")` is a tensor float32[3, size, size].

    Attributes:
        size: Side of the square input, pixels.
        crop: Side of the box as a fraction of the image's shorter side; of the longer one with `pad`, of each with
            `squash`.
        fit: How an image that is not square becomes square; a preprocess.toml without it means crop.
        interpolation: The filter of the resize.
        mean: In units of pixel / 255: one value for each channel of the image (RGB), or one for all of them.
        std: Standard deviation, in the same units and number.
        range: The values that become 0 and 255 in images with more than 8 bits a value; None: those that a file states,
            or else the rules of `compoundnet.base.images.to_rgb`.
    """

    size: int
    crop: float
    fit: Fit = "crop"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check(self.size >= 1, f"size must be at least 1 px, got {self.size}")
        check(self.size <= limits.SIDE, f"size must be at most {limits.SIDE:,} px, got {self.size}")
        check(0 < self.crop <= 1, f"crop must be above 0 and at most 1, got {self.crop}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            check(len(values) in (1, 3), f"{name} must hold 1 or 3 values, got {len(values)}")
            check(all(map(math.isfinite, values)), f"{name} must be finite, got {list(values)}")
        check(all(value > 0 for value in self.std), f"std must be above 0, got {list(self.std)}")
        if self.range is not None:
            rises = self.range[0] < self.range[1] and all(map(math.isfinite, self.range))
            check(rises, f"range must be two finite values that rise, got {list(self.range)}")

    @classmethod
    def authors(cls, size: int) -> Preprocess:
        """Return the authors' preprocessing for EfficientNet: crop size / (size + 32), bicubic, ImageNet's mean and
        deviation."""
        return cls(size=size, crop=size / (size + _CROP_PADDING))

    @classmethod
    def authors_lite(cls, size: int) -> Preprocess:
        """Return the authors' preprocessing for EfficientNet-Lite and -EdgeTPU: the same crop, (pixel - 127) / 128."""
        return cls(size=size, crop=size / (size + _CROP_PADDING), mean=(127 / 255,) * 3, std=(128 / 255,) * 3)

    @classmethod
    def authors_v2(cls, size: int) -> Preprocess:
        """Return the authors' preprocessing for EfficientNetV2-S to -XL: bilinear, (pixel - 128) / 128.

        From 320 px on it is the whole image, whatever its shape; below, the same crop as EfficientNet's
        (automl/efficientnetv2/preprocessing.py: preprocess_for_eval).
        """
        whole = size >= _WHOLE_FROM
        return cls(
            size=size,
            crop=1.0 if whole else size / (size + _CROP_PADDING),
            fit="squash" if whole else "crop",
            interpolation="bilinear",
            mean=(128 / 255,) * 3,
            std=(128 / 255,) * 3,
        )

    def __call__(self, image: str | os.PathLike[str] | Image.Image | NDArray[Any]) -> Tensor:
        """Prepare an image for the network as a torch tensor.

        Args:
            image: A file, a PIL image of any mode, or an array (see `compoundnet.base.images.to_rgb`).

        Returns:
            A tensor float32[3, size, size]; `[None]` adds the batch axis.

        Raises:
            UnreadableImageError: The file cannot be read.
        """
        import torch  # noqa: PLC0415  `pixels` is for installations without it

        return torch.from_numpy(self.pixels(image))

    def pixels(
        self,
        image: str | os.PathLike[str] | Image.Image | NDArray[Any],
        *,
        allow_truncated: bool = False,
        damaged: Notify = ignore,
    ) -> NDArray[np.float32]:
        """Prepare an image as `__call__` does, but as an array float32[3, size, size], contiguous; without torch.

        Args:
            image: As for `__call__`.
            allow_truncated: Whether a truncated or damaged file is used as far as it can be decoded.
            damaged: Called with the damage of such a file.
        """
        if isinstance(image, str | os.PathLike):
            rgb = read_image(image, Reading(self.range, allow_truncated), damaged=damaged)
        else:
            rgb = to_rgb(image, self.range)
        return _normalised(np.asarray(self._fitted(rgb)), self.mean, self.std)

    def box(self, width: int, height: int) -> Box:
        """Return the part of an image that becomes the network's input. With `pad` it reaches beyond the image."""
        match self.fit:
            case "crop":
                return crop_box(width, height, self.crop)
            case "pad":
                side = scaled_side(max(width, height), self.crop)
                return _centred(width, height, side, side)
            case "squash":
                return _centred(width, height, scaled_side(width, self.crop), scaled_side(height, self.crop))

    @property
    def padding(self) -> tuple[int, int, int]:
        """The colour around an image with `pad`, RGB: the mean, which becomes 0 to within half a step of 1/255 (as in
        timm)."""
        red, green, blue = (min(255, max(0, round(255 * value))) for value in np.broadcast_to(self.mean, 3).tolist())
        return red, green, blue

    def describe(self) -> str:
        """Return in words which part of an image the network receives, and at which size."""
        whole = self.crop == 1
        match self.fit:
            case "crop":
                part = "the centre square" if whole else f"a centre square of {self.crop:.3f} of the shorter side"
                return f"{part}, resized to {self.size} px"
            case "pad":
                part = "the whole image" if whole else f"the middle {self.crop:.3f} of the longer side"
                return f"{part}, resized to {self.size} px and padded to a square with the mean colour"
            case "squash":
                part = "the whole image" if whole else f"the middle {self.crop:.3f} of each side"
                return f"{part}, resized to {self.size} x {self.size} px whatever its proportions"

    def _fitted(self, image: Image.Image) -> Image.Image:
        """The box of the image at `size` x `size` pixels."""
        box = self.box(image.width, image.height)
        part, (wide, tall) = visible(box, image.width, image.height, self.size)
        resized = image.crop(part).resize((wide, tall), _FILTERS[self.interpolation])
        if (wide, tall) == (self.size, self.size):
            return resized
        padded = Image.new("RGB", (self.size, self.size), self.padding)
        padded.paste(resized, ((self.size - wide) // 2, (self.size - tall) // 2))
        return padded

    def with_range_of(self, images: Iterable[str | os.PathLike[str] | EncodedImage]) -> tuple[Preprocess, str | None]:
        """Return this with one range for all images with more than 8 bits a value, and a note that says which.

        Nothing changes, and there is no note, if it has a range already or there are no such images.

        Args:
            images: Files, or images in memory with names.
        """
        found = find_range_of_files(images) if self.range is None else None
        if found is None:
            return self, None
        return msgspec.structs.replace(self, range=(found.low, found.high)), str(found)


def crop_box(width: int, height: int, crop: float) -> Box:
    """Return the centre square of an image, `crop` times its shorter side.

    If the remainder is odd, one pixel more is cut off on the left and at the top.
    """
    side = scaled_side(min(width, height), crop)
    return _centred(width, height, side, side)


def scaled_side(side: int, crop: float) -> int:
    """Return a fraction of a side, at least 1 px: computed in float32 and truncated, as in TensorFlow."""
    return max(1, int(np.float32(crop) * np.float32(side)))


def _centred(width: int, height: int, wide: int, tall: int) -> Box:
    left, top = (width - wide + 1) // 2, (height - tall + 1) // 2
    return left, top, left + wide, top + tall


def inside(box: Box, width: int, height: int) -> Box:
    """Return the part of a box that lies in an image."""
    return max(0, box[0]), max(0, box[1]), min(width, box[2]), min(height, box[3])


def visible(box: Box, width: int, height: int, size: int) -> tuple[Box, tuple[int, int]]:
    """Return the part of a box that lies in an image, and its width and height when the box becomes size x size."""
    left, top, right, bottom = part = inside(box, width, height)
    wide = max(1, round((right - left) * size / (box[2] - box[0])))
    tall = max(1, round((bottom - top) * size / (box[3] - box[1])))
    return part, (wide, tall)


def _normalised(pixels: NDArray[np.uint8], mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """uint8[H, W, 3] as float32[3, H, W]."""
    planes = np.empty((3, *pixels.shape[:2]), np.float32)
    for channel, table in enumerate(_tables(mean, std)):
        table.take(pixels[..., channel], out=planes[channel], mode="clip")
    return planes


@cache
def _tables(mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """The normalised value of each of the 256 pixel values, float32[3, 256]: computed once, and correctly rounded."""
    mean_of, std_of = (np.broadcast_to(np.asarray(values, np.float64), 3)[:, None] for values in (mean, std))
    tables: NDArray[np.float32] = ((np.arange(256) / 255 - mean_of) / std_of).astype(np.float32)
    return tables


def default_preprocess(network: Network) -> Preprocess:
    """Return the preprocessing of the network's authors, at its resolution; of other networks that of EfficientNet."""
    base = network.name if network.scaling is None else network.scaling.base
    make = Preprocess.authors
    if network.padding == "same":  # with symmetric padding they are not the authors': timm has trained its own
        if base.startswith(("efficientnet-lite", "efficientnet-edgetpu")):
            make = Preprocess.authors_lite
        elif base.startswith("efficientnetv2-") and not base.startswith("efficientnetv2-b"):
            make = Preprocess.authors_v2
    return make(network.resolution)
