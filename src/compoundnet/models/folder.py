"""Model folders: network, weights, labels, preprocessing, and a README for people.

network.toml          the network (`compoundnet.arch.Network`)
weights.safetensors   its tensors under the names of the built module, float32
labels.txt            one class per line; absent if the classes have no names
preprocess.toml       the preprocessing of an image (`Preprocess`)
postprocess.toml      how logits become probabilities (`Postprocess`); absent if softmax alone does
README.md             origin, licence, accuracy
SHA256SUMS            the weights' checksum, in the form `sha256sum --check` reads

Training adds its records: recipe.toml, log.csv, curves.png, result.json. `models tune` adds precision.toml and
int8.onnx (`compoundnet.models.tuning`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compoundnet.arch import Network
from compoundnet.base import CompoundNetError, limits, read_file, whole_folder
from compoundnet.models.labels import check_labels, read_labels
from compoundnet.models.model import ModelFolder
from compoundnet.models.postprocess import Postprocess
from compoundnet.models.preprocess import Preprocess
from compoundnet.models.tensors import COUNTER, check_tensors
from compoundnet.models.tuning import INT8_FILE, TUNING_FILE
from compoundnet.models.weights_files import check_sha256, sha256_of, tensor_shapes

if TYPE_CHECKING:
    from torch import Tensor

_NETWORK, _WEIGHTS, _LABELS = "network.toml", "weights.safetensors", "labels.txt"
PREPROCESS, POSTPROCESS = "preprocess.toml", "postprocess.toml"
_README, _CHECKSUMS = "README.md", "SHA256SUMS"
_NEEDED = (_NETWORK, _WEIGHTS, PREPROCESS)
_EXTRAS = ("recipe.toml", "log.csv", "curves.png", "result.json", TUNING_FILE, INT8_FILE)
_FILES = frozenset((*_NEEDED, _LABELS, POSTPROCESS, _README, _CHECKSUMS, *_EXTRAS))


def read_folder(folder: str | os.PathLike[str], name: str | None = None) -> ModelFolder:
    """Read and check a model folder. Does not import torch.

    Args:
        folder: The folder.
        name: The name of the model; by default that of the folder.

    Raises:
        CompoundNetError: A file is missing or cannot be read, the weights are truncated, do not match SHA256SUMS or
            belong to another network, or the number of labels is not that of the classes. The message names the file.
    """
    path = Path(folder)
    if not path.is_dir():
        raise CompoundNetError(_no_folder(path))
    missing = [file for file in _NEEDED if not (path / file).is_file()]
    if missing:
        raise CompoundNetError(
            f"{path} is not a model folder: it has no {' and no '.join(missing)}; `compoundnet models convert` makes "
            "a model folder of a weights file"
        )
    network = Network.load(path / _NETWORK)
    preprocess = Preprocess.load(path / PREPROCESS)
    postprocess = Postprocess.load(path / POSTPROCESS) if (path / POSTPROCESS).exists() else Postprocess()
    labels = read_labels(path / _LABELS, network.num_classes) if (path / _LABELS).exists() else None
    postprocess.check_classes(network.num_classes, str(path / POSTPROCESS))
    weights = path / _WEIGHTS
    if (path / _CHECKSUMS).exists():
        remedy = f"get the model again, or delete {_CHECKSUMS} if you changed the weights yourself"
        check_sha256(weights, _recorded_sha256(path / _CHECKSUMS), remedy)
    check_tensors(network, tensor_shapes(weights), str(weights))
    return ModelFolder(name or path.resolve().name, network, preprocess, labels, postprocess, weights)


def write_folder(
    folder: str | os.PathLike[str],
    network: Network,
    state: Mapping[str, Tensor],
    preprocess: Preprocess,
    *,
    labels: Sequence[str] | None = None,
    postprocess: Postprocess | None = None,
    readme: str,
    replace: bool = False,
    extras: Mapping[str, bytes] | None = None,
) -> ModelFolder:
    """Write a model folder, whole or not at all, and return the model as `read_folder` does.

    Args:
        folder: The folder to write.
        network: The network.
        state: The built network's `state_dict()`, on any device.
        preprocess: The preprocessing of an image.
        labels: The class names by index; None if the classes have no names.
        postprocess: How logits become probabilities; softmax alone by default.
        readme: The text of README.md.
        replace: Whether to replace an existing model folder. A folder with other content is never replaced.
        extras: More files by name: recipe.toml, log.csv, curves.png, result.json.

    Raises:
        CompoundNetError: The state does not fit the network, the number of labels or thresholds is not that of the
            classes, or the folder exists.
    """
    target = Path(folder)
    check_tensors(network, {name: tuple(tensor.shape) for name, tensor in state.items()}, "the weights to write")
    if labels is not None:
        check_labels(tuple(labels), network.num_classes, "the labels to write")
    postprocess = postprocess or Postprocess()
    postprocess.check_classes(network.num_classes, "the thresholds to write")
    check_target(target, replace)
    with whole_folder(target) as whole:
        _write_files(whole, network, state, preprocess, labels, readme)
        if postprocess != Postprocess():
            postprocess.save(whole / POSTPROCESS)
        for name, content in (extras or {}).items():
            (whole / name).write_bytes(content)
    names = None if labels is None else tuple(labels)
    return ModelFolder(target.resolve().name, network, preprocess, names, postprocess, target / _WEIGHTS)


def check_target(target: Path, replace: bool) -> None:
    """Raise a CompoundNetError if a model folder cannot be written to `target`, before any work is done."""
    if not target.exists():
        return
    found = {entry.name for entry in target.iterdir()} if target.is_dir() else set()
    if not target.is_dir() or (found and not found.issuperset(_NEEDED)):
        raise CompoundNetError(f"{target} exists and is not a model folder; give another place")
    if found and not replace:
        raise CompoundNetError(f"{target} exists already; give another place, or --force to replace it")
    others = sorted(found - _FILES)
    if others:
        raise CompoundNetError(f"{target} holds more than a model ({', '.join(others[:3])}); it is not replaced")


def _write_files(
    folder: Path,
    network: Network,
    state: Mapping[str, Tensor],
    preprocess: Preprocess,
    labels: Sequence[str] | None,
    readme: str,
) -> None:
    import torch  # noqa: PLC0415  folders are read without it
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415  imports torch

    tensors = {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in state.items()
        if not name.endswith(COUNTER)
    }
    weights = folder / _WEIGHTS
    network.save(folder / _NETWORK)
    preprocess.save(folder / PREPROCESS)
    try:
        save_file(tensors, weights, metadata={"format": "pt"})
    except SafetensorError as error:  # the error that it raises for a full disk
        raise OSError(str(error)) from error
    weights.chmod((folder / _NETWORK).stat().st_mode)  # safetensors creates files readable only by the user
    texts = {_README: readme, _CHECKSUMS: f"{sha256_of(weights)}  {_WEIGHTS}\n"}
    if labels is not None:
        texts[_LABELS] = "".join(f"{label}\n" for label in labels)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def _recorded_sha256(path: Path) -> str:
    text = read_file(path, limits.TOML_BYTES).decode(errors="replace")
    found = re.search(rf"^([0-9a-fA-F]{{64}}) [ *]{re.escape(_WEIGHTS)}$", text, re.MULTILINE)
    if found is None:
        raise CompoundNetError(f"{path}: has no line with the sha256 of {_WEIGHTS}")
    return found[1]


def _no_folder(path: Path) -> str:
    if path.exists():
        return (
            f"{path} is a file, not a model folder; `compoundnet models convert` makes a model folder of a weights file"
        )
    return f"there is no folder {path}"
