"""Sizes of images from their headers: upright, sampled evenly, and without the pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from compoundnet.data import Dataset, Split, open_dataset
from compoundnet.data.image_sizes import image_sizes
from compoundnet.data.sources import Arrays


def folder(root: Path, sizes: list[tuple[int, int]]) -> Dataset:
    for number, size in enumerate(sizes):
        for label in ("a", "b"):
            for split in ("train", "test"):
                (root / split / label).mkdir(parents=True, exist_ok=True)
                Image.new("RGB", size).save(root / split / label / f"{number:02}.jpg")
    return open_dataset(root)


def test_every_image_has_its_size(tmp_path: Path) -> None:
    sizes = [(120, 640), (32, 32), (640, 120)]
    found = image_sizes(folder(tmp_path, sizes).split("train"))
    assert found.tolist() == [list(size) for size in sizes] * 2


def test_a_photo_that_lies_on_its_side_counts_as_upright(tmp_path: Path) -> None:
    dataset = folder(tmp_path, [(200, 100)])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (200, 100)).save(tmp_path / "train" / "a" / "00.jpg", exif=exif)
    assert image_sizes(dataset.split("train")).tolist() == [[100, 200], [200, 100]]


def test_a_truncated_image_has_a_size_and_a_damaged_header_has_none(tmp_path: Path) -> None:
    dataset = folder(tmp_path, [(400, 100), (50, 50)])
    path = tmp_path / "train" / "a" / "00.jpg"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 100])
    (tmp_path / "train" / "b" / "01.jpg").write_bytes(b"no image")
    assert image_sizes(dataset.split("train")).tolist() == [[400, 100], [50, 50], [400, 100]]


def test_a_large_set_is_sampled_evenly() -> None:
    pixels = np.zeros((3000, 4, 7), np.uint8)
    split = Split("train", ("a",), np.zeros(3000, np.int64), Arrays("grey", pixels))
    assert image_sizes(split).shape == (500, 2)
    assert image_sizes(split, most=None).shape == (3000, 2)
    assert (image_sizes(split) == (7, 4)).all()
