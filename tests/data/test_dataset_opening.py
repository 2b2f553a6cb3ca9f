from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from sample_images import write_classes, write_image
from split_names import names_of

from compoundnet.base import CompoundNetError
from compoundnet.base.images import unread_suffixes
from compoundnet.data.catalogue import known_datasets
from compoundnet.data.dataset import Split
from compoundnet.data.lookup import open_dataset, open_for_evaluation
from compoundnet.data.sources import Files, Strings
from compoundnet.paper.printed import printed_table


def test_digits_are_always_there() -> None:
    digits = open_dataset("digits")
    assert {name: len(split) for name, split in digits.splits.items()} == {"train": 1438, "test": 359}
    assert digits.classes == tuple("0123456789")
    assert digits.evaluation == "test"
    image = digits.split("test").read(0)
    assert isinstance(image, np.ndarray)
    assert image.shape == (8, 8)


def test_a_folder_without_a_split_gets_one_by_seed_and_says_so(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets", count=10)
    dataset = open_dataset(tmp_path / "pets", test_fraction=0.2)
    assert len(dataset.split("train")) == 16
    assert dataset.split("test").counts().tolist() == [2, 2]
    assert "no test split" in dataset.notes[0]
    assert "seed 0" in dataset.notes[0]
    again = open_dataset(str(tmp_path / "pets"), test_fraction=0.2)
    assert names_of(again.split("test")) == names_of(dataset.split("test"))
    other = open_dataset(tmp_path / "pets", test_fraction=0.2, seed=1)
    assert names_of(other.split("test")) != names_of(dataset.split("test"))


def test_split_folders_are_used_by_any_of_their_names(tmp_path: Path) -> None:
    write_classes(tmp_path / "training", 3)
    write_classes(tmp_path / "valid", 2)
    write_classes(tmp_path / "test", 1)
    dataset = open_dataset(tmp_path)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 6, "val": 4, "test": 2}
    assert dataset.notes == ()
    assert names_of(dataset.split("test")) == ["cat/0.jpg", "dog/0.jpg"]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write_classes(tmp_path, 5, ("bus", "train"))
    assert open_dataset(tmp_path).classes == ("bus", "train")


def test_labels_of_test_images_are_those_of_training(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", 2, ("ant", "bee", "cat"))
    write_classes(tmp_path / "test", 2, ("ant", "cat"))
    dataset = open_dataset(tmp_path)
    assert dataset.split("test").labels.tolist() == [0, 0, 2, 2]
    assert "no images of 'bee'" in dataset.notes[0]


def test_a_class_that_training_does_not_know_is_an_error(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", 2, ("ant", "bee"))
    write_classes(tmp_path / "test", 2, ("ant", "bees"))
    known = "'bees' is not among those of the training images: rename the folder, or remove it; did you mean bee"
    with pytest.raises(CompoundNetError, match=known):
        open_dataset(tmp_path)


def test_where_no_class_is_like_an_unknown_one_all_are_named(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", 2, ("ant", "bee"))
    write_classes(tmp_path / "test", 2, ("zzzz",))
    with pytest.raises(CompoundNetError, match=r"rename the folder, or remove it; known: ant, bee$"):
        open_dataset(tmp_path)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    write_classes(tmp_path, 2)
    (tmp_path / "emu").mkdir()
    with pytest.raises(CompoundNetError, match="class 'emu' is empty"):
        open_dataset(tmp_path)


def test_a_single_class_is_nothing_to_learn(tmp_path: Path) -> None:
    write_classes(tmp_path, 4, ("cat",))
    with pytest.raises(CompoundNetError, match="only the class 'cat'"):
        open_dataset(tmp_path)


def test_a_class_too_small_to_be_divided_is_named(tmp_path: Path) -> None:
    write_classes(tmp_path, 4)
    write_image(tmp_path / "emu" / "0.png")
    with pytest.raises(CompoundNetError, match="class 'emu' has 1 image"):
        open_dataset(tmp_path)


def test_images_without_class_folders_are_an_error(tmp_path: Path) -> None:
    write_image(tmp_path / "cat.jpg")
    with pytest.raises(CompoundNetError, match="no class folders"):
        open_dataset(tmp_path)


def test_a_test_folder_without_training_can_be_evaluated_on(tmp_path: Path) -> None:
    write_classes(tmp_path / "data" / "test", count=2)
    opened = open_dataset(tmp_path / "data")
    assert (opened.evaluation, len(opened.split("test")), list(opened.splits)) == ("test", 4, ["test"])


def test_a_split_without_images_is_none_and_said(tmp_path: Path) -> None:
    """Its class folders are empty, or hold only files that cannot be read here."""
    suffix = next(iter(unread_suffixes()))
    write_classes(tmp_path / "train", count=5)
    for name in ("cat", "dog"):
        (tmp_path / "test" / name).mkdir(parents=True)
    for held in ([], [f"1{suffix}"]):
        for name in held:
            (tmp_path / "test" / "cat" / name).touch()
        dataset = open_dataset(tmp_path)
        assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 8, "test": 2}
        assert "the folder test/ has no images, so there is no test split" in dataset.notes
        assert any("2 of 10 images were held out" in note for note in dataset.notes)
    write_classes(tmp_path / "val", count=1)
    dataset = open_dataset(tmp_path)
    assert (list(dataset.splits), dataset.evaluation) == (["train", "val"], "val")
    assert dataset.understanding is not None and list(dataset.understanding.splits) == ["train", "val"]


def test_an_undivided_folder_can_be_taken_whole(tmp_path: Path) -> None:
    write_classes(tmp_path / "data", count=1)
    opened = open_dataset(tmp_path / "data", test_fraction=0)
    assert (opened.evaluation, len(opened.split("train")), opened.notes) == ("train", 2, ())


def test_what_cannot_be_divided_can_be_evaluated_whole(tmp_path: Path) -> None:
    write_image(tmp_path / "data" / "cat" / "0.jpg")
    said = r"there is only the class 'cat'; .*\. `--split all` evaluates every image as it is$"
    with pytest.raises(CompoundNetError, match=said):
        open_for_evaluation(tmp_path / "data")
    write_classes(tmp_path / "data", count=1)
    said = r"class 'cat' has 1 image: at least 2 .*\. `--split all` evaluates every image as it is$"
    with pytest.raises(CompoundNetError, match=said):
        open_for_evaluation(tmp_path / "data", "test")
    assert len(open_for_evaluation(tmp_path / "data", "all").split("all")) == 2
    with pytest.raises(CompoundNetError) as training:
        open_dataset(tmp_path / "data")
    assert "--split" not in str(training.value)


def test_a_misspelt_name_is_put_right() -> None:
    with pytest.raises(CompoundNetError, match="did you mean cifar10"):
        open_dataset("cifar-10:/nowhere")


def test_a_data_set_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match="--download fetches"):
        open_dataset(f"oxford-iiit-pets:{tmp_path}")
    with pytest.raises(CompoundNetError, match="server is gone"):
        open_dataset(f"stanford-cars:{tmp_path}", download=True)
    with pytest.raises(CompoundNetError, match=r"Register at image-net\.org"):
        open_dataset(f"imagenet:{tmp_path}")


def test_the_catalogue_says_what_table_6_says() -> None:
    """Sizes of the published splits, and where the paper prints another."""
    printed = printed_table("table6")
    known = {facts.title.split(" (")[0]: facts for facts in known_datasets().values()}
    known["Flowers"] = known["Oxford 102 Flowers"]
    for row in printed.rows:
        facts = known[row.label]
        assert row.published == {**facts.sizes, "classes": facts.classes}
        paper = {column: int(value.replace(",", "")) for column, value in row.printed.items()}
        assert paper == {**facts.sizes, **facts.printed, "classes": facts.classes}
    assert known_datasets()["oxford-iiit-pets"].printed == {"test": 3369}


def test_a_million_names_take_two_arrays() -> None:
    count = 1_000_000
    names = Strings.of(f"n{number // 1300:08d}/n{number // 1300:08d}_{number}.JPEG" for number in range(count))
    split = Split("train", ("a", "b"), np.zeros(count, np.int64), Files("/data", names))
    assert split.image_name(999_999) == "n00000769/n00000769_999999.JPEG"
    assert len(pickle.dumps(split)) < 48 * count
    restored = pickle.loads(pickle.dumps(split))
    assert restored.image_name(123_456) == split.image_name(123_456)


def test_names_that_are_not_utf8_are_kept() -> None:
    names = Strings.of(["a", "caf\udce9", "日本", ""])
    assert list(names) == ["a", "caf\udce9", "日本", ""]
