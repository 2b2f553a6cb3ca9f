"""Preprocessing as data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compoundnet.base import CompoundNetError
from compoundnet.models import Preprocess


@pytest.mark.parametrize(
    "preprocess", [Preprocess.authors(380), Preprocess.authors_lite(260), Preprocess(64, 1, mean=(0.5,), std=(0.2,))]
)
def test_toml_gives_the_same_value_back(preprocess: Preprocess, tmp_path: Path) -> None:
    preprocess.save(tmp_path / "preprocess.toml")
    assert Preprocess.load(tmp_path / "preprocess.toml") == preprocess


@pytest.mark.parametrize(("size", "crop"), [(224, 0.875), (240, 0.882), (300, 0.904), (380, 0.922), (600, 0.949)])
def test_the_authors_crop_leaves_32_pixels(size: int, crop: float) -> None:
    assert Preprocess.authors(size).crop == pytest.approx(crop, abs=5e-4)


def test_lite_maps_127_to_0_and_255_to_1() -> None:
    lite = Preprocess.authors_lite(224)
    assert (127 / 255 - lite.mean[0]) / lite.std[0] == 0
    assert (255 / 255 - lite.mean[0]) / lite.std[0] == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("size = 0\ncrop = 0.9", "size"),
        ("size = 224\ncrop = 1.5", "crop"),
        ("size = 224\ncrop = nan", "crop"),
        ("size = 224\ncrop = 0.9\nstd = [0.0, 1.0, 1.0]", "std"),
        ("size = 224\ncrop = 0.9\nmean = [0.5, 0.5]", "mean"),
        ("size = 224\ncrop = 0.9\nmean = [inf]", "mean"),
        ("size = 224\ncrop = 0.9\ninterpolation = 'nearest'", "interpolation"),
        ("size = 224\ncrop = 0.9\ncolour = 'rgb'", "colour"),
        ("size = 'big'\ncrop = 0.9", "size"),
        ("crop = 0.9", "size"),
        ("size == 3", "line 1"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_file_and_field(text: str, field: str, tmp_path: Path) -> None:
    path = tmp_path / "preprocess.toml"
    path.write_text(text)
    with pytest.raises(CompoundNetError, match=rf"preprocess\.toml.*{field}"):
        Preprocess.load(path)


def test_a_path_an_image_and_an_array_become_a_tensor_for_the_network(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    preprocess = Preprocess.authors(32)
    found = preprocess(tmp_path / "image.png")
    assert (found.shape, found.dtype) == ((3, 32, 32), torch.float32)
    for image in (str(tmp_path / "image.png"), Image.fromarray(pixels), pixels):
        assert torch.equal(preprocess(image), found)
    np.testing.assert_array_equal(preprocess.pixels(pixels), found)
