"""`convert`: another library's weights file as a model folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from compoundnet.arch import Network
from compoundnet.base import CompoundNetError
from compoundnet.models.folder import check_target, write_folder
from compoundnet.models.labels import label_set, read_labels
from compoundnet.models.model import ModelFolder
from compoundnet.models.preprocess import Preprocess
from compoundnet.models.weights_files import read_state, sha256_of

if TYPE_CHECKING:
    from torch import Tensor

    from compoundnet.models.layouts import Layout

_IMAGENET_CLASSES = 1000


def convert(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    layout: str,
    network: Network,
    labels: str | os.PathLike[str] | None = None,
    preprocess: Preprocess | None = None,
    raw: bool = False,
    replace: bool = False,
) -> ModelFolder:
    """Make a model folder of a weights file. Classes (0: a trunk) and input channels are those of the file.

    source      a torch or safetensors file; `.h5` or `.keras` of Keras; the prefix of a TensorFlow checkpoint
    network     the network it is of; padding and batch norm become the layout's
    labels      a file with one class a line; ImageNet's names unless given, where there are 1000 classes
    preprocess  what the file says (Keras) or `default_preprocess`, unless given
    raw         of a TensorFlow checkpoint, the trained weights instead of their moving average
    replace     write over an older model folder
    """
    from compoundnet.models import layouts

    path, target = Path(source), Path(folder)
    chosen = layouts.layout(layout)
    check_target(target, replace)
    file = _read(path, layout, network, raw)
    converted, state = layouts.from_layout(
        file.state, _without_classifier(network, file.state, chosen), chosen, str(path)
    )
    names = read_labels(Path(labels), converted.num_classes) if labels is not None else default_labels(converted)
    return write_folder(
        target,
        converted,
        state,
        preprocess or file.preprocess or default_preprocess(converted),
        labels=names,
        readme=_readme(converted, path, layout, raw),
        replace=replace,
    )


class _Source(NamedTuple):
    state: dict[str, Tensor]
    preprocess: Preprocess | None


def default_preprocess(network: Network) -> Preprocess:
    """The authors' at the network's resolution: EfficientNet-Lite's for that family, else EfficientNet's."""
    base = network.name if network.scaling is None else network.scaling.base
    make = Preprocess.authors_lite if base.startswith("efficientnet-lite") else Preprocess.authors
    return make(network.resolution)


def default_labels(network: Network) -> tuple[str, ...] | None:
    """ImageNet's where the network has as many classes, else none."""
    return label_set("imagenet-1k") if network.num_classes == _IMAGENET_CLASSES else None


def _read(path: Path, layout: str, network: Network, raw: bool) -> _Source:
    """The file's weights in their layout. Torch and TensorFlow files say nothing of preprocessing; Keras' do."""
    if raw and layout != "tensorflow":
        raise CompoundNetError(
            f"only TensorFlow checkpoints hold raw weights beside averaged ones, not layout {layout}"
        )
    match layout:
        case "keras":
            from compoundnet.models.keras_files import read_keras

            keras = read_keras(path, network)
            return _Source(keras.state, keras.preprocess)
        case "tensorflow":
            from compoundnet.models.tensorflow_files import read_tensorflow

            return _Source(read_tensorflow(path, raw=raw), None)
        case _:
            return _Source(read_state(path), None)


def _without_classifier(network: Network, state: Mapping[str, Tensor], layout: Layout) -> Network:
    """The network as a trunk (`num_classes` 0) where the weights have no classifier."""
    pairs = layout.pairs(layout.adapt(network))
    headless = not any(pair.theirs in state for pair in pairs if pair.ours.startswith("classifier."))
    return network.replace(num_classes=0) if headless else network


def _readme(network: Network, path: Path, layout: str, raw: bool) -> str:
    checksum = f", sha256 {sha256_of(path)}" if path.is_file() else ""
    kind = " (trained weights, not their moving average)" if raw else ""
    return f"""# {network.name}

A model folder of compoundnet, converted by `compoundnet models convert`.

- Weights: {path.name}{checksum}, in the layout {layout}{kind}.
- Accuracy and licence: those of the file it was made of. `compoundnet evaluate` measures accuracy.
"""
