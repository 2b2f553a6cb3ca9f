"""How lists of images tell of splits."""

from __future__ import annotations

from pathlib import Path

import pytest
from split_names import names_of
from written_lists import CELLS, written

from compoundnet.base import CompoundNetError


@pytest.mark.parametrize(
    ("heading", "values"),
    [
        ("split", ("Training", "Dev")),
        ("set", ("TRAIN", "valid")),
        ("is_valid", ("False", "True")),
        ("subset", ("train", "val")),
    ],
)
def test_splits_of_lists_are_read_in_their_usual_forms(tmp_path: Path, heading: str, values: tuple[str, str]) -> None:
    rows = [f"{path},{name},{values['0.jpg' in path]}" for path, name in CELLS]
    dataset = written(tmp_path, "\n".join([f"path,label,{heading}", *rows]))
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 4, "val": 2}
    assert f"({heading} {values[1]})" in dataset.text() or values[1] == "val"


def test_a_column_that_only_sounds_like_splits_is_not_used(tmp_path: Path) -> None:
    rows = [f"{path},{name},{place % 5}" for place, (path, name) in enumerate(CELLS)]
    dataset = written(tmp_path, "\n".join(["path,label,fold", *rows]))
    assert list(dataset.splits) == ["train"]
    assert "not used: 'fold'" in dataset.text()


FLAGGED = {
    "is_valid,is_test": ("0,0", "0,0", "1,0", "0,0", "0,1", "0,1"),
    "is_test,is_valid": ("0,0", "0,0", "0,1", "0,0", "1,0", "1,1"),
    "is_train,is_valid": ("1,0", "1,0", "0,1", "1,0", "0,0", "0,0"),
    "is_train,is_test": ("1,0", "1,0", "0,0", "1,0", "0,1", "1,1"),
    "is_train,is_val,is_test": ("1,0,0", "1,0,0", "0,1,0", "1,0,0", "0,0,1", "0,0,1"),
    "is_validation,is_test_set": ("no,", "no,", "yes,", "no,", "no,yes", ",yes"),
    "validation,test": ("0,0", "0,0", "1,0", "0,0", "0,1", "0,1"),
}


@pytest.mark.parametrize("header", FLAGGED)
def test_flags_of_splits_are_read_together(tmp_path: Path, header: str) -> None:
    rows = [
        f"{path},c{place % 2},{flags}"
        for place, ((path, _), flags) in enumerate(zip(CELLS, FLAGGED[header], strict=True))
    ]
    dataset = written(tmp_path, "\n".join([f"path,label,{header}", *rows]))
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 3, "val": 1, "test": 2}
    assert names_of(dataset.split("test")) == [path for path, _ in CELLS[4:]]
    assert f"splits in {header.replace(',', ', ')!r}" in dataset.text()
    assert "not used" not in dataset.text()


@pytest.mark.parametrize("heading", ["is_train", "is_training", "is_training_image", "IsTrain"])
def test_images_that_are_not_for_training_are_test_images(tmp_path: Path, heading: str) -> None:
    rows = [f"{path},{name},{int('0.jpg' not in path)}" for path, name in CELLS]
    dataset = written(tmp_path, "\n".join([f"path,label,{heading}", *rows]))
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 4, "test": 2}
    assert f"({heading} 0)" in dataset.text()
    assert not any("held out" in note for note in dataset.notes)


def test_a_test_alone_beside_the_images_is_what_is_learned(tmp_path: Path) -> None:
    rows = [f"{path},{int(name == 'cat')}" for path, name in CELLS]
    assert written(tmp_path, "\n".join(["image,test", *rows])).classes == ("0", "1")


def test_a_flag_of_a_split_is_no_label(tmp_path: Path) -> None:
    rows = [f"{path},{int(name == 'cat')},1,{int('0.jpg' not in path)}" for path, name in CELLS]
    assert written(tmp_path, "\n".join(["path,cat,animal,is_train", *rows])).classes == ("cat", "animal")
    whole = [f"{row},train" for row in rows]
    found = written(tmp_path, "\n".join(["path,cat,animal,is_train,split", *whole]))
    assert found.classes == ("cat", "animal") and [*found.splits] == ["train"], "the column of splits says more"


def test_an_image_that_no_flag_claims_is_refused(tmp_path: Path) -> None:
    rows = [f"{path},{name},1,0,0" for path, name in CELLS[:5]] + [f"{CELLS[5][0]},cat,0,0,0"]
    with pytest.raises(CompoundNetError, match="row 6: none of is_train, is_val, is_test says yes; write 1 in one"):
        written(tmp_path, "\n".join(["path,label,is_train,is_val,is_test", *rows]))
