"""The classes of an image and their maps, as the page shows them. Images stay in memory until the answer is sent."""

from __future__ import annotations

import base64
import io
import math
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from PIL import Image

from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.models import ExportedModel
from compoundnet.serve.uploads import bombs_raise, read_upload

if TYPE_CHECKING:
    from compoundnet.explain import Explainer

_TOP = 5
# The most pixels of an image that is explained and shown. Maps cover every pixel of an image, so an image straight from
# a camera would take seconds and gigabytes; models use only some hundreds of pixels per side in any case.
_PIXELS = 1_000_000


class ShownClass(msgspec.Struct, frozen=True):
    """A class and its map.

    Attributes:
        index: The class's index.
        label: The class's label.
        probability: From 0 to 1.
        overlay: The image under the class's map, a JPEG in base64.
        threshold: Of a model of several labels an image: the image has the label from this probability on; else None.
    """

    index: int
    label: str
    probability: float
    overlay: str
    threshold: float | None = None


class ShownImage(msgspec.Struct, frozen=True):
    """An image and its most probable classes.

    Attributes:
        model: The name of the model on the page.
        width: Width of the uploaded image, pixels.
        height: Height of the uploaded image, pixels.
        image: The explained image, a JPEG in base64.
        input: What the model sees of an image, in words.
        cropped: Whether a margin of this image is cropped off before.
        note: What was assumed about an image with more than 8 bits a value, and the damage of a truncated image that
            is used as far as it can be decoded; None for others.
        classes: Best first. Of a model of several labels an image first the labels of the image.
        command: The command line that does the same.
    """

    model: str
    width: int
    height: int
    image: str
    input: str
    cropped: bool
    classes: tuple[ShownClass, ...]
    command: str
    note: str | None = None


def check_model(model: str) -> None:
    """Check that a model exists and can be explained, without importing torch.

    The weights of a model folder are read later, when an image is uploaded.

    Raises:
        CompoundNetError: a name, model folder or exported file cannot be opened, or gives no maps.
    """
    from compoundnet.explain import (  # noqa: PLC0415  numpy and more, which the page need not wait for
        Explainer,
        find_explainable,
    )

    found = find_explainable(model).model
    if isinstance(found, ExportedModel):
        Explainer(found)  # its graph shows whether it outputs the feature map


class Explainers:
    """The models that the page may use, each opened on first use and kept. Not thread-safe.

    Args:
        names: The models, in the form that commands accept.
        allow_truncated: Whether truncated or damaged images are used as far as they can be decoded.
    """

    def __init__(self, names: Sequence[str], *, allow_truncated: bool = False) -> None:
        self.names = tuple(dict.fromkeys(names))
        self.allow_truncated = allow_truncated
        self._opened: dict[str, Explainer] = {}

    def explain(self, model: str, content: bytes, name: str) -> ShownImage:
        """Explain an image.

        Args:
            model: One of `names`.
            content: The image's file.
            name: The file's name.

        Raises:
            CompoundNetError: the model is none of `names` or cannot be opened, or the image cannot be read.
        """
        from compoundnet.explain import overlay  # noqa: PLC0415  as above

        # Read before the model is opened, which takes longer: it may be unreadable.
        with bombs_raise():
            uploaded = read_upload(content, name, allow_truncated=self.allow_truncated)
            explainer = self._explainer(model)
            if uploaded.assumed and explainer.preprocess.range is not None:
                known = explainer.preprocess.range
                uploaded = read_upload(content, name, known, allow_truncated=self.allow_truncated)
        image = uploaded.image
        width, height = image.size
        shrink = min(1.0, math.sqrt(_PIXELS / (width * height)))
        image.thumbnail((math.ceil(width * shrink), math.ceil(height * shrink)))
        several = explainer.postprocess.multilabel
        # By default the labels of the image, however many.
        explanation = explainer(image, top=None if several else _TOP)
        return ShownImage(
            model=model,
            width=width,
            height=height,
            image=_jpeg(image),
            input=explainer.preprocess.describe(),
            cropped=explanation.maps[0].seen != (0, 0, *image.size),
            classes=tuple(
                ShownClass(shown.index, shown.label, shown.probability, _jpeg(overlay(image, shown)), shown.threshold)
                for shown in explanation.maps
            ),
            command=shlex.join(
                [
                    "compoundnet",
                    "explain",
                    model,
                    name,
                    *([] if several else ["--top", str(_TOP)]),
                    *(["--allow-truncated"] if uploaded.damaged else []),
                ]
            ),
            note=uploaded.note,
        )

    def _explainer(self, model: str) -> Explainer:
        from compoundnet.explain import Explainer, find_explainable  # noqa: PLC0415  as above

        if model not in self.names:
            close = did_you_mean(model, self.names)
            raise CompoundNetError(f"this page has no model {model!r}{close}; `compoundnet serve --model` adds one")
        if model not in self._opened:
            found = find_explainable(model).model
            # An exported file runs on ONNX Runtime alone; for another model that would write a graph into the cache.
            backend = None if isinstance(found, ExportedModel) else "torch"
            self._opened[model] = Explainer(found, backend=backend)
        return self._opened[model]


def _jpeg(image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=88)
    return base64.b64encode(content.getvalue()).decode()
