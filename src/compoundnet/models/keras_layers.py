"""What the layers around Keras' EfficientNet do: the scale of the images before it, and the classifier after it.

A Keras file states its layers as JSON. Of a transfer model those before the network (Rescaling, Normalization) become
its preprocessing, and those after it (BatchNormalization, Dense) one classifier, as far as they are linear. No layer is
built, so nothing that a file holds is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from compoundnet.base import CompoundNetError

_Array = npt.NDArray[Any]
FIRST, LAST = "stem_conv", "top_bn"
IN_NETWORK = re.compile(r"(stem|top)_(conv|bn)|block\d+[a-z]+_.*")
_NEUTRAL = re.compile(r"InputLayer|Random\w+|.*Dropout|GaussianNoise|ZeroPadding2D|Identity|AutoContrast|MixUp|CutMix")
_POOLS: dict[str, Literal["avg", "max"]] = {"GlobalAveragePooling2D": "avg", "GlobalMaxPooling2D": "max"}
_NEUTRAL_AFTER = re.compile(r"InputLayer|.*Dropout|Identity|Flatten|Softmax")
_EPSILON = 1e-7  # the smallest deviation by which Keras' Normalization divides
_FINAL = ("linear", "softmax", "sigmoid")


class KerasLayer(NamedTuple):
    """One layer of a model: its class, its name, and its configuration."""

    kind: str
    name: str
    config: Mapping[str, Any]


class Classifier(NamedTuple):
    """kernel: float[features, classes]; bias: float[classes]; activation: as the last layer's configuration states."""

    kernel: _Array
    bias: _Array
    activation: str


def flat_layers(model: Mapping[str, Any]) -> Iterator[KerasLayer]:
    """The layers of a model, in order; those of a model inside it in its place."""
    config = model.get("config")
    config = config if isinstance(config, Mapping) else {}
    inner = config.get("layers")
    if isinstance(inner, list):
        for layer in inner:
            if isinstance(layer, Mapping):
                yield from flat_layers(layer)
        return
    yield KerasLayer(str(model.get("class_name")), str(config.get("name")), config)


def input_size(layers: list[KerasLayer]) -> int | None:
    """The side of the images, if the model states it: of a Resizing layer, or of its first input with a size."""
    for layer in layers:
        if layer.kind == "Resizing" and isinstance(layer.config.get("height"), int):
            return int(layer.config["height"])
    for layer in layers:
        match layer.config.get("batch_shape") or layer.config.get("batch_input_shape"):
            case [_, int(height), int(_), int(_)] if layer.kind == "InputLayer":
                return height
    return None


def is_of_any_size(layers: list[KerasLayer]) -> bool:
    """Whether the network was built without a size, so that Keras pads each side as if it were even (correct_pad)."""
    before = layers[: next((at for at, one in enumerate(layers) if one.name == FIRST), 0)]
    shapes = [layer.config.get("batch_shape") or layer.config.get("batch_input_shape") for layer in before]
    last = next((shape for shape in reversed(shapes) if isinstance(shape, list) and len(shape) == 4), None)
    return last is not None and None in last[1:3]


def input_statistics(
    layers: list[KerasLayer], weights: Mapping[str, _Array], source: str
) -> tuple[_Array, _Array] | None:
    """Mean and deviation in units of pixel / 255 that the layers before the network amount to.

    Returns:
        None if the layers neither rescale nor normalise.

    Raises:
        CompoundNetError: A layer does something else to the images.
    """
    scale, shift, found = np.ones(1), np.zeros(1), False
    for kind, name, config in layers:
        if name == FIRST:
            break
        if kind == "Rescaling":
            factor, offset = _numbers(config.get("scale")), _numbers(config.get("offset", 0.0))
            scale, shift, found = scale * factor, shift * factor + offset, True
        elif kind == "Normalization":
            mean, variance = (
                _numbers(weights.get(f"{name}/{part}", config.get(part))) for part in ("mean", "variance")
            )
            deviation = np.maximum(np.sqrt(variance), _EPSILON)
            scale, shift, found = scale / deviation, (shift - mean) / deviation, True
        elif kind not in ("Resizing", "Activation") and not _NEUTRAL.fullmatch(kind):
            raise CompoundNetError(
                f"{source}: what the layer {name} ({kind}) does to the images before the network is not known here, and"
                " no code of a file is run; save the network and the layers after it alone, and give --preprocess"
            )
    if not found:
        return None
    deviation = 1 / (255 * scale)
    return -shift * deviation, deviation


def classifier(
    layers: list[KerasLayer], weights: Mapping[str, _Array], features: int
) -> tuple[Classifier | None, Literal["avg", "max"], list[str]]:
    """The layers after the network as one dense layer; batch norms beside it are folded into it.

    Returns:
        The classifier, the global pool before it ("avg" or "max"), and the names of the layers that no dense layer
        equals; None if there are such layers, or no dense layer.
    """
    pool: Literal["avg", "max"] = "avg"
    kernel, bias, activation = np.eye(features), np.zeros(features), "linear"
    dense, others, weighty = False, [], []
    names = [layer.name for layer in layers]
    for kind, name, config in layers[names.index(LAST) + 1 :] if LAST in names else []:
        of = {part.rpartition("/")[2]: array for part, array in weights.items() if part.rpartition("/")[0] == name}
        stated = str(config.get("activation") or "linear")
        weighty += [name] if of else []
        if kind in _POOLS:
            pool = _POOLS[kind]
        elif name == "top_activation" or _NEUTRAL_AFTER.fullmatch(kind):
            continue
        elif kind == "Activation" and stated in _FINAL:  # apart from its dense layer, as in mixed precision
            activation = stated if dense and activation == "linear" else activation
        elif activation == "linear" and kind == "Dense" and of.keys() >= {"kernel"} and len(of["kernel"]) == len(bias):
            kernel, bias = kernel @ of["kernel"], bias @ of["kernel"] + of.get("bias", 0)
            activation, dense = stated, True
        elif activation == "linear" and kind == "BatchNormalization" and _sizes(of) == {len(bias)}:
            factor = of.get("gamma", 1) / np.sqrt(of["moving_variance"] + float(config.get("epsilon", 1e-3)))
            kernel, bias = kernel * factor, (bias - of["moving_mean"]) * factor + of.get("beta", 0)
        else:
            others.append(name)
    if others or not dense or activation not in _FINAL:
        return None, pool, list(dict.fromkeys([*weighty, *others]))
    return Classifier(kernel, bias, activation), pool, []


def _sizes(weights: Mapping[str, _Array]) -> set[int]:
    return {array.size for array in weights.values()} if {"moving_mean", "moving_variance"} <= weights.keys() else set()


def _numbers(value: Any) -> _Array:
    """Numbers as a configuration states them: one, a list, or a serialised array."""
    if isinstance(value, Mapping):
        inner = value.get("config", value)
        value = inner.get("value") if isinstance(inner, Mapping) else None
    try:
        found = np.asarray(value, np.float64).reshape(-1)
    except (TypeError, ValueError):
        found = np.full(1, np.nan)
    return found if found.size in (1, 3) else np.full(1, np.nan)
