"""Fit, resolution and crop, chosen by the training images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from deep_images import RANGE, write_deep
from known_photos import need_lite0
from small_model import write_small_model
from small_train import small_network

from compoundnet import arch
from compoundnet.data import Dataset, Split, open_dataset
from compoundnet.data.sources import Arrays
from compoundnet.models import ModelFolder, Preprocess, open_folder, read_folder
from compoundnet.train import Recipe, find_recipe, override, plan_task, train


class Sized(msgspec.Struct, frozen=True, eq=False):
    """Grey images of given sizes; image sizes are all that is read of them here."""

    sizes: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.sizes)

    def name(self, index: int) -> str:
        return f"{index}.png"

    def read(self, index: int) -> Any:
        width, height = self.sizes[index]
        return np.zeros((height, width), np.uint8)


def sized(*sizes: tuple[int, int]) -> Dataset:
    many = sizes * (60 // len(sizes))
    return Dataset("sized", {"train": Split("train", ("a", "b"), np.arange(len(many)) % 2, Sized(many))})


def model(folder: Path, preprocess: Preprocess | None = None) -> ModelFolder:
    """A model at 224 px."""
    small = write_small_model(folder)
    return msgspec.structs.replace(small, preprocess=preprocess or Preprocess.authors(224))


def finetune(*settings: str) -> Recipe:
    return override(find_recipe("finetune"), ["minival=0", *settings])


# Fit.


@pytest.mark.parametrize(
    ("sizes", "fit"),
    [
        ([(500, 375)], "crop"),
        ([(375, 500), (600, 400), (224, 224)], "crop"),
        ([(120, 640)], "squash"),
        ([(640, 120)], "squash"),
        ([(1280, 720)], "squash"),
        ([(120, 640), (640, 120)], "pad"),
        ([(500, 375), (500, 375), (100, 900)], "pad"),
        ([(500, 375)] * 19 + [(100, 900)], "crop"),
    ],
)
def test_long_images_are_squashed_if_alike_and_padded_otherwise(
    sizes: list[tuple[int, int]], fit: str, tmp_path: Path
) -> None:
    task = plan_task(finetune(), sized(*sizes), start=model(tmp_path / "start"))
    assert (task.preprocess.fit, task.transform.fit, task.recipe.fit) == (fit, fit, fit)
    assert task.transform.padding == task.preprocess.padding
    said = [note for note in task.notes if "--set fit=crop" in note]
    if fit == "crop":
        assert not said
    else:
        assert task.preprocess.crop == 1  # nothing is lost
        assert len(said) == 1 and said[0].startswith(f"fit {fit}: ")


def test_what_is_asked_for_goes_before_the_images(tmp_path: Path) -> None:
    start = model(tmp_path / "start")
    for fit in ("crop", "pad", "squash"):
        task = plan_task(finetune(f"fit={fit}"), sized((240, 1280)), start=start)
        assert task.preprocess.fit == fit
        assert task.preprocess.crop == (0.875 if fit == "crop" else 1.0)
        assert not any("fit" in note for note in task.notes)
    assert plan_task(finetune("fit=pad", "crop=0.9"), sized((120, 640)), start=start).preprocess.crop == 0.9


def test_a_model_keeps_its_fit(tmp_path: Path) -> None:
    padded = Preprocess(224, 0.95, fit="pad")
    for sizes in ((120, 640), (300, 300)):
        task = plan_task(finetune(), sized(sizes), start=model(tmp_path / str(sizes), padded))
        assert task.preprocess == padded


def test_a_model_keeps_its_range_of_values_unless_another_is_given(tmp_path: Path) -> None:
    """Its weights know 14 bits, and these images look as if they were of 12."""
    deep = open_dataset(write_deep(tmp_path / "deep"))
    plain = write_small_model(tmp_path / "model")
    known = msgspec.structs.replace(plain, preprocess=msgspec.structs.replace(plain.preprocess, range=(0.0, 16383.0)))
    for start, settings, expected in (
        (plain, [], RANGE),
        (known, [], (0, 16383)),
        (known, ["range=[0,1000]"], (0, 1000)),
    ):
        task = plan_task(override(find_recipe("finetune"), settings), deep, start=start)
        assert task.train.reading.range == task.preprocess.range == expected
        assert any("4095" in note for note in task.notes) == (start is plain)


@pytest.mark.parametrize("fit", ["pad", "squash"])
@pytest.mark.parametrize("crop", [1.0, 0.95])
def test_a_model_that_does_not_crop_keeps_its_crop_at_another_resolution(
    fit: Literal["pad", "squash"], crop: float, tmp_path: Path
) -> None:
    start = model(tmp_path / "start", Preprocess(224, crop, fit=fit))
    for side in (128, 320):
        for recipe in (finetune(f"resolution={side}"), finetune(f"resolution={side}", "crop=none")):
            task = plan_task(recipe, sized((120, 640)), start=start)
            assert (task.preprocess.size, task.preprocess.fit, task.preprocess.crop) == (side, fit, crop)
    # Its images as centre squares: the authors' rule.
    assert plan_task(finetune("fit=crop"), sized((300, 300)), start=start).preprocess.crop == 0.875


@pytest.mark.parametrize("name", ["imagenet", "kornblith"])
def test_the_papers_recipes_crop_whatever_the_images(name: str, tmp_path: Path) -> None:
    recipe = override(find_recipe(name), ["minival=0", "select=last", "batch=8"])
    task = plan_task(recipe, sized((120, 640)), start=model(tmp_path / "start"))
    assert (task.preprocess, task.notes) == (Preprocess.authors(224), ())


def test_training_from_scratch_chooses_too() -> None:
    task = plan_task(find_recipe("quick"), sized((120, 640)), network=small_network(2))
    assert (task.preprocess.fit, task.preprocess.size, task.preprocess.crop) == ("squash", 32, 1.0)


# Resolution and crop.


@pytest.mark.parametrize(
    ("sizes", "resolution", "crop"),
    [
        ([(32, 32)], 128, 1.0),
        ([(8, 8)], 96, 1.0),
        ([(45, 60)], 192, 1.0),
        ([(56, 56)], 224, 1.0),
        ([(112, 112)], 224, 1.0),
        ([(120, 120)], 224, 0.875),
        ([(200, 200)], 224, 0.875),
        ([(224, 300)], 224, 0.875),
        ([(500, 375)], 224, 0.875),
        ([(32, 32), (500, 375), (500, 375)], 224, 0.875),
    ],
)
def test_small_images_have_a_low_resolution_and_no_margin(
    sizes: list[tuple[int, int]], resolution: int, crop: float, tmp_path: Path
) -> None:
    task = plan_task(finetune(), sized(*sizes), start=model(tmp_path / "start"))
    assert (task.preprocess.size, task.network.resolution, task.recipe.resolution) == (resolution,) * 3
    assert task.preprocess.crop == task.recipe.crop == crop
    assert any(f"resolution {resolution} px" in note for note in task.notes) == (resolution < 224)
    assert any("--set crop=" in note for note in task.notes) == (crop == 1)


def test_the_note_says_what_the_models_own_resolution_costs(tmp_path: Path) -> None:
    task = plan_task(finetune(), sized((32, 32)), start=model(tmp_path / "start"))
    (note,) = [note for note in task.notes if "resolution" in note]
    macs = [arch.cost(task.network.replace(resolution=side)).macs for side in (224, 128)]
    assert f"{macs[0] / macs[1]:.1f} times the work" in note
    assert "(32 x 32 px)" in note and "--set resolution=224" in note


def test_a_resolution_and_crop_that_are_given_stay(tmp_path: Path) -> None:
    start = model(tmp_path / "start")
    task = plan_task(finetune("resolution=64", "crop=0.9"), sized((32, 32)), start=start)
    assert (task.preprocess.size, task.preprocess.crop, task.notes) == (64, 0.9, ())
    own = plan_task(finetune("resolution=none", "crop=none"), sized((32, 32)), start=start)
    assert (own.preprocess, own.notes) == (start.preprocess, ())


def test_a_chosen_recipe_chooses_the_same_again(tmp_path: Path) -> None:
    start = model(tmp_path / "start")
    task = plan_task(finetune(), sized((32, 160)), start=start)
    again = plan_task(task.recipe, sized((500, 500)), start=start)
    assert again.preprocess == task.preprocess


# Long images that differ at one end only.


def long_noise(width: int, height: int, train: int, test: int) -> Dataset:
    """Noise whose first eighth, along the longer side, is darker in one class and lighter in the other."""

    def split(name: str, count: int, seed: int) -> Split:
        random = np.random.default_rng(seed)
        labels = np.arange(2 * count, dtype=np.int64) % 2
        pixels = random.integers(0, 256, (2 * count, height, width, 3), dtype=np.uint8)
        end = pixels[:, : height // 8] if height > width else pixels[:, :, : width // 8]
        end[:] = end // 2 + (128 * labels).astype(np.uint8)[:, None, None, None]
        return Split(name, ("dark", "light"), labels, Arrays(name, pixels))

    return Dataset("noise", {"train": split("train", train, 1), "test": split("test", test, 2)})


@pytest.mark.parametrize("shape", [pytest.param((24, 128), marks=pytest.mark.slow), (128, 24)])
def test_a_small_network_learns_from_the_end_of_a_long_image(shape: tuple[int, int], tmp_path: Path) -> None:
    top1 = {}
    for fit in ("auto", "crop"):
        recipe = override(find_recipe("quick"), [f"fit={fit}", "epochs=8", "batch=8"])
        task = plan_task(recipe, long_noise(*shape, train=32, test=40), network=small_network(2))
        result = train(task, tmp_path / fit).result
        assert result is not None
        top1[fit] = result.top1
    assert top1["auto"] >= 0.95
    assert top1["crop"] < 0.75
    assert read_folder(tmp_path / "auto").preprocess.fit == "squash"


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(120, 640), (640, 120)])
def test_lite0_learns_from_the_end_of_a_long_image(shape: tuple[int, int], tmp_path: Path) -> None:
    recipe = override(find_recipe("finetune"), ["epochs=6", "batch=16"])
    task = plan_task(recipe, long_noise(*shape, train=40, test=50), start=open_folder(need_lite0()))
    assert (task.preprocess.fit, task.preprocess.size) == ("squash", 224)
    result = train(task, tmp_path / "model").result
    assert result is not None and result.top1 >= 0.95
