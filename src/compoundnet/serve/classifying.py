"""A photo's classes and where each lies, as the page shows them. A photo stays in memory, and goes with the answer."""

from __future__ import annotations

import base64
import io
import math
import shlex
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from PIL import Image

from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.data.images import UnreadableImageError, decode, reason

if TYPE_CHECKING:
    from compoundnet.explain import Explainer

_TOP = 5
# Of what is looked at and shown. Maps cover every pixel of a picture, so a camera's whole photo would take seconds and
# gigabytes; a model sees some hundred pixels a side of it in any case.
_PIXELS = 1_000_000
_BOMB = (Image.DecompressionBombWarning, Image.DecompressionBombError)


class ShownClass(msgspec.Struct, frozen=True):
    """A class: its probability, 0 to 1, and a JPEG in base64 of the photo with what speaks for it marked."""

    index: int
    label: str
    probability: float
    overlay: str


class Explained(msgspec.Struct, frozen=True):
    """Of one photo: its sides in pixels, itself as a JPEG in base64, and its most probable classes, best first."""

    model: str
    width: int
    height: int
    picture: str
    classes: tuple[ShownClass, ...]
    command: str


def check_model(model: str) -> None:
    """Raise CompoundNetError where a name, model folder or exported file cannot be had, or has no maps to show.

    Does not import torch: of a model folder the weights are read when a photo is there.
    """
    from compoundnet.explain import Explainer, find_explainable
    from compoundnet.models import ExportedModel

    found = find_explainable(model).model
    if isinstance(found, ExportedModel):
        Explainer(found)  # its graph tells whether it kept the feature map


def _open(model: str) -> Explainer:
    from compoundnet.explain import Explainer, find_explainable
    from compoundnet.models import ExportedModel

    found = find_explainable(model).model
    # An exported file runs on ONNX Runtime alone; for another model that would write a graph into the cache.
    return Explainer(found, backend=None if isinstance(found, ExportedModel) else "torch")


class Explainers:
    """The models that the page may use, each opened when it is first asked for and kept. Not for several threads."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(dict.fromkeys(names))
        self._opened: dict[str, Explainer] = {}

    def explain(self, model: str, photo: bytes, name: str) -> Explained:
        """Raises CompoundNetError where the model is none of `names` or cannot be had, or the photo cannot be read."""
        picture = read_photo(photo, name)
        width, height = picture.size
        shrink = min(1.0, math.sqrt(_PIXELS / (width * height)))
        picture.thumbnail((math.ceil(width * shrink), math.ceil(height * shrink)))
        from compoundnet.explain import overlay

        explanation = self._explainer(model)(picture, top=_TOP)
        return Explained(
            model=model,
            width=width,
            height=height,
            picture=_jpeg(picture),
            classes=tuple(
                ShownClass(found.index, found.label, found.probability, _jpeg(overlay(picture, found)))
                for found in explanation.maps
            ),
            command=shlex.join(["compoundnet", "explain", model, name, "--top", str(_TOP)]),
        )

    def _explainer(self, model: str) -> Explainer:
        if model not in self.names:
            close = did_you_mean(model, self.names)
            raise CompoundNetError(f"this page has no model {model!r}{close}; `compoundnet serve --model` adds one")
        if model not in self._opened:
            self._opened[model] = _open(model)
        return self._opened[model]


def read_photo(photo: bytes, name: str) -> Image.Image:
    """A file's content as upright 8-bit RGB, by the rules of `data.read_image`, but half as large at most.

    Raises UnreadableImageError for what is no picture, is damaged, or has more than PIL.Image.MAX_IMAGE_PIXELS (89
    million), from where PIL warns.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return decode(photo)
    except _BOMB as error:
        limit = f"{Image.MAX_IMAGE_PIXELS or 0:,}"
        raise UnreadableImageError(name, f"has more than {limit} pixels; make it smaller") from error
    except Exception as error:  # a damaged file makes a decoder raise whatever its code trips over
        raise UnreadableImageError(name, reason(error)) from error


def _jpeg(picture: Image.Image) -> str:
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=88)
    return base64.b64encode(content.getvalue()).decode()
