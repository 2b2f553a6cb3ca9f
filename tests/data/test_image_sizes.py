"""Sizes of images from their headers: upright, sampled evenly, and without the pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from compoundnet.data import Dataset, Split, open_dataset
from compoundnet.data.image_sizes import cropped_off, file_sizes, image_sizes, square_share
from compoundnet.data.sources import Arrays
from compoundnet.models import Preprocess


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


def test_files_have_sizes_too_and_unreadable_ones_none(tmp_path: Path) -> None:
    folder(tmp_path, [(120, 640), (10, 20)])
    files = sorted((tmp_path / "train").rglob("*.jpg"))
    files[1].write_bytes(b"")
    assert file_sizes(files).tolist() == [[120, 640], [120, 640], [10, 20]]
    assert file_sizes([]).shape == (0, 2)


def test_a_model_that_crops_long_images_says_how_much_it_sees() -> None:
    long, usual = np.array([[120, 640], [640, 120]]), np.array([[640, 480], [480, 640]])
    assert square_share(long) == 120 / 640
    said = cropped_off(Preprocess.authors(224), long)
    assert said is not None and "14%" in said
    assert cropped_off(Preprocess.authors(224), usual) is None
    assert cropped_off(Preprocess(224, 1.0, fit="squash"), long) is None
    assert cropped_off(Preprocess.authors(224), np.empty((0, 2), np.int64)) is None
