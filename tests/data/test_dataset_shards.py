from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sample_images import write_classes
from split_names import names_of

from compoundnet.base import CompoundNetError
from compoundnet.data.lookup import open_dataset
from compoundnet.data.shards import write_shards


def test_shards_hold_the_same_images_labels_and_names(tmp_path: Path) -> None:
    dataset = open_dataset(write_classes(tmp_path / "pets", 10))
    folder = write_shards(dataset, tmp_path / "shards", shard_bytes=4096)
    assert len(list(folder.glob("train-*.tar"))) > 1
    shards = open_dataset(folder)
    assert shards.classes == dataset.classes
    for name, split in dataset.splits.items():
        there = {split.image_name(index): index for index in range(len(split))}
        read = shards.split(name)
        assert sorted(names_of(read)) == sorted(there)
        assert names_of(read) != names_of(split)  # shuffled, for readers that stream
        for index in range(len(read)):
            original = there[read.image_name(index)]
            assert read.read(index) == split.read(original)
            assert read.labels[index] == split.labels[original]


def test_pixels_become_png_without_loss(tmp_path: Path) -> None:
    digits = open_dataset("digits")
    shards = open_dataset(write_shards(digits, tmp_path / "shards"))
    test = shards.split("test")
    original = names_of(digits.split("test")).index(test.image_name(0))
    expected = digits.split("test").read(original)
    assert np.array_equal(np.asarray(test.image(0))[..., 0], expected)


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    dataset = open_dataset(write_classes(tmp_path / "pets", 3))
    first, second = (write_shards(dataset, tmp_path / name) for name in ("a", "b"))
    for file in first.iterdir():
        if file.suffix != ".npz":  # a zip holds the time
            assert file.read_bytes() == (second / file.name).read_bytes()


# The library leaves its file to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_shards(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    dataset = open_dataset(write_classes(tmp_path / "pets", 4))
    folder = write_shards(dataset, tmp_path / "shards")
    stream = webdataset.WebDataset(str(folder / "train-000000.tar"), shardshuffle=False).to_tuple("jpg", "cls")
    split = open_dataset(folder).split("train")
    read = [(image, int(label)) for image, label in stream]
    assert read == [(split.read(index), label) for index, label in enumerate(split.labels)]


def test_shards_can_stand_for_a_named_data_set(tmp_path: Path) -> None:
    dataset = open_dataset(write_classes(tmp_path / "pets", 4))
    folder = write_shards(dataset, tmp_path / "shards")
    with pytest.raises(CompoundNetError, match="published are 1,281,167"):
        open_dataset(f"imagenet:{folder}")
    assert open_dataset(f"imagenet:{folder}", allow_missing=True).name == "imagenet"


def test_a_shard_that_is_missing_or_cut_is_named(tmp_path: Path) -> None:
    folder = write_shards(open_dataset(write_classes(tmp_path / "pets", 4)), tmp_path / "shards")
    shard = folder / "test-000000.tar"
    shard.write_bytes(shard.read_bytes()[:600])
    with pytest.raises(CompoundNetError, match=r"test-000000\.tar: has 600 bytes, and .* copy this shard again"):
        open_dataset(folder)
    shard.unlink()
    with pytest.raises(CompoundNetError, match=r"test-000000\.tar: is missing"):
        open_dataset(folder)
    (folder / "test.npz").write_bytes(b"PK")
    with pytest.raises(CompoundNetError, match="cannot be read"):
        open_dataset(folder)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    dataset = open_dataset(write_classes(tmp_path / "pets", 4))
    with pytest.raises(CompoundNetError, match="is not an empty folder"):
        write_shards(dataset, tmp_path / "pets")


def test_nothing_is_written_where_an_image_is_gone(tmp_path: Path) -> None:
    dataset = open_dataset(write_classes(tmp_path / "pets", 4))
    (tmp_path / "pets/dog/3.jpg").unlink()
    with pytest.raises(CompoundNetError, match=r"3\.jpg: cannot be read: No such file.*nothing was written"):
        write_shards(dataset, tmp_path / "shards")
    assert [path.name for path in tmp_path.iterdir()] == ["pets"]


def test_an_index_of_millions_of_tables_is_refused_before_it_is_read(tmp_path: Path) -> None:
    folder = write_shards(open_dataset(write_classes(tmp_path / "pets", 3)), tmp_path / "shards")
    with (folder / "shards.toml").open("a") as file:
        file.write("".join(f"[a{number}]\n" for number in range(500_000)))
    with pytest.raises(CompoundNetError, match="limit"):
        open_dataset(folder)
