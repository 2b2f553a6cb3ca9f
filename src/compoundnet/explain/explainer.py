"""Explanation of the predictions of a model, in any of its forms."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import msgspec
import numpy as np
from PIL import Image

from compoundnet import arch, zoo
from compoundnet.base import CompoundNetError, Notify, did_you_mean, ignore
from compoundnet.base.image_values import Range
from compoundnet.base.images import Reading, read_image, to_rgb
from compoundnet.base.machine import check_threads
from compoundnet.explain.maps import Explanation, Method, class_map
from compoundnet.explain.methods import cam, gradcam
from compoundnet.models import ExportedModel, Model, Postprocess, Preprocess, open_model
from compoundnet.models.preprocess import default_preprocess
from compoundnet.runtime.feature_session import feature_session
from compoundnet.runtime.predict import best_classes

if TYPE_CHECKING:
    from torch import nn

    Explainable: TypeAlias = str | os.PathLike[str] | Model | nn.Module

ImageSource: TypeAlias = str | os.PathLike[str] | Image.Image

METHODS = ("cam", "gradcam")
_TOP = 3


class ExplainableModel(NamedTuple):
    """A model that can be explained: opened, or a torch module. `network` is None for a module of another package."""

    name: str
    network: arch.Network | None
    preprocess: Preprocess
    labels: tuple[str, ...] | None
    postprocess: Postprocess
    model: Model | nn.Module


class Explainer:
    """Draws maps of a model's classes: `Explainer("efficientnet-lite0")("cat.jpg").maps[0].peak`.

    Args:
        model: A name of `compoundnet models list`, a model folder, an ONNX file of `export --with-cam`, an opened
            model, or a torch module.
        method: "cam", class activation maps, for networks whose classifier reads the mean of the last feature map; or
            "gradcam", Grad-CAM, for any network and torch module. By default cam where the network allows it, and
            gradcam for other networks of compoundnet (MobileNetV4, with a convolution after the pool); `note` says so.
        backend: "onnxruntime" or "torch", for cam: by default onnxruntime, or torch for a module. Grad-CAM runs on
            torch.
        threads: Threads of the network; all cores by default.
        preprocess: Preprocessing for a torch module; required for a module of another package.
        labels: Class labels for a torch module; by default the class numbers.
        postprocess: What the logits of a torch module mean; by default one class an image, by softmax.
        allow_truncated: Whether truncated or damaged files are used as far as they can be decoded.
        value_range: The values that become 0 and 255 in images with more than 8 bits a value; by default those of the
            model's preprocessing.

    Raises:
        CompoundNetError: the model has no weights, does not classify RGB images, or cannot be explained by the method.
    """

    def __init__(
        self,
        model: Explainable,
        *,
        method: str | None = None,
        backend: str | None = None,
        threads: int | None = None,
        preprocess: Preprocess | None = None,
        labels: Sequence[str] | None = None,
        postprocess: Postprocess | None = None,
        allow_truncated: bool = False,
        value_range: Range | None = None,
    ) -> None:
        if method is not None and method not in METHODS:
            raise CompoundNetError(f"there is no method {method!r}{did_you_mean(method, METHODS)}")
        opened = find_explainable(model, preprocess, labels, postprocess)
        without_cam = opened.network is not None and not opened.network.has_linear_head
        self.method = method or ("gradcam" if without_cam else "cam")
        self.note: str | None = None
        if method is None and opened.network is not None and without_cam:
            self.note = f"{_no_cam(opened.name, opened.network)}; used Grad-CAM, whose values have no unit"
        self.name, self.network, self.preprocess, self.labels, self.postprocess = opened[:5]
        self.allow_truncated = allow_truncated
        if value_range is not None:
            self.preprocess = msgspec.structs.replace(self.preprocess, range=value_range)
        self._run = _method(opened, self.method, backend, check_threads(threads))

    def __repr__(self) -> str:
        count = "" if self.classes is None else f", {self.classes} classes"
        return f"<Explainer of {self.name}: {self.method}{count}, {self.preprocess.size} px>"

    def __call__(
        self, image: ImageSource, *, top: int | None = None, classes: Sequence[str | int] | None = None
    ) -> Explanation:
        """Draw maps of an image.

        Args:
            image: A file, or an image in memory.
            top: The number of most probable classes with a map; by default 3, and of a model of several labels an image
                all labels of the image, if they are more.
            classes: The classes that get a map instead, by label or index.

        Raises:
            UnreadableImageError: the file cannot be read.
            CompoundNetError: a class is not known.
        """
        if top is not None and top < 1:
            raise CompoundNetError(f"top must be at least 1, got {top}")
        path = None if isinstance(image, Image.Image) else os.fspath(image)
        damage: list[str] = []
        pixels = self.read(image, damaged=damage.append)
        output = self._run(self.preprocess.pixels(pixels))
        if not np.isfinite(output.logits).all():
            raise CompoundNetError(f"{self.name} gives values that are not finite; its weights are damaged")
        probabilities = self.postprocess.probabilities(output.logits[None])[0]
        # Of several labels an image, all that the image has, however many, unless the number is given.
        predictions = best_classes(probabilities, self.labels, self.postprocess, top or _TOP)[:top]
        best = [one.index for one in predictions]
        frame = self.preprocess.box(pixels.width, pixels.height)
        maps = tuple(
            class_map(one, self.label(one), float(probabilities[one]), output, pixels.size, frame, self.threshold(one))
            for one in (best if classes is None else [self.index(name) for name in classes])
        )
        return Explanation(path, self.name, self.method, pixels, predictions, maps, damage[0] if damage else None)

    def read(self, image: ImageSource, *, damaged: Notify = ignore) -> Image.Image:
        """Return an image as this model receives it, upright 8-bit RGB; see `compoundnet.base.images.read_image`."""
        if isinstance(image, Image.Image):
            return to_rgb(image, self.preprocess.range)
        return read_image(image, self.reading, damaged=damaged)

    @property
    def reading(self) -> Reading:
        """How image files are read for this model."""
        return Reading(self.preprocess.range, self.allow_truncated)

    def find_range(self, paths: Iterable[str | os.PathLike[str]]) -> str | None:
        """Use one range for all files with more than 8 bits a value, and return a note that says which.

        Nothing happens, and None is returned, if the preprocessing has a range or there are no such files.
        """
        self.preprocess, note = self.preprocess.with_range_of(paths)
        return note

    @property
    def classes(self) -> int | None:
        """The number of classes that the model predicts; None if unknown for a torch module."""
        if self.labels:
            return len(self.labels)
        return None if self.network is None else self.network.num_classes

    def label(self, index: int) -> str:
        """Return the label of a class, or its number if the model has no labels."""
        return str(index) if self.labels is None else self.labels[index]

    def threshold(self, index: int) -> float | None:
        """Return the probability from which an image has a label; None if an image has exactly one class."""
        return self.postprocess.threshold(index) if self.postprocess.multilabel else None

    def knows(self, name: str) -> bool:
        """Return whether `index` finds a class of that name."""
        try:
            self.index(name)
        except CompoundNetError:
            return False
        return True

    def index(self, name: str | int) -> int:
        """Return the class with a label, or else with one that differs by case alone, or with a number; an int is an
        index in any case. Raises CompoundNetError with the nearest."""
        if not isinstance(name, str):
            if name < 0 or (self.classes is not None and name >= self.classes):
                known = "" if self.classes is None else f" to {self.classes - 1}"
                raise CompoundNetError(f"{self.name} has no class {name}: classes have numbers from 0{known}")
            return int(name)
        wanted, labels = name.casefold(), self.labels or ()
        if name in labels:
            return labels.index(name)
        found = next((index for index, label in enumerate(labels) if label.casefold() == wanted), None)
        if found is not None:
            return found
        if name.isdecimal() and (self.classes is None or int(name) < self.classes):
            return int(name)
        close = did_you_mean(wanted, labels) if labels else ""
        numbers = "" if self.classes is None else f"; classes also have numbers, 0 to {self.classes - 1}"
        raise CompoundNetError(f"{self.name} has no class {name!r}{close}{numbers}")


def find_explainable(
    model: Explainable,
    preprocess: Preprocess | None = None,
    labels: Sequence[str] | None = None,
    postprocess: Postprocess | None = None,
) -> ExplainableModel:
    """Open a model. `preprocess`, `labels` and `postprocess` are for a torch module.

    Raises:
        CompoundNetError: The model has no weights, or does not classify RGB images.
    """
    if isinstance(model, str | os.PathLike | Model):
        opened = _opened(model)
        found = ExplainableModel(
            opened.name, opened.network, opened.preprocess, opened.labels, opened.postprocess, opened
        )
    else:
        from compoundnet.nn import ConvNet  # noqa: PLC0415  imports torch, which an exported file does not need

        network = model.spec if isinstance(model, ConvNet) else None
        name = type(model).__name__ if network is None else network.name
        how = preprocess or (None if network is None else default_preprocess(network))
        if how is None:
            raise CompoundNetError(f"a {name} does not say how its images are preprocessed; give preprocess=")
        names = None if labels is None else tuple(labels)
        found = ExplainableModel(name, network, how, names, postprocess or Postprocess(), model)
    network = found.network
    if network is not None and (network.in_channels != 3 or network.num_classes < 1):
        raise CompoundNetError(
            f"{found.name} reads {network.in_channels} channels and predicts {network.num_classes} classes; a map needs"
            " a model that reads 3 (RGB) and predicts at least 1"
        )
    return found


def _opened(model: str | os.PathLike[str] | Model) -> Model:
    try:
        return open_model(model)
    except CompoundNetError as error:
        wanted = arch.canonical(model) if isinstance(model, str) else ""
        if wanted in zoo.entries():
            remedy = "in Python, cn.Explainer takes a torch module that has weights"
        elif wanted in arch.networks():
            remedy = f"`compoundnet train DATA --network {wanted} -o FOLDER` makes a model folder"
        else:
            raise
        raise CompoundNetError(f"{error}. Maps of random weights would mean nothing; {remedy}") from error


def _method(found: ExplainableModel, method: str, backend: str | None, threads: int) -> Method:
    model, ours = found.model, found.network is not None
    if method == "cam":
        if not ours:
            raise CompoundNetError(
                f"{found.name} is not known to have a linear classifier over pooled features, which class activation"
                " maps need; the method gradcam explains any network"
            )
        if not found.network.has_linear_head:  # type: ignore[union-attr]  # ours
            raise CompoundNetError(f"{_no_cam(found.name, found.network)}; use the method gradcam")  # type: ignore[arg-type]
        return cam(feature_session(model, backend=backend, threads=threads))  # type: ignore[arg-type]  # ours: a ConvNet
    if backend not in (None, "torch"):
        raise CompoundNetError(f"the method gradcam needs gradients, which only the backend torch has, not {backend}")
    if isinstance(model, ExportedModel):
        raise CompoundNetError(f"{model.file} has no gradients, which the method gradcam needs; give a model folder")
    if isinstance(model, Model):
        from compoundnet.models import load  # noqa: PLC0415  imports torch

        return gradcam(load(model), found.preprocess.size, threads)
    return gradcam(model, found.preprocess.size, threads)


def _no_cam(name: str, network: arch.Network) -> str:
    """Why a network has no class activation maps."""
    why = "has a max pool before its classifier" if network.head.pool == "max" else (
        "has a convolution between the pool and the classifier"
    )  # fmt: skip
    return f"{name} {why}, so its logits are no sums over the feature map and it has no class activation maps"
