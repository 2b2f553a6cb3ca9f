"""A list in the folder of each split, beside its images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sample_images import write_image
from split_names import names_of

from compoundnet.base import CompoundNetError
from compoundnet.data.lookup import open_dataset

ROBOFLOW = {
    "train": ["filename, cat, dog", "0.jpg, 1, 0", "1.jpg, 0, 1", "2.jpg, 1, 0"],
    "valid": ["filename, cat, dog", "3.jpg, 0, 1"],
    "test": ["filename, cat, dog", "4.jpg, 1, 0", "5.jpg, 1, 0"],
}


def written(root: Path, folder: str, lines: list[str], name: str = "_classes.csv") -> Path:
    """The images that the lines name, and the lines as a list beside them."""
    for line in lines:
        image = json.loads(line)["file_name"] if line.startswith("{") else line.split(",")[0]
        if image.endswith(".jpg"):
            write_image(root / folder / image)
    (root / folder / name).write_text("\n".join([*lines, ""]))
    return root


def roboflow(root: Path) -> Path:
    for folder, lines in ROBOFLOW.items():
        written(root, folder, lines)
    return root


def test_roboflows_lists_are_one_data_set(tmp_path: Path) -> None:
    (roboflow(tmp_path) / "README.roboflow.txt").write_text("pets - v1\n")
    data = open_dataset(tmp_path)
    assert data.classes == ("cat", "dog") and not data.multilabel
    assert {name: split.labels.tolist() for name, split in data.splits.items()} == {
        "train": [0, 1, 0],
        "val": [1],
        "test": [0, 0],
    }
    assert names_of(data.splits["val"]) == ["3.jpg"]
    assert data.splits["test"].image(1).size == (24, 18)
    assert "one in the folder of each split" in data.text() and "1 validation image (valid/_classes.csv)" in data.text()
    assert data.notes == ("one column a class, with 0 and 1: 'cat', 'dog'",)


def test_hugging_faces_metadata_of_each_split_below_an_outer_folder(tmp_path: Path) -> None:
    for folder, labels in (("train", ["dog", "ant", "cat"]), ("test", ["cat", "dog"])):
        lines = [json.dumps({"file_name": f"images/{i}.jpg", "label": label}) for i, label in enumerate(labels)]
        written(tmp_path / "pets", folder, lines, "metadata.jsonl")
    data = open_dataset(tmp_path)
    assert data.classes == ("ant", "cat", "dog")
    # The test images have no ant: their labels are numbers of the training images' classes all the same.
    assert data.splits["train"].labels.tolist() == [2, 0, 1] and data.splits["test"].labels.tolist() == [1, 2]
    assert data.understanding is not None
    assert data.understanding.splits["test"] == "pets/test/metadata.jsonl"


def test_the_training_images_decide_that_there_are_several_labels(tmp_path: Path) -> None:
    written(tmp_path, "train", ["filename,cat,dog,red", "0.jpg,1,0,1", "1.jpg,0,1,0"])
    written(tmp_path, "test", ["filename,dog,cat", "2.jpg,1,0", "3.jpg,0,1"])
    data = open_dataset(tmp_path)
    assert data.multilabel and data.classes == ("cat", "dog", "red")
    assert np.array_equal(data.splits["test"].labels, [[False, True, False], [True, False, False]])


def test_a_column_may_repeat_the_split(tmp_path: Path) -> None:
    for folder, said in (("train", "train"), ("val", "validation")):
        rows = [f"{name}.jpg,{name},{said}" for name in ("cat", "dog")]
        written(tmp_path, folder, ["file_name,label,split", *rows], "metadata.csv")
    assert {name: len(split) for name, split in open_dataset(tmp_path).splits.items()} == {"train": 2, "val": 2}


def test_training_images_alone_and_a_folder_without_a_list(tmp_path: Path) -> None:
    written(tmp_path, "train", ["file,label", *(f"{i}.jpg,{'ab'[i % 2]}" for i in range(10))], "labels.csv")
    write_image(tmp_path / "test" / "0.jpg")
    data = open_dataset(tmp_path)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 8, "test": 2}
    assert "2 of 10 images were held out" in data.text()
    assert "The folder test/ has no list, so its images were left out" in data.text()
    assert list(open_dataset(tmp_path, test_fraction=0).splits) == ["train"]


def test_what_the_lists_of_splits_cannot_say(tmp_path: Path) -> None:
    written(roboflow(tmp_path / "class"), "valid", ["filename,cat,bird", "3.jpg,0,1"])
    with pytest.raises(
        CompoundNetError, match=r"valid/_classes\.csv: the class 'bird' is not among those of the train"
    ):
        open_dataset(tmp_path / "class")
    written(
        roboflow(tmp_path / "split"),
        "train",
        ["path,label,split", "0.jpg,cat,train", "1.jpg,dog,train", "2.jpg,cat,test"],
    )
    with pytest.raises(CompoundNetError, match=r"train/_classes\.csv: has images of other splits.*\(train, test\)"):
        open_dataset(tmp_path / "split")
    (roboflow(tmp_path / "gone") / "test" / "5.jpg").unlink()
    with pytest.raises(CompoundNetError, match=r"test/_classes\.csv: row 2: there is no file 5\.jpg"):
        open_dataset(tmp_path / "gone")
    data = open_dataset(tmp_path / "gone", allow_missing=True)
    assert len(data.splits["test"]) == 1
    assert "In test/_classes.csv: 1 of 2 images that the list names do not exist" in data.text()


def test_a_link_to_a_folder_above_ends(tmp_path: Path) -> None:
    write_image(tmp_path / "photos" / "0.jpg")
    (tmp_path / "photos" / "again").symlink_to(tmp_path)
    with pytest.raises(CompoundNetError, match="class"):
        open_dataset(tmp_path)


def test_class_folders_go_before_a_list(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for split in ("train", "test"):
            write_image(tmp_path / split / name / "0.jpg")
    (tmp_path / "train" / "notes.txt").write_text("read me\n")
    assert open_dataset(tmp_path).text().startswith(f"{tmp_path.name}: class folders in a folder per split")


def test_two_lists_for_one_split_are_named(tmp_path: Path) -> None:
    written(roboflow(tmp_path), "train", ROBOFLOW["train"], "more.csv")
    with pytest.raises(CompoundNetError, match=r"without class folders: .*'train/_classes.csv', 'train/more.csv'"):
        open_dataset(tmp_path)
