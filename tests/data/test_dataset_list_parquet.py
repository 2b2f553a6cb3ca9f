"""Lists of images in Parquet."""

from __future__ import annotations

from pathlib import Path

import pytest
from sample_images import write_classes

from compoundnet.base import CompoundNetError
from compoundnet.data.lookup import open_dataset


def test_parquet_is_read_as_csv_is(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    write_classes(tmp_path)
    columns = {"path": ["cat/0.jpg", "dog/0.jpg", "dog/1.jpg"], "label": [3, 7, 7], "split": ["train", "train", "val"]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "list.parquet")
    dataset = open_dataset(tmp_path / "list.parquet")
    assert dataset.classes == ("3", "7")
    assert dataset.evaluation == "val"


def in_parquet(folder: Path, **columns: object) -> Path:
    """A Parquet file of two rows beside the images of `write_classes`."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    write_classes(folder, 1)
    parquet.write_table(pyarrow.table(columns), folder / "list.parquet", compression="zstd")
    return folder / "list.parquet"


JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF/" * 2000


@pytest.mark.parametrize(
    ("heading", "cells"),
    [
        ("image", [{"bytes": JPEG, "path": "0.jpg"}, {"bytes": JPEG, "path": "1.jpg"}]),  # of Hugging Face
        ("image", [JPEG, JPEG]),
        ("jpg", [JPEG, JPEG]),
        ("images", [[JPEG], [JPEG, JPEG]]),
        ("img", [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]),
    ],
)
def test_images_in_parquet_are_refused_with_what_to_do(tmp_path: Path, heading: str, cells: list[object]) -> None:
    path = in_parquet(tmp_path, **{heading: cells, "label": [0, 1], "id": [5, 6]})
    with pytest.raises(
        CompoundNetError,
        match=f"the column '{heading}' holds images themselves, as bytes or numbers, not their paths; write each",
    ) as raised:
        open_dataset(path)
    assert len(str(raised.value)) < 500


def test_bytes_beside_paths_in_parquet_are_not_read(tmp_path: Path) -> None:
    path = in_parquet(tmp_path, path=["cat/0.jpg", "dog/0.jpg"], image=[JPEG, JPEG], klasse=["cat", "dog"])
    assert open_dataset(path, test_fraction=0).classes == ("cat", "dog")


@pytest.mark.parametrize("bomb", ["rows", "cell"])
def test_a_small_parquet_file_that_unpacks_to_much_is_refused(tmp_path: Path, bomb: str) -> None:
    """One row millions of times, and one cell of 100 MB: some kilobytes each."""
    pyarrow = pytest.importorskip("pyarrow")
    rows = 5_000_000 if bomb == "rows" else 1
    path = pyarrow.repeat("a.jpg" if bomb == "rows" else "a" * 100_000_000, rows)
    file = in_parquet(tmp_path, path=path, label=pyarrow.repeat("cat", rows))
    assert file.stat().st_size < 2**20
    with pytest.raises(CompoundNetError, match=r"unpacks to .* MB, and the limit is 67.1 MB for a file of its size"):
        open_dataset(file)


def test_a_parquet_file_without_columns_is_empty(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match="is empty; expected the columns path, label"):
        open_dataset(in_parquet(tmp_path))
