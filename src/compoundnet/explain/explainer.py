"""A model that is ready to say what it looks at."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from PIL import Image

from compoundnet import data
from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.base.machine import check_threads
from compoundnet.data.transforms import crop_box
from compoundnet.explain.cam import cam
from compoundnet.explain.maps import Explanation, Method, class_map
from compoundnet.explain.subject import Subject, find_subject
from compoundnet.models import Model, Preprocess
from compoundnet.runtime import ClassProbability, Exported
from compoundnet.runtime.feature_session import feature_session
from compoundnet.runtime.predict import softmax

if TYPE_CHECKING:
    from compoundnet.explain.subject import Explainable

Picture: TypeAlias = str | os.PathLike[str] | Image.Image

METHODS = ("cam", "gradcam")
_TOP = 3


class Explainer:
    """`Explainer("efficientnet-lite0")("cat.jpg").maps[0].peak`.

    model       a name of `compoundnet models list`, a model folder, an ONNX file of `export --with-cam`, an opened one
                of them, or a torch module
    method      cam: class activation maps, exact for our networks; gradcam: Grad-CAM, for any torch module too
    backend     of cam: onnxruntime or torch. onnxruntime unless given, for a module torch. gradcam is torch
    threads     of the network; all cores unless given
    preprocess  of a torch module: needed for one that is not ours
    labels      of a torch module; the numbers of the classes unless given

    Raises CompoundNetError where the model has no weights or does not classify RGB pictures, or cannot be explained
    by the method.
    """

    def __init__(
        self,
        model: Explainable,
        *,
        method: str = "cam",
        backend: str | None = None,
        threads: int | None = None,
        preprocess: Preprocess | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        if method not in METHODS:
            raise CompoundNetError(f"there is no method {method!r}{did_you_mean(method, METHODS)}")
        self.method = method
        subject = find_subject(model, preprocess, labels)
        self.name, self.network, self.preprocess, self.labels = subject[:4]
        self._see = _method(subject, method, backend, check_threads(threads))

    def __call__(
        self, picture: Picture, *, top: int | None = None, classes: Sequence[str] | None = None
    ) -> Explanation:
        """Maps of the `top` most probable classes (3 unless given), or of `classes` by label or number.

        Raises UnreadableImageError for a file that cannot be read, CompoundNetError for a class that is not known.
        """
        if top is not None and top < 1:
            raise CompoundNetError(f"top must be at least 1, got {top}")
        path = None if isinstance(picture, Image.Image) else os.fspath(picture)
        image = data.to_rgb(picture) if isinstance(picture, Image.Image) else data.read_image(picture)
        seen = self._see(data.preprocess(image, self.preprocess))
        if not np.isfinite(seen.logits).all():
            raise CompoundNetError(f"{self.name} gives values that are not finite; its weights are damaged")
        probabilities = softmax(seen.logits[None])[0]
        best = np.argsort(-probabilities, kind="stable")[: top or _TOP].tolist()
        predictions = tuple(ClassProbability(one, self.label(one), float(probabilities[one])) for one in best)
        crop = crop_box(image.width, image.height, self.preprocess.crop)
        maps = tuple(
            class_map(one, self.label(one), float(probabilities[one]), seen, image.size, crop)
            for one in (best if classes is None else [self.index(name) for name in classes])
        )
        return Explanation(path, self.name, self.method, image, predictions, maps)

    def label(self, index: int) -> str:
        """A class's label, its number where the model has none."""
        return str(index) if self.labels is None else self.labels[index]

    def knows(self, name: str) -> bool:
        """Whether `index` finds a class of that name."""
        try:
            self.index(name)
        except CompoundNetError:
            return False
        return True

    def index(self, name: str) -> int:
        """The class of a label, whatever its capitals, or of a number. Raises CompoundNetError with the nearest."""
        wanted = name.casefold()
        known = self.labels or ()
        found = next((index for index, label in enumerate(known) if label.casefold() == wanted), None)
        if found is not None:
            return found
        count = len(known) or (self.network.num_classes if self.network else None)
        if name.isdecimal() and (count is None or int(name) < count):
            return int(name)
        close = did_you_mean(wanted, known) if known else ""
        numbers = "" if count is None else f"; classes also have numbers, 0 to {count - 1}"
        raise CompoundNetError(f"{self.name} has no class {name!r}{close}{numbers}")


def _method(subject: Subject, method: str, backend: str | None, threads: int) -> Method:
    model, ours = subject.model, subject.network is not None
    if method == "cam":
        if not ours:
            raise CompoundNetError(
                f"{subject.name} is not known to have a linear classifier over pooled features, which class activation"
                " maps need; method gradcam is for any network"
            )
        return cam(feature_session(model, backend=backend, threads=threads))  # type: ignore[arg-type]  # ours: a ConvNet
    if backend not in (None, "torch"):
        raise CompoundNetError(f"method gradcam needs gradients, which only the backend torch has, not {backend}")
    if isinstance(model, Exported):
        raise CompoundNetError(f"{model.file} has no gradients, which method gradcam needs; give a model folder")
    from compoundnet.explain.gradcam import gradcam

    if isinstance(model, Model):
        from compoundnet.models import load

        return gradcam(load(model), subject.preprocess.size, threads)
    return gradcam(model, subject.preprocess.size, threads)
