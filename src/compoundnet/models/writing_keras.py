"""Weights files that keras.applications loads: `.h5` in the form of the published ones, which Keras 2 and 3 read."""

from __future__ import annotations

import io
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compoundnet.arch import Network
from compoundnet.base import CompoundNetError, write_whole
from compoundnet.models.layouts.convert import to_layout
from compoundnet.models.layouts.keras import LAYOUT
from compoundnet.models.preprocess import Preprocess

if TYPE_CHECKING:
    from torch import Tensor

# Keras converts a file that says nothing as one of Keras 1; this is the form since Keras 2 became a part of TensorFlow.
_WRITTEN_AS = {"backend": b"tensorflow", "keras_version": b"2.4.0"}


def write_keras(path: Path, network: Network, state: Mapping[str, Tensor], preprocess: Preprocess) -> None:
    """Write the state of `build(network)` for `EfficientNet...(weights=path)` of the same network.

    The mean and deviation of `preprocess` go into the model's Normalization layer, so that it takes pictures as pixels
    from 0 to 255. Raises CompoundNetError where keras.applications has no such network, and without h5py.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise CompoundNetError("writing Keras files needs h5py; pip install 'compoundnet[keras]'") from error
    if path.suffix != ".h5" or path.name.endswith(".weights.h5"):
        raise CompoundNetError(f"{path}: Keras tells its files apart by name, and this form must end in .h5 alone")
    weights = _statistics(network, preprocess)
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


def _statistics(network: Network, preprocess: Preprocess) -> dict[str, np.ndarray]:
    channels = network.in_channels
    return {
        "normalization/mean": np.broadcast_to(preprocess.mean, channels).astype(np.float32),
        "normalization/variance": np.broadcast_to(np.square(preprocess.std), channels).astype(np.float32),
        "normalization/count": np.array(0),
    }


def _tensorflow_name(name: str) -> str:
    return name.replace("dwconv/kernel", "dwconv/depthwise_kernel") + ":0"
