"""Folders of the hub: weights in one file or in shards, with the labels and preprocessing of timm and transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import save_file
from small_models import small_network
from torch import Tensor

import compoundnet
from compoundnet.base import CompoundNetError
from compoundnet.models import Preprocess, read_foreign
from compoundnet.models.hub_folders import read_hub_folder, shards
from compoundnet.models.layouts import layout, to_layout
from compoundnet.models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from compoundnet.nn import build

NETWORK = small_network()
# A gradient, which does not tell resizes apart that begin at another fraction of a pixel.
ROWS, COLUMNS = np.mgrid[:90, :120]
IMAGE = PIL.Image.fromarray(np.stack([ROWS, COLUMNS, ROWS + COLUMNS], axis=2).astype(np.uint8))


def state_of(name: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(to_layout(build(NETWORK).state_dict(), NETWORK, layout(name)))


def folder_of(
    folder: Path, config: dict[str, Any], processor: dict[str, Any] | None = None, name: str = "timm"
) -> Path:
    folder.mkdir(parents=True)
    save_file(state_of(name), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def timm_config(**stated: Any) -> dict[str, Any]:
    fields = {"input_size": [3, 64, 64], "crop_pct": 0.9, "mean": [0.5] * 3, "std": [0.25] * 3, **stated}
    return {"architecture": "tf_efficientnet_b0", "label_names": ["a", "b", "c"], "pretrained_cfg": fields}


# timm


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({}, Preprocess(64, 0.9, mean=(0.5,) * 3, std=(0.25,) * 3)),
        (
            {"interpolation": "bilinear"},
            Preprocess(64, 0.9, interpolation="bilinear", mean=(0.5,) * 3, std=(0.25,) * 3),
        ),
        ({"crop_mode": "squash"}, Preprocess(64, 0.9, fit="squash", mean=(0.5,) * 3, std=(0.25,) * 3)),
        ({"crop_mode": "border"}, Preprocess(64, 0.9, fit="pad", mean=(0.5,) * 3, std=(0.25,) * 3)),
        ({"test_input_size": [3, 96, 96], "test_crop_pct": 1.0}, Preprocess(96, 1.0, mean=(0.5,) * 3, std=(0.25,) * 3)),
        ({"crop_pct": None, "mean": None, "std": None}, Preprocess(64, 0.875)),
        ({"mean": [0.5], "std": [0.5]}, Preprocess(64, 0.9, mean=(0.5,), std=(0.5,))),
    ],
)
def test_labels_and_preprocessing_of_timm_come_along(
    stated: dict[str, Any], expected: Preprocess, tmp_path: Path
) -> None:
    found = read_foreign(folder_of(tmp_path / "m", timm_config(**stated)), network=NETWORK)
    assert (found.layout, found.labels, found.preprocess) == ("timm", ("a", "b", "c"), expected)
    assert found.network.resolution == expected.size
    assert found.notes == ("took timm's tf_efficientnet_b0 (layout timm), as architecture in config.json says",)


def test_the_preprocessing_is_timms_own(tmp_path: Path) -> None:
    """timm resizes first and crops then, which moves values by what its resize rounds; ours crops first."""
    timm = pytest.importorskip("timm", reason="timm is not installed (extra: peers)")
    for mode in ("center", "squash", "border"):
        stated = timm_config(crop_mode=mode, crop_pct=1.0, interpolation="bicubic")["pretrained_cfg"]
        theirs = timm.data.create_transform(**timm.data.resolve_data_config({}, pretrained_cfg=stated))(IMAGE)
        ours = read_hub_folder(folder_of(tmp_path / mode, timm_config(**stated))).preprocess
        assert ours is not None
        assert (ours(IMAGE) - theirs).abs().mean() < 0.05


@pytest.mark.parametrize(
    ("stated", "note"),
    [
        ({"interpolation": "lanczos"}, "images are resized bicubically, where the source says lanczos"),
        ({"input_size": [3, 64, 96]}, "images are square here: took 64 px, where the source says 64 x 96 px"),
        ({"crop_mode": "mosaic"}, "crop_mode mosaic is not known here; took center"),
        ({"mean": [0.5] * 4, "std": [1] * 4}, "mean and std of 4 channels are not those of grey or RGB images"),
        ({"std": [0, 0, 0]}, "the stated preprocessing is impossible"),
    ],
)
def test_what_cannot_be_followed_is_said(stated: dict[str, Any], note: str, tmp_path: Path) -> None:
    found = read_hub_folder(folder_of(tmp_path / "m", timm_config(**stated)))
    assert any(one.startswith(note) for one in found.notes)


def test_several_labels_are_told_from_transformers_form_of_timms(tmp_path: Path) -> None:
    stated = {**timm_config(), "problem_type": "multi_label_classification"}
    assert read_foreign(folder_of(tmp_path / "m", stated), network=NETWORK).postprocess.multilabel


def test_arguments_of_the_model_that_shapes_do_not_show_are_said(tmp_path: Path) -> None:
    config = {**timm_config(), "model_args": {"num_classes": 3, "act_layer": "relu"}}
    assert read_hub_folder(folder_of(tmp_path / "m", config)).notes == (
        "config.json states arguments of the model that shapes do not show: act_layer",
    )


def test_the_form_of_2022_is_read(tmp_path: Path) -> None:
    old = {"architecture": "tf_efficientnet_b0", "input_size": [3, 64, 64], "labels": ["a", "b", "c"], "crop_pct": 0.9}
    found = read_hub_folder(folder_of(tmp_path / "m", old))
    assert found.labels == ("a", "b", "c")
    assert found.preprocess is not None and found.preprocess.crop == 0.9


@pytest.mark.parametrize("labels", [["a", "b"], {"0": "a", "2": "c"}, [], "abc"])
def test_labels_that_are_not_those_of_the_classes_are_not_taken(labels: Any, tmp_path: Path) -> None:
    found = read_foreign(folder_of(tmp_path / "m", {**timm_config(), "label_names": labels}), network=NETWORK)
    assert found.labels is None


# transformers

EFFICIENTNET = {
    "do_center_crop": False, "do_normalize": True, "do_rescale": True, "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406], "image_std": [0.47853944, 0.4732864, 0.47434163],
    "image_processor_type": "EfficientNetImageProcessor", "include_top": True, "resample": 3,
    "rescale_factor": 1 / 255, "rescale_offset": False, "size": {"height": 64, "width": 64},
}  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"include_top": False},
        {"rescale_factor": 1 / 127.5, "rescale_offset": True, "include_top": False},
        {"do_normalize": False, "include_top": False},
        {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 2},
    ],
)
def test_the_preprocessing_of_transformers_gives_its_pixels(changed: dict[str, Any], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra: peers)")
    stated = {**EFFICIENTNET, **changed}
    config = {"model_type": "efficientnet", "architectures": ["EfficientNetForImageClassification"]}
    found = read_hub_folder(folder_of(tmp_path / "m", config, stated, "transformers"))
    assert found.preprocess is not None and found.preprocess.fit == "squash"
    flat = PIL.Image.new("RGB", (80, 60), (200, 100, 50))  # no resize changes it
    theirs = transformers.EfficientNetImageProcessor(**stated)(flat, return_tensors="pt")["pixel_values"][0]
    np.testing.assert_allclose(found.preprocess(flat), theirs, atol=1e-4)


def test_a_centre_crop_after_a_resize_of_the_shorter_side_is_a_crop(tmp_path: Path) -> None:
    processor = {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": True}
    found = read_hub_folder(folder_of(tmp_path / "m", {"model_type": "efficientnet"}, processor, "transformers"))
    assert found.preprocess == Preprocess(224, 224 / 256)


@pytest.mark.parametrize(("name", "value"), [("tf_padding", False), ("output_stride", 8)])
def test_a_mobilenet_v2_that_weights_do_not_show_is_refused(name: str, value: object, tmp_path: Path) -> None:
    usual = {"model_type": "mobilenet_v2", "tf_padding": True, "output_stride": 32}
    read_hub_folder(folder_of(tmp_path / "usual", usual, EFFICIENTNET, "transformers"))
    other = folder_of(tmp_path / "other", {**usual, name: value}, EFFICIENTNET, "transformers")
    with pytest.raises(CompoundNetError, match=rf"config.json: a MobileNetV2 with {name} = (false|8) is not read here"):
        read_hub_folder(other)


@pytest.mark.parametrize("side", [224, 384])
def test_the_share_that_resnets_processor_crops_is_followed(side: int, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra: peers)")
    stated = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": side}, "crop_pct": 0.875}
    found = read_hub_folder(folder_of(tmp_path / "m", {"model_type": "resnet"}, stated, "transformers")).preprocess
    assert found == Preprocess(side, 0.875 if side == 224 else 1.0, fit="crop" if side == 224 else "squash")
    ramp = np.linspace(0, 255, 500).round().astype(np.uint8)  # what is seen of the width shows in its ends
    image = PIL.Image.fromarray(np.repeat(np.tile(ramp, (400, 1))[..., None], 3, axis=2))
    theirs = transformers.ConvNextImageProcessor(**stated, image_mean=0.0, image_std=1.0)(image)["pixel_values"][0]
    ours = msgspec.structs.replace(found, mean=(0.0,) * 3, std=(1.0,) * 3)(image)
    np.testing.assert_allclose(ours, np.asarray(theirs), atol=0.02)


def test_the_checkpoints_of_a_training_are_named(tmp_path: Path) -> None:
    folder_of(tmp_path / "run" / "checkpoint-50", {"model_type": "efficientnet"}, EFFICIENTNET, "transformers")
    with pytest.raises(CompoundNetError, match=r"no weights file itself; give .*run/checkpoint-50$"):
        read_foreign(tmp_path / "run")


def test_labels_of_transformers_come_along(tmp_path: Path) -> None:
    config = {"model_type": "efficientnet", "id2label": {"1": "dog", "0": "cat", "2": "tiger\ncat"}}
    found = read_foreign(folder_of(tmp_path / "m", config, EFFICIENTNET, "transformers"), network=NETWORK)
    assert (found.layout, found.labels) == ("transformers", ("cat", "dog", "tiger cat"))


@pytest.mark.parametrize(
    ("problem", "function"), [("multi_label_classification", "sigmoid"), ("single_label_classification", "softmax")]
)
def test_several_labels_an_image_are_told_from_the_problem_type(problem: str, function: str, tmp_path: Path) -> None:
    config = {"model_type": "efficientnet", "problem_type": problem}
    found = read_foreign(folder_of(tmp_path / "m", config, EFFICIENTNET, "transformers"), network=NETWORK)
    assert found.postprocess.function == function


def test_labels_that_are_numbers_are_none(tmp_path: Path) -> None:
    config = {"model_type": "efficientnet", "id2label": {str(index): f"LABEL_{index}" for index in range(3)}}
    found = read_foreign(folder_of(tmp_path / "m", config, EFFICIENTNET, "transformers"), network=NETWORK)
    assert found.labels is None
    assert "LABEL_0, LABEL_1 and so on, which name nothing" in " ".join(found.notes)


# Files


def test_shards_are_put_together(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", timm_config())
    whole = state_of("timm")
    names = list(whole)
    files = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, inside in files.items():
        save_file({name: whole[name] for name in inside}, folder / file)
    listed = {name: file for file, inside in files.items() for name in inside}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    (folder / "model.safetensors").unlink()
    for source in (folder, folder / "model.safetensors.index.json", folder / "model-00002-of-00002.safetensors"):
        found = read_foreign(source, network=NETWORK, layout="timm")
        assert found.network.num_classes == 3
    (folder / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(CompoundNetError, match=r"lists 2 files, of which 1 are not beside it \(model-00001"):
        read_foreign(folder, network=NETWORK)


def test_a_shard_without_its_index_says_what_is_missing(tmp_path: Path) -> None:
    save_file(state_of("timm"), tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(CompoundNetError, match=r"one of several shards; model\.safetensors\.index\.json"):
        read_foreign(tmp_path / "model-00001-of-00002.safetensors")


@pytest.mark.parametrize("elsewhere", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", "..\\x"])
def test_an_index_leads_to_no_file_elsewhere(elsewhere: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": elsewhere}}))
    with pytest.raises(CompoundNetError, match="which is not beside it; it was not read"):
        shards(tmp_path / "model.safetensors.index.json")


def test_a_repository_in_the_cache_of_the_hub_is_read(tmp_path: Path) -> None:
    cached = tmp_path / "models--x--y"
    folder_of(cached / "snapshots" / "abc", timm_config())
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    assert read_foreign(cached, network=NETWORK).labels == ("a", "b", "c")


def test_a_folder_with_one_weights_file_is_read_and_says_what_it_lacks(tmp_path: Path) -> None:
    torch.save(state_of("timm"), tmp_path / "best.pth")
    found = read_foreign(tmp_path, network=NETWORK)
    assert "has no config.json" in found.notes[-1]


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ([], "holds no weights file"),
        (["a.pth", "b.ckpt"], r"holds several: a\.pth, b\.ckpt; give one of them"),
        (["saved_model.pb"], "SavedModel of TensorFlow, a graph with code"),
        (["network.toml"], "is a model folder of compoundnet already"),
    ],
)
def test_other_folders_say_what_they_are(files: list[str], problem: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(CompoundNetError, match=problem):
        read_foreign(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", "\ufeff", "[" * 100_000])
def test_a_damaged_configuration_is_named(text: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", {})
    (folder / "config.json").write_text(text)
    with pytest.raises(CompoundNetError, match=r"config\.json"):
        read_foreign(folder)


@pytest.mark.parametrize(
    ("name", "mean", "crop"),
    [("efficientnet-lite0", 0.5, 0.875), ("efficientnet-edgetpu-s", 0.5, 0.875), ("efficientnetv2-s", 0.5, 1.0),
     ("efficientnet-b4", None, 0.922)],
)  # fmt: skip
def test_arguments_that_state_only_a_size_leave_the_rest_to_the_network(
    name: str, mean: float | None, crop: float, tmp_path: Path
) -> None:
    """As timm does, whose training script stores the arguments that were not given as None or ''."""
    import argparse

    spec = compoundnet.network(name).replace(num_classes=3)
    state = dict(to_layout(build(spec).state_dict(), spec, layout("timm")))
    args = argparse.Namespace(img_size=192, mean=None, std=None, crop_pct=None, interpolation="")
    torch.save({"state_dict": state, "args": args}, tmp_path / "model.pth")
    found = read_foreign(tmp_path / "model.pth", network=spec, layout="timm").preprocess
    assert found is not None
    assert (found.size, found.fit, found.interpolation) == (192, "crop", "bicubic")
    assert found.crop == pytest.approx(crop, abs=0.001)
    expected = (IMAGENET_MEAN, IMAGENET_STD) if mean is None else ((mean,) * 3, (mean,) * 3)
    assert np.allclose((found.mean, found.std), expected, atol=0.003)


def test_the_arguments_of_training_scripts_are_followed(tmp_path: Path) -> None:
    import argparse

    timm_args = argparse.Namespace(img_size=64, crop_pct=0.9, mean=None, std=[0.25] * 3, interpolation="bilinear")
    torch.save({"state_dict": state_of("timm"), "args": timm_args}, tmp_path / "timm.pth")
    found = read_foreign(tmp_path / "timm.pth", network=NETWORK, layout="timm")
    assert found.preprocess == Preprocess(64, 0.9, interpolation="bilinear", std=(0.25,) * 3)
    sizeless = argparse.Namespace(img_size=None, input_size=None, mean=[0.5] * 3, std=[0.5] * 3, interpolation="")
    torch.save({"state_dict": state_of("timm"), "args": sizeless}, tmp_path / "sizeless.pth")
    found = read_foreign(tmp_path / "sizeless.pth", network=NETWORK, layout="timm")
    assert found.preprocess is not None and (found.preprocess.mean, found.preprocess.std) == ((0.5,) * 3, (0.5,) * 3)
    assert found.preprocess.size == NETWORK.resolution
    reference = argparse.Namespace(model="efficientnet_b0", val_crop_size=224, val_resize_size=256)
    torch.save({"model": state_of("timm"), "args": reference}, tmp_path / "torchvision.pth")
    found = read_foreign(tmp_path / "torchvision.pth", network=NETWORK)
    assert found.preprocess == Preprocess(224, 224 / 256)
    assert (found.layout, found.notes[-1]) == (
        "timm-native",
        "the preprocessing is that of the arguments in the checkpoint",
    )
