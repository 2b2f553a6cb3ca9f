"""Folders in the forms of the Hugging Face hub: timm's and transformers' weights, labels and preprocessing.

config.json                   timm: architecture, label_names, pretrained_cfg; transformers: model_type, id2label
preprocessor_config.json      transformers: size, crop, mean and deviation
model.safetensors             or pytorch_model.bin; or shards of them, listed in a file that ends in .index.json
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from compoundnet.base import CompoundNetError, limits, read_file
from compoundnet.models.labels import stated_labels
from compoundnet.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from compoundnet.models.recognition import Hint

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
# In the order of timm's and transformers' own preference.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "pytorch_model.pth",
    "model.pth",
)
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".keras", ".h5")
_CROP_MODES = {"center": "crop", "squash": "squash", "border": "pad"}
# PIL's numbers of its filters, which transformers stores.
_RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
_WHOLE = 384  # px from which ConvNeXt's processor crops nothing
_TIMM_CROP = 0.875  # timm's DEFAULT_CROP_PCT, of models whose configuration states none


class HubFolder(msgspec.Struct, frozen=True):
    """What a folder of the hub states beside its weights.

    Attributes:
        weights: The file with the weights, or the index of its shards.
        hints: The name of the architecture, where it is stated.
        labels: The class names by index; None if they are not stated, or mere numbers.
        preprocess: The preprocessing; None if it is not stated.
        multilabel: Whether an image may have several labels.
        notes: A sentence for each statement that could not be followed exactly.
    """

    weights: Path
    hints: tuple[Hint, ...] = ()
    labels: tuple[str, ...] | None = None
    preprocess: Preprocess | None = None
    multilabel: bool = False
    notes: tuple[str, ...] = ()


def read_hub_folder(folder: Path) -> HubFolder:
    """Read a folder in timm's or transformers' form, or one with a single weights file.

    Raises:
        CompoundNetError: The folder holds no weights, several files of them, or a configuration that cannot be read.
    """
    folder = _snapshot(folder)
    weights = _weights(folder)
    config = _json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    notes: list[str] = []
    if "architecture" in config or "pretrained_cfg" in config:
        return _timm(weights, config, notes)
    if "model_type" in config or "architectures" in config:
        return _transformers(folder, weights, config, notes)
    if not config:
        notes.append(f"{folder} has no {CONFIG}, so labels and preprocessing are not known from it")
    return HubFolder(weights, notes=tuple(notes))


def shards(index: Path) -> list[Path]:
    """Return the files that an index of shards lists; each must lie beside it.

    Raises:
        CompoundNetError: The index cannot be read, or names a file elsewhere or one that is missing.
    """
    listed = _json(index).get("weight_map")
    if not isinstance(listed, dict) or not listed or not all(isinstance(name, str) for name in listed.values()):
        raise CompoundNetError(f"{index} is no index of shards: it has no weight_map from tensors to files")
    names = list(dict.fromkeys(listed.values()))
    for name in names:
        if Path(name).name != name or "\\" in name:
            raise CompoundNetError(f"{index} refers to {name}, which is not beside it; it was not read")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise CompoundNetError(
            f"{index} lists {len(names)} files, of which {len(missing)} are not beside it ({missing[0]}); get them too"
        )
    return [index.parent / name for name in names]


def _snapshot(folder: Path) -> Path:
    """The newest snapshot inside a repository in the layout of the hub's cache; any other folder itself."""
    snapshots = folder / "snapshots"
    if not snapshots.is_dir():
        return folder
    reference = folder / "refs" / "main"
    commit = read_file(reference, limits.TOML_BYTES).decode(errors="replace").strip() if reference.is_file() else ""
    if re.fullmatch(r"\w+", commit) and (snapshots / commit).is_dir():
        return snapshots / commit
    found = sorted((one for one in snapshots.iterdir() if one.is_dir()), key=lambda one: one.stat().st_mtime)
    return found[-1] if found else folder


def _weights(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    if (folder / "network.toml").is_file():
        raise CompoundNetError(f"{folder} is a model folder of compoundnet already: commands take it as MODEL")
    if (folder / "saved_model.pb").is_file():
        raise CompoundNetError(
            f"{folder} is a SavedModel of TensorFlow, a graph with code; save the weights alone there:"
            " model.save_weights('model.weights.h5')"
        )
    found = sorted(one for one in folder.iterdir() if one.is_file() and one.suffix in _SUFFIXES)
    inner = sorted({str(one.parent) for name in WEIGHTS for one in folder.glob(f"*/{name}")})
    if not found and inner:  # the checkpoints of a training with transformers
        raise CompoundNetError(f"{folder} holds no weights file itself; give {' or '.join(inner[:5])}")
    if len(found) != 1:
        held = f"several: {', '.join(one.name for one in found[:5])}; give one of them" if found else "no weights file"
        raise CompoundNetError(f"{folder} holds {held} (expected {', '.join(WEIGHTS[:2])} or {WEIGHTS[2]})")
    return found[0]


def _json(path: Path) -> dict[str, Any]:
    content = read_file(path, limits.METADATA_BYTES)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CompoundNetError(f"{path} is not JSON, or it is damaged: {str(error)[:100]}") from error
    if not isinstance(found, dict):
        raise CompoundNetError(f"{path} holds no JSON object")
    return found


# timm


def _timm(weights: Path, config: dict[str, Any], notes: list[str]) -> HubFolder:
    stated = config.get("pretrained_cfg")
    stated = stated if isinstance(stated, dict) else config  # files before 2023 have one object
    architecture = config.get("architecture") or stated.get("architecture")
    hints = (Hint(str(architecture), f"architecture in {CONFIG}"),) if architecture else ()
    labels = stated_labels(config.get("label_names") or stated.get("label_names") or stated.get("labels"), notes)
    arguments = config.get("model_args")
    stored = dict(arguments) if isinstance(arguments, dict) else {}
    ignored = sorted(set(stored) - {"num_classes", "in_chans", "img_size"})
    if stored.get("global_pool") == "avg":
        ignored.remove("global_pool")
    if ignored:
        notes.append(f"{CONFIG} states arguments of the model that shapes do not show: {', '.join(ignored)}")
    return HubFolder(weights, hints, labels, timm_preprocess(stated, notes), _multilabel(config), tuple(notes))


def timm_preprocess(stated: Mapping[str, Any], notes: list[str]) -> Preprocess | None:
    """Return the preprocessing that a `pretrained_cfg` of timm, or the arguments of its training script, state.

    Where a model is evaluated at another size than that of training (`test_input_size`), it is that of evaluation, as
    timm's own validation takes it.

    Args:
        stated: The fields by name; a field that is missing or None is not stated.
        notes: Receives a sentence for each value that cannot be followed exactly.
    """
    size = _side(stated.get("test_input_size") or stated.get("input_size"), notes)
    if size is None:
        return None
    crop = stated.get("test_crop_pct") if stated.get("test_input_size") else None
    mode = stated.get("crop_mode") or "center"
    if mode not in _CROP_MODES:
        notes.append(f"crop_mode {mode} is not known here; took center")
    return _preprocess(
        size,
        crop or stated.get("crop_pct") or _TIMM_CROP,
        _CROP_MODES.get(mode, "crop"),
        stated.get("interpolation") or "bicubic",
        stated.get("mean") or IMAGENET_MEAN,
        stated.get("std") or IMAGENET_STD,
        notes,
    )


# transformers


def _transformers(folder: Path, weights: Path, config: dict[str, Any], notes: list[str]) -> HubFolder:
    if config.get("model_type") == "mobilenet_v2":
        _check_mobilenet_v2(folder, config)
    labels = stated_labels(config.get("id2label"), notes)
    path = folder / PREPROCESSOR
    if path.is_file():
        preprocess = _image_processor(_json(path), notes)
    else:
        notes.append(f"{folder} has no {PREPROCESSOR}, so the preprocessing is not known from it")
        preprocess = None
    architecture = config.get("architecture") or ", ".join(map(str, config.get("architectures") or ()))
    hints = (Hint(architecture, f"architectures in {CONFIG}"),)
    return HubFolder(weights, hints, labels, preprocess, _multilabel(config), tuple(notes))


def _check_mobilenet_v2(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise CompoundNetError if a configuration changes the network in a way that its weights do not show."""
    for name, usual in (("tf_padding", True), ("output_stride", 32)):
        if config.get(name, usual) != usual:
            raise CompoundNetError(
                f"{folder / CONFIG}: a MobileNetV2 with {name} = {json.dumps(config[name])} is not read here, only with"
                f" {json.dumps(usual)}"
            )


def _image_processor(stated: dict[str, Any], notes: list[str]) -> Preprocess | None:
    """transformers resizes first and crops then: to both sides (`height`, `width`), or to the `shortest_edge`.

    ConvNeXt's processor, which ResNet uses, states the crop as a share (`crop_pct`), which it takes below 384 px only.
    Its EfficientNet processor divides by the deviation twice (`include_top`), with the root of ImageNet's deviation.
    """
    resized, cropped = stated.get("size"), stated.get("crop_size")
    crops = bool(stated.get("do_center_crop")) and cropped is not None
    shortest = resized.get("shortest_edge") if isinstance(resized, dict) else None
    side = _side(shortest or resized, notes)
    if side is None or not stated.get("do_resize", True):
        notes.append(f"{PREPROCESSOR} states no size to which images are resized")
        return None
    size = _side(cropped, notes) if crops else side
    assert size is not None or not crops
    size = min(size or side, side)
    crop, fit = size / side, "crop" if shortest else "squash"
    if stated.get("crop_pct") and shortest:
        crop, fit = (stated["crop_pct"], "crop") if side < _WHOLE else (1.0, "squash")
    mean = stated.get("image_mean") if stated.get("do_normalize", True) else (0.0,)
    std = stated.get("image_std") if stated.get("do_normalize", True) else (1.0,)
    mean, std = _statistics(mean, IMAGENET_MEAN), _statistics(std, IMAGENET_STD)
    scale = float(stated.get("rescale_factor") or 1 / 255) if stated.get("do_rescale", True) else 1.0
    shift = 1.0 if stated.get("rescale_offset") else 0.0  # pixel * factor - 1
    mean = tuple((value + shift) / (255 * scale) for value in mean)
    std = tuple(value / (255 * scale) for value in std)
    if stated.get("include_top") and stated.get("image_processor_type", "").startswith("EfficientNet"):
        std = tuple(value * value * (255 * scale) for value in std)
    number = stated.get("resample", 3)
    return _preprocess(size, crop, fit, _RESAMPLING.get(number, str(number)), mean, std, notes)


# Both


def _multilabel(config: Mapping[str, Any]) -> bool:
    return config.get("problem_type") == "multi_label_classification"


def _preprocess(
    size: int, crop: float, fit: str, interpolation: str, mean: Any, std: Any, notes: list[str]
) -> Preprocess | None:
    if interpolation not in ("bicubic", "bilinear"):
        notes.append(f"images are resized bicubically, where the source says {interpolation}")
        interpolation = "bicubic"
    mean, std = _statistics(mean, IMAGENET_MEAN), _statistics(std, IMAGENET_STD)
    if len(mean) not in (1, 3) or len(std) not in (1, 3):
        notes.append(f"mean and std of {len(mean)} channels are not those of grey or RGB images; took ImageNet's")
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    stated = {
        "size": size, "crop": min(1.0, float(crop)), "fit": fit, "interpolation": interpolation,
        "mean": tuple(map(float, mean)), "std": tuple(map(float, std)),
    }  # fmt: skip
    try:
        return msgspec.convert(stated, Preprocess)
    except (msgspec.ValidationError, CompoundNetError) as error:
        notes.append(f"the stated preprocessing is impossible ({error}), and was not taken")
        return None


def _statistics(value: Any, default: tuple[float, ...]) -> tuple[float, ...]:
    if isinstance(value, int | float):
        return (float(value),)
    if isinstance(value, list | tuple) and value and all(isinstance(one, int | float) for one in value):
        return tuple(map(float, value))
    return default


def _side(value: Any, notes: list[str]) -> int | None:
    """The side of a size: a number, (channels, height, width), or {"height": ..., "width": ...}."""
    match value:
        case bool():
            return None
        case int():
            return value
        case [_, int(height), int(width)] | [int(height), int(width)]:
            pass
        case {"height": int(height), "width": int(width)}:
            pass
        case _:
            return None
    if height != width:
        notes.append(f"images are square here: took {height} px, where the source says {height} x {width} px")
    return height
