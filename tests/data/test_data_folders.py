"""Which files are taken from what a person names."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from compoundnet import data
from compoundnet.base import CompoundNetError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(folder: Path, found: Iterable[Path]) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in found]


def test_folders_are_walked_in_sorted_order_and_arguments_as_given(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.jpg", "b/1.png", "a/x/3.JPEG", "a/0.webp", "a/y.tif", "c.gif")
    found = data.find_images([tmp_path / "c.gif", tmp_path / "b", str(tmp_path / "a"), tmp_path / "c.gif"])
    assert names(tmp_path, found) == ["c.gif", "b/1.png", "b/2.jpg", "a/0.webp", "a/x/3.JPEG", "a/y.tif", "c.gif"]
    assert names(tmp_path, data.find_images([tmp_path])) == [
        "a/0.webp", "a/x/3.JPEG", "a/y.tif", "b/1.png", "b/2.jpg", "c.gif",
    ]  # fmt: skip


def test_hidden_files_and_what_is_no_image_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", ".2.jpg", ".cache/3.jpg", "notes.txt", "paper.pdf", "figure.eps", "jpg", "data.h5")
    (tmp_path / "folder.png").mkdir()
    assert names(tmp_path, data.find_images([tmp_path])) == ["1.jpg"]


def test_a_hidden_folder_that_is_named_is_meant(tmp_path: Path) -> None:
    touch(tmp_path, ".photos/1.jpg")
    assert names(tmp_path, data.find_images([tmp_path / ".photos"])) == [".photos/1.jpg"]


def test_a_named_file_is_taken_whatever_it_is(tmp_path: Path) -> None:
    paths = [tmp_path / "missing.jpg", tmp_path / "image.dat"]
    paths[1].touch()
    found = data.find_images(paths)
    assert list(found) == paths
    assert [found[index] for index in range(len(paths))] == paths
    assert found[-1] == paths[-1] and found[1:] == paths[1:]
    with pytest.raises(IndexError):
        found[len(paths)]


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "full/1.jpg", "empty/deep/notes.txt")
    with pytest.raises(CompoundNetError, match=r"empty: there are no images in this folder or below it"):
        data.find_images([tmp_path / "full", tmp_path / "empty"])


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a/1.jpg", "elsewhere/2.jpg")
    (tmp_path / "photos" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "a" / "back").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "broken.jpg").symlink_to(tmp_path / "nothing.jpg")
    assert names(tmp_path, data.find_images([tmp_path / "photos"])) == ["photos/a/1.jpg", "photos/b/2.jpg"]


def test_images_that_cannot_be_read_here_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "a/2.CR2", "a/3.cr2", "b/4.svg", "notes.txt")
    told: list[str] = []
    data.find_images([tmp_path], notify=told.append)
    assert told == [
        "3 images are left out, because they cannot be read here: 2 .cr2, 1 .svg (convert them to JPEG or PNG)"
    ]
    with pytest.raises(CompoundNetError, match=r"no images in this folder or below it; 1 image is left out"):
        data.find_images([tmp_path / "b"])
