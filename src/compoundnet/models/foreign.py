"""Another library's model, read: weights files, folders of the Hugging Face hub, Keras and TensorFlow files."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from compoundnet.arch import Network
from compoundnet.arch.spec import MIN_RESOLUTION
from compoundnet.base import CompoundNetError, check_file, limits, shortened
from compoundnet.models import layouts
from compoundnet.models.checkpoints import check_values, read_checkpoint
from compoundnet.models.hub import download, is_hub_name, parse_hub_name
from compoundnet.models.hub_folders import HubFolder, read_hub_folder, timm_preprocess
from compoundnet.models.keras_files import read_keras
from compoundnet.models.labels import label_set
from compoundnet.models.matches import CLASSIFIER
from compoundnet.models.postprocess import Postprocess
from compoundnet.models.preprocess import Preprocess, default_preprocess
from compoundnet.models.recognition import Hint, recognise
from compoundnet.models.tensorflow_files import read_tensorflow
from compoundnet.models.tensors import COUNTER
from compoundnet.models.zip_files import ZIP_ERRORS

_IMAGENET_CLASSES = 1000


class ForeignModel(msgspec.Struct, frozen=True):
    """Weights of another library, with what was recognised.

    Attributes:
        source: The file or folder.
        layout: The name of their layout.
        network: The network.
        state: The state of `build(network)`.
        preprocess: The preprocessing that comes with them; None if they state none.
        postprocess: Softmax, or a sigmoid where an image has several labels.
        labels: The class names that come with them; None if they have none.
        averaged: Whether they are a moving average of the trained weights.
        prefix: What was removed from before each name of a tensor.
        left_out: The tensors that are no part of the network.
        notes: A sentence for each choice that was made.
    """

    source: Path
    layout: str
    network: Network
    state: dict[str, Tensor]
    preprocess: Preprocess | None = None
    postprocess: Postprocess = Postprocess()
    labels: tuple[str, ...] | None = None
    averaged: bool = False
    prefix: str = ""
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_foreign(
    source: str | os.PathLike[str],
    *,
    layout: str | None = None,
    network: Network | None = None,
    raw: bool = False,
    name: str | None = None,
) -> ForeignModel:
    """Read another library's model, and tell its layout and network where they are not given.

    Args:
        source: As for `convert`.
        layout: The library of the weights, a name of `LAYOUTS`.
        network: The network of the weights.
        raw: Whether to take the trained weights where the source holds their moving average too.
        name: The name of the model, which may tell what shapes cannot; by default that of the file.

    Raises:
        CompoundNetError: The source cannot be read safely, or holds no network known here.
    """
    notes: list[str] = []
    if is_hub_name(source):
        repository = parse_hub_name(str(source))
        source, name = download(repository, notes.append), name or repository.name
    found = _read(Path(source), layout, network, raw, name)
    return msgspec.structs.replace(found, notes=(*notes, *found.notes))


def _read(path: Path, layout: str | None, network: Network | None, raw: bool, name: str | None) -> ForeignModel:
    kind = layouts.layout(layout).name if layout is not None else _kind(path)
    match kind:
        case "keras":
            return _keras(path, network, raw)
        case "tensorflow":
            return _tensorflow(path, network, raw)
        case _:
            return _torch(path, layout, network, raw, name or path.resolve().name)


def _torch(path: Path, layout: str | None, network: Network | None, raw: bool, name: str) -> ForeignModel:
    """Weights for torch: a file, or a folder of the hub with what it states beside them."""
    stated = read_hub_folder(path) if path.is_dir() else HubFolder(path)
    checkpoint = read_checkpoint(stated.weights, raw=raw)
    hints = [*stated.hints, *_names_in(checkpoint.settings), Hint(name, "its name")]
    recognised = recognise(
        _shapes(checkpoint.state), str(path), layout=layout, network=network, hints=hints,
        outside=_shapes(checkpoint.others),
    )  # fmt: skip
    every = {**checkpoint.others, **checkpoint.state}
    dropped = {*recognised.left_out, *recognised.renamed}
    dropped |= {name.removesuffix(".weight") + COUNTER for name in recognised.left_out}
    state = {name: tensor for name, tensor in checkpoint.state.items() if name not in dropped}
    state |= {theirs: every[name] for name, theirs in recognised.renamed.items()}
    beside = tuple(name for name in checkpoint.others if name not in recognised.renamed)
    notes = [*checkpoint.notes, *recognised.notes, *stated.notes]
    if beside:
        where = checkpoint.prefix or "its names"
        notes.append(f"left out what is beside the tensors below {where}: {shortened(beside, 5)}")
    check_values(state, str(path))
    converted, ours = layouts.from_layout(state, recognised.network, layouts.layout(recognised.layout), str(path))
    postprocess = Postprocess(function="sigmoid") if stated.multilabel and converted.num_classes > 1 else Postprocess()
    converted, ours = _with_two_classes(converted, ours, notes)
    preprocess = stated.preprocess or _stated_preprocess(checkpoint.settings, default_preprocess(converted), notes)
    labels = stated.labels or checkpoint.labels
    if labels is not None and len(labels) != converted.num_classes:
        notes.append(f"it states {len(labels)} labels for {converted.num_classes} classes; none were taken")
        labels = None
    if preprocess is not None:
        converted = converted.replace(resolution=max(MIN_RESOLUTION, preprocess.size))
    return ForeignModel(
        path, recognised.layout, converted, ours, preprocess, postprocess, labels, checkpoint.averaged,
        checkpoint.prefix, (*recognised.left_out, *beside), tuple(notes),
    )  # fmt: skip


def _names_in(settings: Mapping[str, Any]) -> list[Hint]:
    """The names of models among the settings of a training program."""
    return [Hint(value, f"{name} in the checkpoint") for name, value in settings.items() if isinstance(value, str)]


def _stated_preprocess(settings: Mapping[str, Any], usual: Preprocess, notes: list[str]) -> Preprocess | None:
    """The preprocessing in the arguments of timm's training script (`img_size`, `crop_pct`), or of torchvision's
    (`val_crop_size`, `val_resize_size`).

    timm takes the size, crop, mean and deviation that no argument states from the configuration of the model: they are
    those of the `usual` preprocessing of the network.
    """
    follows = any(settings.get(name) for name in ("crop_pct", "mean", "std", "interpolation"))
    settings = {"crop_pct": usual.crop, "mean": usual.mean, "std": usual.std} | {
        name: value for name, value in settings.items() if value
    }
    crop, resize = settings.get("val_crop_size"), settings.get("val_resize_size")
    if isinstance(crop, int) and isinstance(resize, int) and 0 < crop <= resize:
        found = timm_preprocess({**settings, "input_size": crop, "crop_pct": crop / resize}, notes)
    else:
        size = settings.get("img_size") or settings.get("input_size") or (usual.size if follows else None)
        found = timm_preprocess({**settings, "input_size": size}, notes)
    if found is not None:
        notes.append("the preprocessing is that of the arguments in the checkpoint")
    return found


def _keras(path: Path, network: Network | None, raw: bool) -> ForeignModel:
    if raw:
        raise CompoundNetError(f"{path}: Keras files hold no raw weights beside averaged ones; leave out raw")
    weights = read_keras(path, network)
    found = _translated(path, weights.state, "keras", network)
    converted = found.network
    if weights.pool != converted.head.pool:
        converted = converted.replace(head=msgspec.structs.replace(converted.head, pool=weights.pool))
    preprocess = weights.preprocess
    if not weights.sized and network is None:
        preprocess = msgspec.structs.replace(
            Preprocess.authors(converted.resolution), mean=preprocess.mean, std=preprocess.std
        )
    return msgspec.structs.replace(
        found,
        network=converted.replace(resolution=max(MIN_RESOLUTION, preprocess.size)),
        preprocess=preprocess,
        postprocess=Postprocess(function="sigmoid") if weights.multilabel else Postprocess(),
        left_out=(*found.left_out, *weights.left_out),
        notes=(*weights.notes, *found.notes),
    )


def _tensorflow(path: Path, network: Network | None, raw: bool) -> ForeignModel:
    state, averaged = read_tensorflow(path, raw=raw)
    found = _translated(path, state, "tensorflow", network)
    note = "took the trained weights, not their moving average" if raw else "took the moving averages of the weights"
    note = note if averaged or raw else "took the trained weights: it holds no moving averages"
    return msgspec.structs.replace(found, averaged=averaged, notes=(note, *found.notes))


def _translated(path: Path, state: dict[str, Tensor], layout: str, network: Network | None) -> ForeignModel:
    recognised = recognise(_shapes(state), str(path), layout=layout, network=network)
    check_values(state, str(path))
    kept = {name: tensor for name, tensor in state.items() if name not in recognised.left_out}
    converted, ours = layouts.from_layout(kept, recognised.network, layouts.layout(layout), str(path))
    notes = list(recognised.notes)
    converted, ours = _with_two_classes(converted, ours, notes)
    return ForeignModel(path, layout, converted, ours, left_out=recognised.left_out, notes=tuple(notes))


def _with_two_classes(
    network: Network, state: dict[str, Tensor], notes: list[str]
) -> tuple[Network, dict[str, Tensor]]:
    """Make two classes of one output: sigmoid(z) is softmax((0, z))[1]. A softmax over one class is always 1."""
    if network.num_classes != 1:
        return network, state
    notes.append("its one output became two classes, 0 and 1; the sigmoid of the output is the probability of 1")
    both = {
        name: torch.cat([torch.zeros_like(state[name]), state[name]]) for name in state if name.startswith(CLASSIFIER)
    }
    return network.replace(num_classes=2), {**state, **both}


def _kind(path: Path) -> str:
    """Whether it is a file of Keras, a checkpoint of TensorFlow, or weights for torch."""
    if path.with_name(f"{path.name}.index").is_file() or (path / "checkpoint").is_file() or path.suffix == ".index":
        return "tensorflow"
    if path.exists() and not path.is_dir():
        check_file(path, limits.WEIGHTS_BYTES)
    try:
        with path.open("rb") as file:
            start = file.read(4)
            if start == b"\x89HDF":
                return "keras"
            if start == b"PK\x03\x04":
                with zipfile.ZipFile(file) as archive:
                    return "keras" if "model.weights.h5" in archive.namelist() else "torch"
    except (*ZIP_ERRORS, ValueError):
        pass  # the reader says what is wrong
    return "torch"


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def default_labels(network: Network) -> tuple[str, ...] | None:
    """Return ImageNet's labels if the network has as many classes, otherwise None."""
    return label_set("imagenet-1k") if network.num_classes == _IMAGENET_CLASSES else None
