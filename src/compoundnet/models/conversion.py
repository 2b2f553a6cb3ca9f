"""Another library's weights file as a model folder, and a model as another library's weights file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from compoundnet.arch import Network
from compoundnet.base import CompoundNetError, check_folder_of
from compoundnet.models import layouts
from compoundnet.models.folder import check_target, write_folder
from compoundnet.models.keras_files import read_keras, write_keras
from compoundnet.models.labels import label_set, read_labels
from compoundnet.models.lookup import open_folder
from compoundnet.models.model import Model, ModelFolder
from compoundnet.models.preprocess import Preprocess
from compoundnet.models.tensorflow_files import read_tensorflow, write_tensorflow
from compoundnet.models.weights_files import read_safetensors, read_state, sha256_of, write_state

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
    """Make a model folder of another library's weights. The file determines the classes (0: a trunk) and input
    channels.

    Args:
        source: A torch or safetensors file; `.h5` or `.keras` of Keras; the prefix of a TensorFlow checkpoint.
        folder: The model folder to write.
        layout: The library of the weights, a name of `LAYOUTS`.
        network: The network of the weights; its padding and batch norm become those of the layout.
        labels: A file with one class per line; by default ImageNet's names if there are 1000 classes.
        preprocess: By default the preprocessing stated in the file (Keras), otherwise `default_preprocess`.
        raw: Whether to take the trained weights of a TensorFlow checkpoint instead of their moving average.
        replace: Whether to write over an older model folder.

    Returns:
        The new model.

    Raises:
        CompoundNetError: The file cannot be read or does not hold this network, or the folder exists.
    """
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


def convert_to(
    model: str | os.PathLike[str] | Model, file: str | os.PathLike[str], *, layout: str, replace: bool = False
) -> Path:
    """Write the weights of a model in the form that another library loads; the counterpart of `convert`.

    Args:
        model: A name of `compoundnet models list`, a model folder, or an opened one.
        file: The file to write: `.safetensors`, or `.pth` for torch.load; `.h5` for the layout keras; for tensorflow
            the prefix of a checkpoint. Only `.pth` keeps the version number that torchvision's MNASNet requires.
        layout: The library that will load it, a name of `LAYOUTS`.
        replace: Whether to write over an older file.

    Returns:
        The file.

    Raises:
        CompoundNetError: The library has no such network, its model would compute something else (padding, batch norm),
            the suffix is wrong, or the file exists.
    """
    chosen, opened, target = layouts.layout(layout), open_folder(model), Path(file)
    check_folder_of(target)
    written = target.with_name(f"{target.name}.index") if layout == "tensorflow" else target
    if written.exists() and not replace:
        raise CompoundNetError(f"{written} exists already; give another place, or --force to replace it")
    state = read_safetensors(opened.weights)
    match layout:
        case "keras":
            write_keras(target, opened.network, state, opened.preprocess)
        case "tensorflow":
            write_tensorflow(target, opened.network, state)
        case _:
            write_state(target, layouts.to_layout(state, opened.network, chosen))
    return target


class _WeightsFile(NamedTuple):
    state: dict[str, Tensor]
    preprocess: Preprocess | None


def default_preprocess(network: Network) -> Preprocess:
    """Return the authors' preprocessing at the network's resolution: that of EfficientNet-Lite, or of EfficientNet."""
    base = network.name if network.scaling is None else network.scaling.base
    make = Preprocess.authors_lite if base.startswith("efficientnet-lite") else Preprocess.authors
    return make(network.resolution)


def default_labels(network: Network) -> tuple[str, ...] | None:
    """Return ImageNet's labels if the network has as many classes, otherwise None."""
    return label_set("imagenet-1k") if network.num_classes == _IMAGENET_CLASSES else None


def _read(path: Path, layout: str, network: Network, raw: bool) -> _WeightsFile:
    """Read the weights of the file in their layout. Only Keras files record the preprocessing."""
    if raw and layout != "tensorflow":
        raise CompoundNetError(
            f"only TensorFlow checkpoints hold raw weights beside averaged ones, not layout {layout}"
        )
    match layout:
        case "keras":
            keras = read_keras(path, network)
            return _WeightsFile(keras.state, keras.preprocess)
        case "tensorflow":
            return _WeightsFile(read_tensorflow(path, raw=raw), None)
        case _:
            return _WeightsFile(read_state(path), None)


def _without_classifier(network: Network, state: Mapping[str, Tensor], layout: Layout) -> Network:
    """The network as a trunk (`num_classes` 0) if the weights have no classifier."""
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
