"""Weights files of keras.applications' EfficientNet, read and written with h5py alone; no code in them is run.

Three forms of the same content are read: `.h5` (Keras 2 and 3; names as in the model), `.weights.h5` (Keras 3; layers
by type and number, in newer versions with their names), and `.keras` (a zip with the latter, which Keras 2 writes too).
The written form is `.h5` as in the published files, which Keras 2 and 3 read.
"""

from __future__ import annotations

import hashlib
import io
import re
import tomllib
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from compoundnet.arch import Network
from compoundnet.base import CompoundNetError, need, write_whole
from compoundnet.models.layouts.keras import LAYOUT
from compoundnet.models.layouts.translation import to_layout
from compoundnet.models.preprocess import IMAGENET_STD, Preprocess

if TYPE_CHECKING:
    from torch import Tensor

_Array = npt.NDArray[Any]
_ZIP = b"PK\x03\x04"
_IN_ZIP = "model.weights.h5"
# The groups in which Keras 3, and Keras 2.12 and 2.13, store the layers of a model.
_NUMBERED = ("layers", "_layer_checkpoint_dependencies")
# Keras 3 numbers a layer's weights in the order the layer makes them.
_WEIGHTS_OF = {
    "conv2d": ("kernel", "bias"),
    "depthwise_conv2d": ("kernel",),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "dense": ("kernel", "bias"),
    "normalization": ("mean", "variance", "count"),
}
_TYPE_OF = {
    "conv": "conv2d",
    "squeeze": "conv2d",
    "depthwise": "depthwise_conv2d",
    "norm": "batch_normalization",
    "dense": "dense",
}
_NORMALIZATION, _RESCALING = re.compile(r"normalization(_\d+)?"), re.compile(r"rescaling(_\d+)?")
# Keras converts a file without a version as one of Keras 1; this is the form since Keras 2 became a part of TensorFlow.
_WRITTEN_AS = {"backend": b"tensorflow", "keras_version": b"2.4.0"}
_EPSILON = 1e-7  # the smallest deviation by which Keras' Normalization divides


class KerasWeights(NamedTuple):
    """state: in the layout `keras`, without a classifier if the file has none; preprocess: as the model needs it."""

    state: dict[str, Tensor]
    preprocess: Preprocess


class _Content(msgspec.Struct):
    """tensors: by layer and weight, `stem_conv/kernel`; rescalings: the number of Rescaling layers."""

    tensors: dict[str, _Array]
    rescalings: int


def read_keras(path: Path, network: Network) -> KerasWeights:
    """Read a `.h5`, `.weights.h5` or `.keras` file, distinguished by content: its weights and their preprocessing.

    Keras stores the mean and deviation of the images inside the model, and so in the file; crop and interpolation
    are those of the authors.

    Raises:
        CompoundNetError: The file is damaged or of another kind of model, or h5py is not installed.
    """
    import torch  # noqa: PLC0415  class maps of an exported file import this module without it

    with _opened(path) as file:
        content = _content(file, path, network)
    mean, std = _statistics(content, path)
    state = {
        name: torch.from_numpy(array.astype(np.float32))
        for name, array in content.tensors.items()
        if not _NORMALIZATION.fullmatch(name.split("/")[0])
    }
    preprocess = msgspec.structs.replace(Preprocess.authors(network.resolution), mean=mean, std=std)
    return KerasWeights(state, preprocess)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open the h5py.File of a path, also inside a zip. Errors while it is open are reported as a damaged file."""
    need("h5py", "reading Keras files")
    import h5py  # noqa: PLC0415  an extra

    try:
        with path.open("rb") as file:
            zipped = file.read(4) == _ZIP
            file.seek(0)
            if not zipped:
                with h5py.File(file, "r") as content:
                    yield content
                return
            with zipfile.ZipFile(file) as archive:
                if _IN_ZIP not in archive.namelist():
                    raise CompoundNetError(f"{path} is a zip file without {_IN_ZIP} in it, so no .keras file")
                with archive.open(_IN_ZIP) as member, h5py.File(member, "r") as content:
                    yield content
    except CompoundNetError:
        raise
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise CompoundNetError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # damage can raise any exception inside h5py and zipfile
        reason = str(error.args[0]) if error.args else type(error).__name__
        raise CompoundNetError(
            f"{path} is no HDF5 or .keras file, or it is truncated or damaged: {reason}; get the file again"
        ) from error


def _content(file: Any, path: Path, network: Network) -> _Content:
    root = file.get("model_weights", file)  # a whole model stores its weights next to those of its optimiser
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:  # split if there are many
        return _named(root, path)
    for group in _NUMBERED:
        if group in file:
            return _numbered(file[group], path, network)
    raise CompoundNetError(f"{path} is an HDF5 file without Keras layers in it")


def _named(root: Any, path: Path) -> _Content:
    """`stem_conv/stem_conv/kernel:0`: the layer's group, then the weight's name, in Keras 2 with a number."""
    tensors = {}
    for name, dataset in _datasets(root):
        *_, layer, weight = name.split("/")
        weight = weight.removesuffix(":0")
        tensors[f"{layer}/{'kernel' if weight == 'depthwise_kernel' else weight}"] = _array(dataset, path)
    return _Content(tensors, sum(1 for name in root if _RESCALING.fullmatch(name)))


def _numbered(root: Any, path: Path, network: Network) -> _Content:
    """`conv2d_3/vars/0`: the layer's type and number, then the weight's number."""
    names = _layer_names(root, path, network)
    tensors = {}
    for name, dataset in _datasets(root):
        layer, _, number = name.partition("/vars/")
        weights = _WEIGHTS_OF.get(_split(layer)[0], ())
        known = number.isdigit() and int(number) < len(weights)
        tensors[f"{names.get(layer, layer)}/{weights[int(number)] if known else number}"] = _array(dataset, path)
    return _Content(tensors, sum(1 for name in root if _RESCALING.fullmatch(name)))


def _layer_names(root: Any, path: Path, network: Network) -> dict[str, str]:
    """The name of each numbered layer in the model: from the file, otherwise by the order of the network's layers."""
    said = {layer: root[layer]["vars"].attrs.get("name") for layer in root if "vars" in root[layer]}
    if any(said.values()):
        return {layer: str(name) for layer, name in said.items() if name}
    ordered = defaultdict(list)
    for module in LAYOUT.modules(network.replace(num_classes=network.num_classes or 1)):
        ordered[_TYPE_OF[module.kind]].append(module.theirs)
    names: dict[str, str] = {}
    for kind, expected in ordered.items():
        found = sorted((layer for layer in root if _split(layer)[0] == kind), key=lambda layer: _split(layer)[1])
        if len(found) != len(expected) and (found or kind != "dense"):
            raise CompoundNetError(
                f"{path} does not hold {network.name} in the layout keras: it has {len(found)} layers of type {kind}"
                f" and the network has {len(expected)}; give the network it is of"
            )
        names.update(zip(found, expected, strict=False))
    return names


def _split(layer: str) -> tuple[str, int]:
    """`conv2d_3` is the type conv2d and the number 3; the first of a type has none."""
    found = re.fullmatch(r"(.*?)(?:_(\d+))?", layer)
    assert found is not None
    return found[1], int(found[2] or 0)


def _datasets(root: Any) -> list[tuple[str, Any]]:
    """Every dataset in a group, by path. Links to other files are not followed."""
    found: list[tuple[str, Any]] = []
    root.visititems(lambda name, item: found.append((name, item)) if hasattr(item, "shape") else None)
    return found


def _array(dataset: Any, path: Path) -> _Array:
    """A dataset's content, if it is really in this file."""
    if dataset.external or dataset.is_virtual or dataset.nbytes > path.stat().st_size:
        raise CompoundNetError(f"{path}: {dataset.name} does not lie in the file itself; it was not read")
    if dataset.dtype.kind not in "fiu":
        raise CompoundNetError(f"{path}: {dataset.name} holds {dataset.dtype} instead of floating-point numbers")
    return np.asarray(dataset)


def _statistics(content: _Content, path: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation in units of pixel / 255, as the model's Rescaling and Normalization layers apply them.

    The published Keras files hold the deviation in place of the variance. Since Keras 2.10 a model made with
    weights="imagenet" compensates for it with a second Rescaling (tensorflow/tensorflow#49930); the published files are
    older and lack this layer, but their weights need it.
    """
    found = {}
    for name, array in content.tensors.items():
        layer, _, weight = name.rpartition("/")
        if _NORMALIZATION.fullmatch(layer):
            found[weight] = array
    if not {"mean", "variance"} <= found.keys() or not content.rescalings:
        raise CompoundNetError(
            f"{path} does not hold an EfficientNet of keras.applications: it has no Rescaling and Normalization layers;"
            " a model inside another one must be saved by itself"
        )
    std = np.maximum(np.sqrt(found["variance"].astype(np.float64)), _EPSILON)
    if content.rescalings > 1 or _is_published(path):
        std = std * np.sqrt(IMAGENET_STD)
    mean = found["mean"].astype(np.float64)
    if mean.shape not in ((1,), (3,)) or std.shape != mean.shape or not np.isfinite([*mean, *std]).all():
        raise CompoundNetError(f"{path}: its Normalization layer is not of grey or RGB images, or it is damaged")
    return tuple(map(float, mean)), tuple(map(float, std))


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
