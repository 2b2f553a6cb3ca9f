"""Weights files of keras.applications' EfficientNet, read and written with h5py alone; no code in them is run.

`keras_content` reads the three forms that Keras writes. The written form is `.h5` as in the published files, which
Keras 2 and 3 read.
"""

from __future__ import annotations

import hashlib
import io
import tomllib
from collections.abc import Mapping
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from compoundnet.arch import Network
from compoundnet.base import CompoundNetError, need, write_whole
from compoundnet.models.keras_content import NORMALIZATION, Content, read_content
from compoundnet.models.keras_layers import (
    IN_NETWORK,
    KerasLayer,
    classifier,
    input_size,
    input_statistics,
    is_of_any_size,
)
from compoundnet.models.layouts.keras import LAYOUT
from compoundnet.models.layouts.translation import to_layout
from compoundnet.models.preprocess import IMAGENET_STD, Preprocess

if TYPE_CHECKING:
    from torch import Tensor

_Array = npt.NDArray[Any]
# Keras converts a file without a version as one of Keras 1; this is the form since Keras 2 became a part of TensorFlow.
_WRITTEN_AS = {"backend": b"tensorflow", "keras_version": b"2.4.0"}
_DEFAULT_SIZE = 224  # px, where the file states none
_EPSILON = 1e-7  # the smallest deviation by which Keras' Normalization divides


class KerasWeights(NamedTuple):
    """What a Keras file holds.

    Attributes:
        state: In the layout `keras`, without a classifier if the file has none.
        preprocess: As the model needs it.
        sized: Whether its size is stated by the file, or by the network that was given.
        pool: The global pool of the model.
        multilabel: Whether each output has a sigmoid, so that an image may have several labels.
        left_out: The layers after the network, if no dense layer equals them.
        notes: A sentence for each choice that was made.
    """

    state: dict[str, Tensor]
    preprocess: Preprocess
    sized: bool = True
    pool: Literal["avg", "max"] = "avg"
    multilabel: bool = False
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_keras(path: Path, network: Network | None = None) -> KerasWeights:
    """Read a `.h5`, `.weights.h5` or `.keras` file, distinguished by content: its weights and their preprocessing.

    Keras stores the mean and deviation of the images inside the model, and so in the file; crop and interpolation
    are those of the authors. The network may be inside another model, as in transfer learning: layers before it become
    the preprocessing, a dense layer after it the classifier, with batch norms beside it folded in.

    Args:
        path: The file.
        network: The network, of which a file of weights without names needs the order of layers; None tries those of
            the catalogue.

    Raises:
        CompoundNetError: The file is damaged or of another kind of model, or h5py is not installed.
    """
    import torch  # noqa: PLC0415  class maps of an exported file import this module without it

    content = read_content(path, network)
    notes: list[str] = []
    stated = input_statistics(content.layers, content.tensors, str(path))
    mean, std = _as_statistics(*stated, path) if stated is not None else _statistics(content, path, notes)
    tensors = {
        name: array
        for name, array in content.tensors.items()
        if IN_NETWORK.fullmatch(name.split("/")[0]) or name.startswith("predictions/")
    }
    pool: Literal["avg", "max"] = "avg"
    multilabel, left_out = False, list[str]()
    if "predictions/kernel" not in tensors:
        pool, multilabel, left_out = _add_classifier(tensors, content, notes)
    state = {name: torch.from_numpy(array.astype(np.float32)) for name, array in tensors.items()}
    if is_of_any_size(content.layers):
        notes.append(
            "Keras built the network for images of any size, and pads odd sides otherwise then: its logits are equal at"
            " sizes that are multiples of 32, as 224 px"
        )
    size = input_size(content.layers) or (network.resolution if network is not None else None)
    preprocess = msgspec.structs.replace(Preprocess.authors(size or _DEFAULT_SIZE), mean=mean, std=std)
    return KerasWeights(state, preprocess, size is not None, pool, multilabel, tuple(left_out), tuple(notes))


def _add_classifier(
    tensors: dict[str, _Array], content: Content, notes: list[str]
) -> tuple[Literal["avg", "max"], bool, list[str]]:
    """Add the dense layer after the network as the published model names it; return the pool, whether an image may
    have several labels, and the layers that are none."""
    layers = content.layers or _layers_after(content.tensors)
    features = len(content.tensors.get("top_bn/gamma", ()))
    found, pool, others = classifier(layers, content.tensors, features)
    if others:
        notes.append(f"left out the layers after the network, which are no single dense layer: {', '.join(others)}")
    if found is None:
        return pool, False, others
    tensors["predictions/kernel"], tensors["predictions/bias"] = found.kernel, found.bias
    return pool, found.activation == "sigmoid" and len(found.bias) > 1, others


def _layers_after(tensors: Mapping[str, _Array]) -> list[KerasLayer]:
    """The layers after the network in a file of weights alone, batch norms of the features before dense layers."""
    names = dict.fromkeys(name.split("/")[0] for name in tensors)
    after = [name for name in names if not IN_NETWORK.fullmatch(name) and not NORMALIZATION.fullmatch(name)]
    norms = [KerasLayer("BatchNormalization", name, {}) for name in after if f"{name}/moving_mean" in tensors]
    others = [name for name in after if f"{name}/moving_mean" not in tensors]
    # Between several, such a file does not show the activation.
    dense = [KerasLayer("Dense", name, {"activation": "unknown"} if len(others) > 1 else {}) for name in others]
    return [KerasLayer("BatchNormalization", "top_bn", {}), *norms, *dense]


def _statistics(content: Content, path: Path, notes: list[str]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation in units of pixel / 255, as the network's Rescaling and Normalization layers apply them.

    The published Keras files hold the deviation in place of the variance. Since Keras 2.10 a model made with
    weights="imagenet" compensates for it with a second Rescaling (tensorflow/tensorflow#49930); the published files are
    older and lack this layer, but their weights need it.
    """
    found = {}
    for name, array in content.tensors.items():
        layer, _, weight = name.rpartition("/")
        if NORMALIZATION.fullmatch(layer):
            found[weight] = array
    if not {"mean", "variance"} <= found.keys() or content.rescalings == 0:
        raise CompoundNetError(
            f"{path} does not hold an EfficientNet of keras.applications: it has no Rescaling and Normalization layers"
        )
    std = np.maximum(np.sqrt(found["variance"].astype(np.float64)), _EPSILON)
    if content.rescalings is None and np.allclose(found["variance"], IMAGENET_STD, atol=1e-3):
        notes.append(
            "the deviation of the images is ImageNet's, as since Keras 2.10; the file does not show its layers"
        )
        std = std * np.sqrt(IMAGENET_STD)
    elif (content.rescalings or 0) > 1 or _is_published(path):
        std = std * np.sqrt(IMAGENET_STD)
    return _as_statistics(found["mean"].astype(np.float64), std, path)


def _as_statistics(mean: _Array, std: _Array, path: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    shape = np.broadcast_shapes(mean.shape, std.shape) if max(mean.ndim, std.ndim) == 1 else ()
    sides = {mean.size, std.size}
    if shape not in ((1,), (3,)) or len(sides - {1}) > 1 or not np.isfinite([*mean, *std]).all() or not (std > 0).all():
        raise CompoundNetError(f"{path}: its Normalization layer is not of grey or RGB images, or it is damaged")
    return tuple(np.broadcast_to(mean, shape).tolist()), tuple(np.broadcast_to(std, shape).tolist())


def _is_published(path: Path) -> bool:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return digest in published_md5()


def published_md5() -> frozenset[str]:
    """MD5 of the files that Keras downloads for weights="imagenet"."""
    text = resources.files("compoundnet.models.layouts").joinpath("keras_published.toml").read_text("utf-8")
    return frozenset(tomllib.loads(text)["md5"])


def write_keras(path: Path, network: Network, state: Mapping[str, Tensor], preprocess: Preprocess) -> None:
    """Write the state of `build(network)` for `EfficientNet...(weights=path)` of the same network.

    The mean and deviation of `preprocess` go into the model's Normalization layer, so that it accepts images as pixels
    from 0 to 255. Raises CompoundNetError if keras.applications has no such network, or h5py is not installed.
    """
    need("h5py", "writing Keras files")
    import h5py  # noqa: PLC0415  an extra

    if path.suffix != ".h5" or path.name.endswith(".weights.h5"):
        raise CompoundNetError(f"{path}: Keras tells its files apart by name, and this form must end in .h5 alone")
    weights = _statistics_of(network, preprocess)
    weights |= {name: tensor.numpy(force=True) for name, tensor in to_layout(state, network, LAYOUT).items()}
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs.update(_WRITTEN_AS)
        layers = ["rescaling"]
        file.create_group("rescaling").attrs["weight_names"] = np.array([], "S1")
        for layer, names in groupby(weights, key=lambda name: name.split("/")[0]):
            group = file.create_group(layer)
            stored = {_tensorflow_name(name): weights[name] for name in names}
            group.attrs["weight_names"] = np.array(list(stored), "S")
            for name, array in stored.items():
                group.create_dataset(name, data=array)
            layers.append(layer)
        file.attrs["layer_names"] = np.array(layers, "S")  # Keras loads by this order, not by the names
    write_whole(path, buffer.getvalue())


def _statistics_of(network: Network, preprocess: Preprocess) -> dict[str, np.ndarray]:
    channels = network.in_channels
    return {
        "normalization/mean": np.broadcast_to(preprocess.mean, channels).astype(np.float32),
        "normalization/variance": np.broadcast_to(np.square(preprocess.std), channels).astype(np.float32),
        "normalization/count": np.array(0),
    }


def _tensorflow_name(name: str) -> str:
    return name.replace("dwconv/kernel", "dwconv/depthwise_kernel") + ":0"
