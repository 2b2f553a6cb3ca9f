"""What people's folders look like, and what is understood of each: splits, classes, and what is left out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from sample_images import write_classes, write_image
from split_names import names_of

from compoundnet.base import CompoundNetError
from compoundnet.base.images import unread_suffixes
from compoundnet.data import find_images
from compoundnet.data.dataset import Dataset
from compoundnet.data.lookup import open_dataset, open_for_evaluation
from compoundnet.data.names import class_name, natural_order, split_name
from compoundnet.data.shards import write_shards


def left_out(dataset: Dataset) -> dict[str, tuple[int, tuple[str, ...]]]:
    assert dataset.understanding is not None
    return {out.reason: (out.count, out.examples) for out in dataset.understanding.left_out}


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("Train", "Test"), ["train", "test"]),
        (("Training", "Testing"), ["train", "test"]),
        (("TRAIN", "VALID"), ["train", "val"]),
        (("train", "dev", "test"), ["train", "val", "test"]),
        (("training_set", "test_set"), ["train", "test"]),
        (("TrainingImages", "ValidationImages"), ["train", "val"]),
        (("pets_train", "pets_val"), ["train", "val"]),
        (("train2017", "val2017"), ["train", "val"]),
        (("trainval", "test"), ["train", "test"]),
        (("seg_train/seg_train", "seg_test/seg_test"), ["train", "test"]),
        (("train/train", "test"), ["train", "test"]),
        (("data/Train", "data/Test"), ["train", "test"]),
        (("train/images", "test/images"), ["train", "test"]),
    ],
)
def test_splits_are_read_in_any_case_and_the_usual_spellings(
    tmp_path: Path, folders: tuple[str, ...], expected: list[str]
) -> None:
    for folder in folders:
        write_classes(tmp_path / folder, 2)
    dataset = open_dataset(tmp_path)
    assert list(dataset.splits) == expected
    assert dataset.classes == ("cat", "dog")
    assert {len(split) for split in dataset.splits.values()} == {4}
    assert all(
        names_of(split) == ["cat/0.jpg", "cat/1.jpg", "dog/0.jpg", "dog/1.jpg"] for split in dataset.splits.values()
    )
    shown = dataset.text()
    for split, folder in zip(expected, folders, strict=True):
        assert folder in shown or folder == split


@pytest.mark.parametrize(
    "folders", [("val", "valid"), ("train", "Training"), ("val", "dev"), ("test", "testing"), ("test", "Test")]
)
def test_two_folders_for_one_split_are_an_error_that_names_both(tmp_path: Path, folders: tuple[str, str]) -> None:
    for folder in {"train", *folders}:
        write_classes(tmp_path / folder, 1)
    with pytest.raises(CompoundNetError, match=r"are both .* images by their names: merge them, or rename") as error:
        open_dataset(tmp_path)
    assert all(f"{folder}/" in str(error.value) for folder in folders)


def test_splits_inside_the_class_folders_are_splits(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        write_classes(tmp_path / name, 2, ("Train", "Test"))
    dataset = open_dataset(tmp_path)
    assert (dataset.classes, list(dataset.splits)) == (("cat", "dog"), ["train", "test"])
    assert names_of(dataset.split("test")) == ["cat/Test/0.jpg", "cat/Test/1.jpg", "dog/Test/0.jpg", "dog/Test/1.jpg"]
    assert "a folder per split in each class folder" in dataset.text()
    assert dataset.notes == ()
    write_image(tmp_path / "dog" / "9.jpg")
    with pytest.raises(CompoundNetError, match=r"inside the class folders, but dog/9\.jpg is in none"):
        open_dataset(tmp_path)


def test_an_outer_folder_is_descended_into_and_named(tmp_path: Path) -> None:
    write_classes(tmp_path / "w" / "animals", 3)
    dataset = open_dataset(tmp_path / "w")
    assert dataset.classes == ("cat", "dog")
    assert "The class folders are in animals/" in dataset.text()
    (tmp_path / "w" / "annotations").mkdir()
    (tmp_path / "w" / "annotations" / "cat.xml").touch()
    beside = open_dataset(tmp_path / "w")
    assert (beside.classes, left_out(beside)["without images"]) == (("cat", "dog"), (1, ("annotations",)))


def test_one_class_folder_is_not_an_outer_folder(tmp_path: Path) -> None:
    write_classes(tmp_path / "one", 3, ("cat",))
    write_image(tmp_path / "one" / "cat" / "more" / "1.jpg")
    with pytest.raises(CompoundNetError, match="only the class 'cat'"):
        open_dataset(tmp_path / "one")


@pytest.mark.parametrize(
    "path",
    [
        "__MACOSX/cat/._0.jpg", ".ipynb_checkpoints/0.jpg", "@eaDir/0.jpg", "$RECYCLE.BIN/0.jpg", "lost+found/0.jpg",
        "System Volume Information/0.jpg", ".Trash-1000/files/0.jpg", ".git/0.jpg", "#recycle/0.jpg",
        "cat/.ipynb_checkpoints/0-checkpoint.jpg", "cat/@eaDir/0.jpg/SYNOFILE_THUMB_M.jpg", "cat/__MACOSX/._0.jpg",
    ],
)  # fmt: skip
def test_folders_of_systems_and_tools_are_no_classes_and_have_no_images(tmp_path: Path, path: str) -> None:
    write_classes(tmp_path, 3)
    write_image(tmp_path / path)
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert sum(map(len, dataset.splits.values())) == 6
    folder = path.split("/", maxsplit=1)[0] if not path.startswith("cat") else "/".join(path.split("/")[:2])
    assert left_out(dataset) == {"made by tools": (1, (folder,))}
    assert len(find_images([tmp_path])) == 6


def test_files_of_systems_and_tools_are_not_mentioned_and_others_are(tmp_path: Path) -> None:
    write_classes(tmp_path, 3)
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "._1.jpg"):
        (tmp_path / "cat" / name).touch()
    (tmp_path / "readme.txt").touch()
    assert left_out(open_dataset(tmp_path)) == {}
    for name in ("a.txt", "b.txt", "c.pdf", "d"):
        (tmp_path / "dog" / name).touch()
    write_image(tmp_path / "loose.jpg")
    dataset = open_dataset(tmp_path)
    assert left_out(dataset) == {
        "outside classes": (1, ("*",)),
        "no suffix": (1, ("dog/d",)),
        "not images": (3, ("2 .txt", "1 .pdf")),
    }
    assert "1 file without a suffix, which images need (dog/d), 3 files that are not images (2 .txt, 1 .pdf)" in (
        dataset.text()
    )


def test_a_hidden_folder_that_might_have_been_meant_is_named(tmp_path: Path) -> None:
    write_classes(tmp_path, 3)
    write_image(tmp_path / ".emu" / "0.jpg")
    shown = open_dataset(tmp_path).text()
    assert "1 hidden folder with images, to be renamed without the dot if it is meant (.emu)" in shown


def test_hidden_images_and_those_that_are_not_downloaded_are_named(tmp_path: Path) -> None:
    write_classes(tmp_path, 3)
    for name in (".9.jpg", "._9.jpg", ".IMG_1.jpg.icloud", ".DS_Store"):
        (tmp_path / "cat" / name).touch()
    assert left_out(open_dataset(tmp_path)) == {
        "hidden images": (1, ("cat/.9.jpg",)),
        "not downloaded": (1, ("cat/.IMG_1.jpg.icloud",)),
    }


@pytest.mark.parametrize(
    ("files", "what"),
    [
        (("network.toml", "weights.safetensors", "curves.png"), "a model"),
        (("maps.json", "0.cam.jpg", "sheet.jpg"), "class activation maps"),
        (("grid.jpg",), "class activation maps"),
        (("search.toml", "study.db", "plot.png"), "a search"),
        (("checkpoints/step-1.pt", "lock", "log.png"), "a training run"),
        (("figure5.png", "figure5.svg"), "reproduced tables and figures"),
        (("figure5.png", "figure5.svg", "table1.json", "table1.md", "table1.csv"), "reproduced tables and figures"),
        (("fit.json", "lock", "report.html", "images-1/dark.png"), "a fit"),
        (("predictions.json", "shard-0.parquet", "shard-1.parquet"), "predictions"),
    ],
)
def test_what_this_program_wrote_is_never_a_class(tmp_path: Path, files: tuple[str, ...], what: str) -> None:
    write_classes(tmp_path, 3)
    for folder in (tmp_path / "result", tmp_path / "cat" / "result"):
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert sum(map(len, dataset.splits.values())) == 6
    assert left_out(dataset)["written by compoundnet"] == (2, (f"result: {what}", f"cat/result: {what}"))
    notes: list[str] = []
    assert len(find_images([tmp_path], notify=notes.append)) == 6
    assert len(notes) == 1 and "2 folders written by compoundnet" in notes[0]
    with pytest.raises(CompoundNetError, match="compoundnet wrote this folder"):
        open_dataset(tmp_path / "result")


@pytest.mark.parametrize(("name", "what"), [("best.run", "a training run"), ("best.fit", "a fit")])
def test_what_this_program_has_only_locked_is_never_a_class(tmp_path: Path, name: str, what: str) -> None:
    """A run before its first checkpoint, and of a probe; a fit before its first answer."""
    write_classes(tmp_path, 3)
    (tmp_path / name).mkdir()
    (tmp_path / name / "lock").touch()
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert left_out(dataset)["written by compoundnet"] == (1, (f"{name}: {what}",))
    with pytest.raises(CompoundNetError, match=f"compoundnet wrote this folder.*{what}"):
        open_dataset(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("table", ["table1.jpg", "table2.jpg", "table3.jpg"]),
        ("figure", ["figure1.png", "figure2.png", "figure10.png"]),
        ("lion", ["predictions.json", "1.jpg", "2.jpg", "3.jpg"]),
        ("best.run", ["1.jpg", "2.jpg", "3.jpg"]),
    ],
)
def test_a_class_whose_files_are_named_like_ours_is_read(tmp_path: Path, name: str, files: list[str]) -> None:
    write_classes(tmp_path, 3)
    (tmp_path / name).mkdir()
    for file in files:
        (tmp_path / name / file).touch()
    dataset = open_dataset(tmp_path)
    assert name in dataset.classes and sum(map(len, dataset.splits.values())) == 9
    assert "written by compoundnet" not in left_out(dataset)


def test_maps_that_were_written_beside_the_images_are_not_images(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "cat"):
        for name in ("0.cam.jpg", "sheet-1.jpg", "sheet-2.jpg", "maps.json"):
            folder.mkdir(exist_ok=True)
            (folder / name).touch()
    write_classes(tmp_path, 3)
    dataset = open_dataset(tmp_path)
    assert (dataset.classes, sum(map(len, dataset.splits.values()))) == (("cat", "dog"), 6)
    assert {reason: out[0] for reason, out in left_out(dataset).items()} == {"written beside images": 8}
    assert len(find_images([tmp_path])) == 6


def test_shards_inside_a_folder_are_no_class(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets", 3)
    write_shards(open_dataset(tmp_path / "pets"), tmp_path / "pets" / "shards")
    dataset = open_dataset(tmp_path / "pets")
    assert (dataset.classes, left_out(dataset)) == (
        ("cat", "dog"),
        {"written by compoundnet": (1, ("shards: shards",))},
    )


def test_links_are_followed_alike_and_a_circle_ends(tmp_path: Path) -> None:
    photos = write_classes(tmp_path / "photos", 3)
    write_image(tmp_path / "real" / "cat" / "9.jpg", 9)
    (photos / "cat" / "more").symlink_to(tmp_path / "real" / "cat")
    (photos / "cat" / "again").symlink_to(tmp_path / "real" / "cat")
    (photos / "cat" / "up").symlink_to(photos)
    (photos / "dog" / "above").symlink_to(tmp_path)
    (photos / "dog" / "gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    os.mkfifo(photos / "dog" / "pipe.jpg")
    (photos / "dog" / "zero.jpg").symlink_to("/dev/zero")
    whole = open_for_evaluation(photos, "all")
    names = names_of(whole.split("all"))
    assert names == ["cat/0.jpg", "cat/1.jpg", "cat/2.jpg", "cat/again/9.jpg", "dog/0.jpg", "dog/1.jpg", "dog/2.jpg"]
    assert [path.relative_to(photos).as_posix() for path in find_images([photos])] == names
    assert "3 links to folders that were read already (cat/more, cat/up, dog/above)" in whole.text()
    assert left_out(whole)["read already"] == (3, ("cat/more", "cat/up", "dog/above"))
    assert left_out(whole)["dead link"] == (1, ("dog/gone.jpg",))
    assert left_out(whole)["not regular"] == (2, ("dog/pipe.jpg", "dog/zero.jpg"))


def test_a_folder_that_two_classes_share_is_said(tmp_path: Path) -> None:
    write_classes(tmp_path, 3)
    (tmp_path / "dog" / "others").symlink_to(tmp_path / "cat")
    dataset = open_dataset(tmp_path)
    assert sum(map(len, dataset.splits.values())) == 9
    assert "The folder dog/others is the same as cat: its images are in the data twice" in dataset.text()


def test_classes_are_in_natural_order(tmp_path: Path) -> None:
    write_classes(tmp_path, 2, tuple(map(str, range(12))))
    assert open_dataset(tmp_path).classes == tuple(map(str, range(12)))
    given = ["b10", "b9", "b9a", "b", "10", "9", "09", "a-2", "a-10", "é", "Z", "9" * 5000]
    assert natural_order(given) == (
        "09", "9", "10", "9" * 5000, "Z", "a-2", "a-10", "b", "b9", "b9a", "b10", "é",
    )  # fmt: skip
    synsets = [f"n0{number}" for number in range(1440764, 1440800)]
    assert list(natural_order(synsets)) == sorted(synsets)


def test_class_names_have_one_form_of_accents(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", 2, ("cafe\u0301", "tea"))
    write_classes(tmp_path / "test", 2, ("caf\u00e9", "tea"))
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("caf\u00e9", "tea")
    assert dataset.split("test").counts().tolist() == [2, 2]
    assert class_name("\ufeffcat ") == "cat"
    write_classes(tmp_path / "both", 2, ("cafe\u0301", "caf\u00e9", "tea"))
    both = open_dataset(tmp_path / "both", test_fraction=0)
    assert both.split("train").counts().tolist() == [4, 2]
    assert "The folders 'cafe\u0301', 'caf\u00e9' are one class" in both.text()


def test_classes_that_differ_only_in_case_are_named(tmp_path: Path) -> None:
    write_classes(tmp_path, 2, ("Cat", "cat", "big dog", "big_dog"))
    shown = open_dataset(tmp_path).text()
    assert "The classes 'Cat', 'cat' differ only in case or spaces" in shown
    assert "The classes 'big dog', 'big_dog' differ only in case or spaces" in shown


def test_a_copy_of_the_class_folders_inside_a_class_is_said(tmp_path: Path) -> None:
    write_classes(tmp_path, 2)
    write_classes(tmp_path / "backup", 2)
    assert "The class 'backup' holds folders named like classes ('cat', 'dog')" in open_dataset(tmp_path).text()


def test_folders_that_every_class_holds_may_be_the_classes(tmp_path: Path) -> None:
    for site in ("north", "south"):
        write_classes(tmp_path / site, 2)
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("north", "south")
    assert "Every class folder holds 'cat', 'dog': if these are the classes, put them at the top" in dataset.text()
    write_image(tmp_path / "south" / "0.jpg")
    assert "Every class folder" not in open_dataset(tmp_path).text()


def test_a_class_that_is_named_like_a_split_is_said(tmp_path: Path) -> None:
    write_classes(tmp_path, 2, ("cat", "dog", "test"))
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("cat", "dog", "test")
    assert (
        "The folder test/ is taken for a class, not for a split, because there are no folders in it" in dataset.text()
    )


def test_images_beside_the_splits_are_said(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", 3)
    write_image(tmp_path / "test" / "0.jpg")
    write_classes(tmp_path / "old_train", 3)
    write_image(tmp_path / "extra" / "0.jpg")
    dataset = open_dataset(tmp_path)
    assert dataset.split("train").counts().tolist() == [2, 2]
    assert left_out(dataset) == {
        "beside splits": (2, ("extra", "old_train")),
        "no class folders": (1, ("test",)),
    }


def test_a_split_beside_images_that_are_no_split_is_not_guessed(tmp_path: Path) -> None:
    write_classes(tmp_path / "test", 2)
    write_classes(tmp_path / "trian", 2)
    with pytest.raises(
        CompoundNetError, match=r"test/ is a split by its name, and 'trian' beside it is none: .*train/"
    ):
        open_dataset(tmp_path)


def test_images_without_class_folders_lead_to_the_list_beside_them(tmp_path: Path) -> None:
    write_image(tmp_path / "flat" / "0.jpg")
    (tmp_path / "flat" / "labels.csv").touch()
    with pytest.raises(CompoundNetError, match=r"no class folders here, only 1 image: .*flat/labels\.csv as the data"):
        open_dataset(tmp_path / "flat")
    write_image(tmp_path / "kaggle" / "train" / "0.jpg")
    write_image(tmp_path / "kaggle" / "test" / "1.jpg")
    (tmp_path / "kaggle" / "train.csv").touch()
    with pytest.raises(
        CompoundNetError, match=r"test/ and train/ hold images without class folders.*give .*kaggle/train\.csv as"
    ):
        open_dataset(tmp_path / "kaggle")


@pytest.mark.parametrize("folders", [("train", "test1"), ("train2017", "val2017")])
def test_numbered_splits_without_class_folders_are_no_classes(tmp_path: Path, folders: tuple[str, str]) -> None:
    for folder in folders:
        write_image(tmp_path / folder / "0.jpg")
    with pytest.raises(CompoundNetError, match="hold images without class folders"):
        open_dataset(tmp_path)


def test_images_that_cannot_be_read_here_are_counted_and_named(tmp_path: Path) -> None:
    suffix, advice = next(iter(unread_suffixes().items()))
    write_classes(tmp_path, 3)
    (tmp_path / "cat" / f"IMG_1{suffix.upper()}").touch()
    shown = open_dataset(tmp_path).text()
    assert f"1 image that cannot be read here (cat/IMG_1{suffix.upper()}): {advice}" in shown
    (tmp_path / "emu").mkdir()
    (tmp_path / "emu" / f"IMG_2{suffix}").touch()
    with pytest.raises(CompoundNetError, match=rf"class 'emu' is empty: .*its files: 1 \{suffix}: ") as error:
        open_dataset(tmp_path)
    assert advice in str(error.value)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"), ("Validation", "val"), ("DEV", "val"), ("tst", "test"), ("testset", "test"),
        ("test-images", "test"), ("trainingData", "train"), ("train_val", "train"),
        ("trains", None), ("contest", None), ("train_test", None), ("devices", None), ("valley", None),
    ],
)  # fmt: skip
def test_names_of_splits(name: str, split: str | None) -> None:
    read = split_name(name)
    assert (read.split if read else None) == split
    assert read is None or read.rest == ()


def test_the_understanding_is_values_too(tmp_path: Path) -> None:
    write_classes(tmp_path / "w" / "Train", 2)
    write_classes(tmp_path / "w" / "Test", 1)
    facts = json.loads(json.dumps(open_dataset(tmp_path / "w").facts()))
    assert facts["understanding"] == {
        "layout": "SPLIT/CLASS",
        "folder": str(tmp_path / "w"),
        "splits": {"train": "Train", "test": "Test"},
        "columns": {},
        "unused_columns": [],
        "encoding": None,
        "delimiter": None,
        "left_out": [],
    }
    assert facts["splits"] == {
        "train": {"count": 4, "per_class": [2, 2]},
        "test": {"count": 2, "per_class": [1, 1]},
    }
