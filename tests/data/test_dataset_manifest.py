from __future__ import annotations

from pathlib import Path

import pytest
from sample_images import write_classes

from compoundnet.base import CompoundNetError
from compoundnet.data.dataset import Dataset
from compoundnet.data.lookup import open_dataset


def manifest(folder: Path, *rows: str, header: str = "path,label,split") -> Path:
    write_classes(folder)
    path = folder / "list.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def opened(folder: Path, *rows: str, header: str = "path,label,split") -> Dataset:
    return open_dataset(manifest(folder, *rows, header=header))


def test_a_manifest_gives_labels_and_splits(tmp_path: Path) -> None:
    dataset = opened(
        tmp_path,
        "cat/0.jpg,cat,train",
        "dog/0.jpg,dog,train",
        "cat/1.jpg,cat,validation",
        f"{tmp_path}/dog/1.jpg,dog,test",
    )
    assert dataset.classes == ("cat", "dog")
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 2, "val": 1, "test": 1}
    assert dataset.split("test").read(0) == (tmp_path / "dog/1.jpg").read_bytes()


def test_columns_may_be_in_any_order_and_others_are_ignored(tmp_path: Path) -> None:
    rows = [f"{number},dog,dog/{number}.jpg" for number in range(5)] + [
        f"{number},cat,cat/{number}.jpg" for number in range(5)
    ]
    dataset = opened(tmp_path, *rows, header="id,Label,Path")
    assert dataset.split("train").counts().tolist() == [4, 4]
    assert "held out" in dataset.notes[0]


def test_whole_numbers_sort_as_numbers(tmp_path: Path) -> None:
    dataset = opened(tmp_path, "cat/0.jpg,10,train", "cat/1.jpg,9,train", "cat/2.jpg,9,test")
    assert dataset.classes == ("9", "10")


def test_parquet_is_read_as_csv_is(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    write_classes(tmp_path)
    columns = {"path": ["cat/0.jpg", "dog/0.jpg", "dog/1.jpg"], "label": [3, 7, 7], "split": ["train", "train", "val"]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "list.parquet")
    dataset = open_dataset(tmp_path / "list.parquet")
    assert dataset.classes == ("3", "7")
    assert dataset.evaluation == "val"


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["cat/0.jpg,cat"], "path,class", "no column 'label'; expected path, label"),
        ([], "path,label", "no rows"),
        (["cat/0.jpg,cat,train", "dog/0.jpg,,train"], "path,label,split", "row 2: label is empty"),
        (["cat/0.jpg,cat,train,extra"], "path,label,split", "row 1 has 4 fields"),
        (["cat/0.jpg,cat,dev"], "path,label,split", "row 1: split must be train, val or test, got 'dev'"),
        (["../cat/0.jpg,cat,train"], "path,label,split", "row 1: ../cat/0.jpg leads out of the manifest's folder"),
        (["cat/00.jpg,cat,train"], "path,label,split", "row 1: there is no file"),
        (["cat/0.jpg,cat,test"], "path,label,split", "no row has the split 'train'"),
        (["cat/0.jpg,cat,train", "cat/1.jpg,cat,test"], "path,label,split", "only the class 'cat'"),
        (["cat/0.jpg,cat,train", "dog/0.jpg,dogs,test"], "path,label,split", "row 2: the class 'dogs' is not among"),
    ],
)
def test_bad_manifests_say_what_is_wrong_and_where(tmp_path: Path, rows: list[str], header: str, message: str) -> None:
    with pytest.raises(CompoundNetError, match=message):
        opened(tmp_path, *rows, header=header)


def test_other_files_and_missing_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.xlsx").write_bytes(b"")
    with pytest.raises(CompoundNetError, match=r"manifest that ends in \.csv or \.parquet"):
        open_dataset(tmp_path / "list.xlsx")
    with pytest.raises(CompoundNetError, match="there is no file or folder"):
        open_dataset(tmp_path / "list.csv")
    (tmp_path / "broken.csv").write_bytes(b"path,label\n\xff\xfe,x\n")
    with pytest.raises(CompoundNetError, match="not a CSV file in UTF-8"):
        open_dataset(tmp_path / "broken.csv")
