"""Class activation maps, exactly as Zhou et al. 2016 (arXiv:1512.04150, equation 2) define them.

The classifier of these networks reads the mean of the last feature map. So a class's logit is its bias plus the mean of
sum_k w_k f_k(x, y): that sum is the class's map, and says exactly how much each place adds to the logit.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compoundnet import data
from compoundnet.arch import CompoundNetError, did_you_mean
from compoundnet.explain.undo import box, over_picture, peak
from compoundnet.models import Model, load, open_model
from compoundnet.runtime.predict import ClassProbability, softmax

_TOP = 3


class ClassMap(msgspec.Struct, frozen=True, eq=False):
    """Where a picture speaks for a class.

    grid   float32[h, w] over the network's input; its mean plus `bias` is the logit
    heat   float32[H, W] over the original picture; NaN where the crop left the picture out
    peak   (x, y) of the largest value, pixels of the original picture
    box    left, top, right, bottom of what is above a fifth of the maximum; None where nothing speaks for the class
    """

    index: int
    label: str
    probability: float
    logit: float
    bias: float
    grid: NDArray[np.float32]
    heat: NDArray[np.float32]
    peak: tuple[int, int]
    box: tuple[int, int, int, int] | None

    def facts(self) -> dict[str, Any]:
        """All but the arrays, as plain data."""
        names = ("index", "label", "probability", "logit", "peak", "box")
        return {name: getattr(self, name) for name in names}


class Explanation(msgspec.Struct, frozen=True, eq=False):
    """A picture's most probable classes, and a map of each class that was asked for."""

    path: str | None
    picture: Image.Image
    predictions: tuple[ClassProbability, ...]
    maps: tuple[ClassMap, ...]


class Explainer:
    """A model that is ready to say what it looks at: `Explainer("efficientnet-lite0")("cat.jpg").maps[0].peak`.

    Raises CompoundNetError where the model does not classify RGB pictures.
    """

    def __init__(self, model: str | os.PathLike[str] | Model) -> None:
        self.model = model if isinstance(model, Model) else open_model(model)
        network = self.model.network
        if network.in_channels != 3 or network.num_classes < 1:
            raise CompoundNetError(
                f"{self.model.name} reads {network.in_channels} channels and tells {network.num_classes} classes; a"
                " map needs a model that reads 3 (RGB) and tells at least 1"
            )
        self._net = load(self.model).fuse()

    def __call__(
        self,
        picture: str | os.PathLike[str] | Image.Image,
        *,
        top: int | None = None,
        classes: Sequence[str] | None = None,
    ) -> Explanation:
        """Maps of the `top` most probable classes (3 unless given), or of `classes` by label or number.

        Raises UnreadableImageError for a file that cannot be read, CompoundNetError for a class that is not known.
        """
        path = os.fspath(picture) if isinstance(picture, str | os.PathLike) else None
        image = picture if isinstance(picture, Image.Image) else data.read_image(picture)
        image = image.convert("RGB")
        features, logits = self._run(image)
        probabilities = softmax(logits[None])[0]
        order = np.argsort(-probabilities, kind="stable")[: min(top or _TOP, len(logits))].tolist()
        predictions = tuple(ClassProbability(index, self._label(index), float(probabilities[index])) for index in order)
        chosen = order if classes is None else [self._number(name) for name in classes]
        maps = tuple(self._map(index, features, logits, probabilities, image) for index in chosen)
        return Explanation(path, image, predictions, maps)

    def _run(self, image: Image.Image) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(features float32[channels, h, w], logits float32[classes])."""
        import torch

        with torch.inference_mode():
            pixels = torch.from_numpy(data.preprocess(image, self.model.preprocess))[None]
            features = self._net.forward_features(pixels)
            logits = self._net.forward_head(features)
        if not torch.isfinite(logits).all():
            raise CompoundNetError(f"{self.model.name} gives values that are not finite; its weights are damaged")
        return features[0].numpy(), logits[0].numpy()

    def _map(
        self,
        index: int,
        features: NDArray[np.float32],
        logits: NDArray[np.float32],
        probabilities: NDArray[np.float64],
        image: Image.Image,
    ) -> ClassMap:
        weights = self._net.get_parameter("classifier.weight").detach().numpy()[index]
        bias = float(self._net.get_parameter("classifier.bias").detach()[index])
        grid = np.tensordot(weights, features, 1).astype(np.float32)
        heat = over_picture(grid, image.width, image.height, self.model.preprocess.crop)
        return ClassMap(
            index, self._label(index), float(probabilities[index]), float(logits[index]), bias, grid, heat, peak(heat),
            box(heat),
        )  # fmt: skip

    def _label(self, index: int) -> str:
        return str(index) if self.model.labels is None else self.model.labels[index]

    def _number(self, name: str) -> int:
        labels = [self._label(index) for index in range(self.model.network.num_classes)]
        if name in labels:
            return labels.index(name)
        if name.isdecimal() and int(name) < len(labels):
            return int(name)
        raise CompoundNetError(f"{self.model.name} has no class {name!r}{did_you_mean(name, labels)}")
