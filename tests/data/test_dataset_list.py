from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sample_images import write_classes, write_image
from split_names import names_of
from written_lists import CELLS, written

from compoundnet.base import CompoundNetError
from compoundnet.data.dataset import Dataset
from compoundnet.data.lookup import open_dataset, open_for_evaluation


def image_list(folder: Path, *rows: str, header: str = "path,label,split") -> Path:
    write_classes(folder)
    path = folder / "list.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def opened(folder: Path, *rows: str, header: str = "path,label,split") -> Dataset:
    return open_dataset(image_list(folder, *rows, header=header))


def test_a_list_gives_labels_and_splits(tmp_path: Path) -> None:
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


def lines(separator: str, *first: str, end: str = "\n") -> str:
    return end.join([*first, *(separator.join(row) for row in CELLS), "", ""])


@pytest.mark.parametrize(
    ("text", "name", "encoding", "said"),
    [
        (lines(",", "image,class"), "list.csv", "utf-8",
         "UTF-8, separated by commas (images in 'image', classes in 'class')"),
        (lines(";", "image;class", end="\r\n"), "list.csv", "utf-8", "separated by semicolons"),
        (lines("\t", "filename\tlabel"), "list.tsv", "utf-8", "separated by tabs (images in 'filename'"),
        (lines("|", "file|target"), "list.txt", "utf-8", "separated by bars"),
        (lines("    ", "file     class"), "list.txt", "utf-8", "separated by spaces"),
        (lines(" "), "list.txt", "utf-8", "The list has no headings: its first line is an image"),
        (lines(","), "list.csv", "utf-8", "images in 'column 1', classes in 'column 2'"),
        (lines(";", "sep=;", "Image Path;Class Name"), "list.csv", "utf-8", "images in 'Image Path'"),
        (lines(",", "image,class"), "list.csv", "utf-8-sig", "UTF-8"),
        (lines(",", "image,class"), "list.csv", "utf-16", "UTF-16"),
        (lines(",", "image,class"), "list.csv", "utf-16-be", "UTF-16"),
        (lines(",", "image,class"), "list.csv", "latin-1", "The list is not in UTF-8, so it was read as Latin-1"),
        (lines(",", "image,class", end="\r\n\r\n"), "list.csv", "utf-8", "2 classes"),
        (lines(",", "image,class").replace("/", "\\"), "list.csv", "utf-8",
         "6 paths of the list have Windows' separators"),
        (lines(",", "image,class").replace("photos", "C:\\Users\\me\\photos").replace("/", "\\"), "list.csv", "utf-8",
         "without C:/Users/me"),
        (lines(",", "image,class").replace("photos", "/home/me/photos"), "list.csv", "utf-8", "without /home/me,"),
        (lines(",", "image,class").replace("photos", "./photos"), "list.csv", "utf-8", "2 classes"),
        (lines(",", "image,class").replace("photos/", ""), "list.csv", "utf-8", "photos, because the images are there"),
        (lines(",", "id,class").replace(".jpg", ""), "list.csv", "utf-8", "6 paths of the list have no suffix"),
        (lines(",", "image,class").replace(".jpg", ".JPG"), "list.csv", "utf-8", "differ from the files in case"),
        (lines(",", "foto,klasse"), "list.csv", "utf-8", "The column 'klasse' is taken for the classes"),
        (lines(",", "filename,class").replace("class\n", "class,size\n").replace("café\n", "café,1\n")
         .replace("cat\n", "cat,1\n"), "list.csv", "utf-8", "not used: 'size'"),
        (lines(",", "image,class").replace("café\n", "café,\n").replace("cat\n", "cat, \n"), "list.csv", "utf-8",
         "2 classes"),
    ],
)  # fmt: skip
def test_lists_are_read_as_people_save_them(tmp_path: Path, text: str, name: str, encoding: str, said: str) -> None:
    dataset = written(tmp_path, text, name, encoding)
    assert dataset.classes == ("café", "cat")
    assert dataset.split("train").labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert [dataset.split("train").read(number) for number in range(6)] == [
        (tmp_path / path).read_bytes() for path, _ in CELLS
    ]
    assert said in dataset.text()


@pytest.mark.parametrize(
    "header",
    ["image,class", "file,label", "filename,category", "img_path,target", "Image Name,Species", "id,class", "path,y",
     "image_id,breed", "FILE,TAG", "fname,labels", "image,choice", "image_path,tag_name"],
)  # fmt: skip
def test_usual_headings_are_known(tmp_path: Path, header: str) -> None:
    dataset = written(tmp_path, lines(",", header))
    assert dataset.understanding is not None
    assert list(dataset.understanding.columns.values()) == header.split(",")
    assert dataset.notes == ()


@pytest.mark.parametrize("classes", [("disease", "healthy"), ("photo", "drawing"), ("kind", "type"), ("id", "name")])
@pytest.mark.parametrize("delimiter", [",", "\t", " "])
def test_a_row_with_an_image_is_no_heading_whatever_its_class(
    tmp_path: Path, classes: tuple[str, str], delimiter: str
) -> None:
    files = [f"leaf{number}.jpg" for number in range(6)]
    for number, file in enumerate(files):
        write_image(tmp_path / file, number)
    rows = [f"{file}{delimiter}{name}" for file, name in zip(files, classes * 3, strict=True)]
    dataset = written(tmp_path, "\n".join(rows))
    assert dataset.classes == tuple(sorted(classes))
    assert len(dataset.split("train")) == 6
    assert "The list has no headings: its first line is an image" in dataset.text()


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        (
            "id_code,diagnosis",
            lambda path, name: f"{path[:-4]},{name}",
            "'id_code' is taken for the images, because no",
        ),
        ("Image,Id", lambda path, name: f"{path},{name}", "'Id' is taken for the classes, because no other is left"),
    ],
)
def test_of_two_columns_the_other_needs_no_heading(
    tmp_path: Path, header: str, row: Callable[[str, str], str], said: str
) -> None:
    dataset = written(tmp_path, "\n".join([header, *(row(path, name) for path, name in CELLS)]))
    assert dataset.classes == ("café", "cat")
    assert said in dataset.text()


@pytest.mark.parametrize("header", ["label,confidence", "emotion,pixels"])
def test_a_column_that_names_no_files_is_not_taken_for_the_images(tmp_path: Path, header: str) -> None:
    cell = "0.5" if "confidence" in header else "70 71 72"
    with pytest.raises(CompoundNetError, match=f"which column holds the image; found {header.replace(',', ', ')}"):
        written(tmp_path, "\n".join([header, *(f"{name},{cell}" for _, name in CELLS)]))


def test_a_first_line_that_counts_the_images_is_none(tmp_path: Path) -> None:
    rows = [f"{path}   {name}" for path, name in CELLS]
    for header in ([], ["image_name  category_label"]):
        dataset = written(tmp_path, "\n".join([str(len(rows)), *header, *rows]))
        assert dataset.classes == ("café", "cat") and len(dataset.split("train")) == 6


@pytest.mark.parametrize("headings", ["path,label", "# path,label", "id label", "# id label", ""])
def test_comments_at_the_top_are_left_out(tmp_path: Path, headings: str) -> None:
    write_classes(tmp_path)
    separator = " " if headings.endswith("d label") else ","
    rows = [f"{name}/{number}.jpg{separator}{name}" for name in ("cat", "dog") for number in range(5)]
    text = "\n".join(["# made by a tool", "# image labels", *filter(None, [headings]), *rows, ""])
    (tmp_path / "list.txt").write_text(text)
    dataset = open_dataset(tmp_path / "list.txt")
    assert sum(map(len, dataset.splits.values())) == 10 and dataset.classes == ("cat", "dog")
    assert "the first 2 lines that start with # were left out" in dataset.notes


def test_an_image_whose_name_starts_as_comments_do_is_none(tmp_path: Path) -> None:
    for number in range(6):
        write_image(tmp_path / f"#{number}.jpg")
    (tmp_path / "list.csv").write_text("".join(f"#{number}.jpg,{'ab'[number % 2]}\n" for number in range(6)))
    assert sum(map(len, open_dataset(tmp_path / "list.csv").splits.values())) == 6


def test_a_list_of_images_in_two_folders_names_both(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        for number in range(4):
            write_image(tmp_path / folder / f"{number}.png", number)
    dataset = written(tmp_path, "\n".join(["image,label", *(f"{number}.png,{number % 2}" for number in range(4))]))
    assert f"/images, because the images are there; {tmp_path / 'masks'} hold files of the same" in dataset.text()


def test_a_heading_with_the_word_is_taken_where_there_is_one(tmp_path: Path) -> None:
    rows = [f"{path},{name},{20 + place},50%" for place, (path, name) in enumerate(CELLS)]
    dataset = written(tmp_path, "\n".join(["Image File Name,Finding Label,Age,Confidence", *rows]))
    assert dataset.classes == ("café", "cat")
    assert "The column 'Finding Label' is taken for the classes, because of its heading" in dataset.text()
    with pytest.raises(CompoundNetError, match="found picture, gold_label, other_label, x"):
        written(tmp_path, "\n".join(["picture,gold_label,other_label,x", *rows]))


def test_of_several_columns_the_fitting_ones_are_taken(tmp_path: Path) -> None:
    rows = [f"{place},{path},{int(name == 'cat')},{name},640" for place, (path, name) in enumerate(CELLS)]
    dataset = written(tmp_path, "\n".join([",image,label,class_name,width", *rows]))
    assert dataset.classes == ("café", "cat")
    assert dataset.understanding is not None
    assert dataset.understanding.columns == {"image": "image", "class": "class_name"}
    assert dataset.understanding.unused_columns == ("column 1", "label", "width")
    numbered = written(
        tmp_path, "\n".join(f"{place}\t{name}\t{path}" for place, (path, name) in enumerate(CELLS)), "a.lst"
    )
    assert numbered.classes == ("café", "cat")


def test_classes_of_a_list_are_in_the_order_of_the_folders(tmp_path: Path) -> None:
    names = tuple(map(str, range(12)))
    write_classes(tmp_path, 2, names)
    rows = [f"{name}/{number}.jpg,{name}" for number in range(2) for name in reversed(names)]
    (tmp_path / "list.csv").write_text("\n".join(["image,class", *rows]))
    assert open_dataset(tmp_path / "list.csv").classes == open_dataset(tmp_path).classes == names


def test_missing_images_are_counted_and_may_be_left_out(tmp_path: Path) -> None:
    write_classes(tmp_path)
    rows = [f"{name}/{number}.jpg,{name}" for name in ("cat", "dog") for number in range(7)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows]))
    with pytest.raises(
        CompoundNetError, match=r"row 6: there is no file cat/5\.jpg in .*; 4 of 14 images.*--allow-missing"
    ):
        open_dataset(tmp_path / "list.csv")
    dataset = open_dataset(tmp_path / "list.csv", allow_missing=True)
    assert sum(map(len, dataset.splits.values())) == 10
    assert "4 of 14 images that the list names do not exist, and were left out" in dataset.text()


def test_an_image_that_is_listed_twice_counts_once(tmp_path: Path) -> None:
    rows = ["cat/0.jpg,cat", "dog/0.jpg,dog", "cat/1.jpg,cat", "./cat/0.jpg,cat", "dog/1.jpg,dog"]
    dataset = opened(tmp_path, *rows, header="path,label")
    assert sum(map(len, dataset.splits.values())) == 4
    assert "1 rows repeat an image" in dataset.text()
    with pytest.raises(CompoundNetError, match=r"row 6: cat/0\.jpg has the class 'dog' here and 'cat' in row 1"):
        open_dataset(image_list(tmp_path, *rows, "cat/0.jpg,dog", header="path,label"), labels="one")
    leaking = opened(tmp_path, "cat/0.jpg,cat,train", "dog/0.jpg,dog,train", "cat/0.jpg,cat,test")
    assert names_of(leaking.split("test")) == ["cat/0.jpg"]
    assert "1 images are listed in two splits" in leaking.text()
    rows = ["cat/0.jpg,cat,train", "dog/0.jpg,dog,train", *["cat/0.jpg,cat,test"] * 2, "cat/0.jpg,cat,val"]
    boxes = opened(tmp_path, *rows)
    assert {name: names_of(split) for name, split in boxes.splits.items()} == {
        "train": ["cat/0.jpg", "dog/0.jpg"], "val": ["cat/0.jpg"], "test": ["cat/0.jpg"]
    }  # fmt: skip
    assert "1 rows repeat an image" in boxes.text() and "1 images are listed in two splits" in boxes.text()


@pytest.mark.parametrize("split", ["test", "val"])
def test_a_list_without_training_images_can_be_evaluated_on(tmp_path: Path, split: str) -> None:
    rows = [f"cat/0.jpg,cat,{split}", f"dog/0.jpg,dog,{split}", f"dog/1.jpg,dog,{split}"]
    dataset = opened(tmp_path, *rows)
    assert (dataset.evaluation, list(dataset.splits), dataset.classes) == (split, [split], ("cat", "dog"))
    assert dataset.notes == ("there are no training images: this data can only be evaluated on",)
    whole = open_for_evaluation(tmp_path / "list.csv", "all").split("all")
    assert (len(whole), whole.labels.tolist()) == (3, [0, 1, 1])
    with pytest.raises(CompoundNetError, match="no split named 'train'"):
        dataset.split("train")


def test_a_list_of_which_only_the_test_images_are_here_can_be_evaluated_on(tmp_path: Path) -> None:
    rows = ["elsewhere/0.jpg,cat,train", "elsewhere/1.jpg,dog,train", "cat/0.jpg,cat,test", "dog/0.jpg,dog,test"]
    with pytest.raises(CompoundNetError, match="--allow-missing"):
        opened(tmp_path, *rows)
    dataset = open_dataset(tmp_path / "list.csv", allow_missing=True)
    assert (list(dataset.splits), names_of(dataset.split("test"))) == (["test"], ["cat/0.jpg", "dog/0.jpg"])
    assert "There are no training images: this data can only be evaluated on" in dataset.text()
    assert "2 of 4 images that the list names do not exist" in dataset.text()


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["cat/0.jpg,cat,1"], "path,one,two", "not clear which column holds the class; found path, one, two"),
        ([], "path,label", "no rows"),
        (["cat/0.jpg,cat,train", "dog/0.jpg,,train"], "path,label,split", "row 2: label is empty"),
        (["cat/0.jpg,cat,train,extra"], "path,label,split", "row 1 has 4 fields"),
        (["cat/0.jpg,cat,more"], "path,label,split", "row 1: split must be train, val or test, got 'more'"),
        (["../cat/0.jpg,cat,train"], "path,label,split", "row 1: ../cat/0.jpg leads out of the list's folder"),
        (["cat/00.jpg,cat,train"], "path,label,split", "row 1: there is no file"),
        (["cat/0.jpg,cat,train", "cat/1.jpg,cat,test"], "path,label,split", "only the class 'cat'"),
        (["cat/0.jpg,cat,train", "dog/0.jpg,dogs,test"], "path,label,split", "row 2: the class 'dogs' is not among"),
    ],
)
def test_bad_lists_say_what_is_wrong_and_where(tmp_path: Path, rows: list[str], header: str, message: str) -> None:
    with pytest.raises(CompoundNetError, match=message):
        opened(tmp_path, *rows, header=header)


def test_other_files_and_missing_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.xlsx").write_bytes(b"")
    with pytest.raises(CompoundNetError, match=r"list of images that ends in \.csv, .*Save this sheet as CSV"):
        open_dataset(tmp_path / "list.xlsx")
    with pytest.raises(CompoundNetError, match="there is no file or folder"):
        open_dataset(tmp_path / "list.csv")
    (tmp_path / "photos.zip").write_bytes(b"")
    with pytest.raises(CompoundNetError, match="Unpack this archive"):
        open_dataset(tmp_path / "photos.zip")
    (tmp_path / "excel.csv").write_bytes(b"PK\x03\x04")
    with pytest.raises(CompoundNetError, match="is an Excel file or an archive, not text; save it as CSV"):
        open_dataset(tmp_path / "excel.csv")
    (tmp_path / "empty.csv").write_bytes(b"\n")
    with pytest.raises(CompoundNetError, match="is empty; expected the columns path, label"):
        open_dataset(tmp_path / "empty.csv")
    (tmp_path / "broken.csv").write_bytes(b"path,label\n\x00\x01,x\n")
    with pytest.raises(CompoundNetError, match="is not text"):
        open_dataset(tmp_path / "broken.csv")


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("image,label,type", ("scan", "photo", "scan", "photo", "scan", "photo")),
        ("image,target,tags", ("small", "red", "small", "red", "red", "small")),
        ("image,y,kind", ("a", "a", "b", "b", "c", "d")),
        ("image,class_id,species", ("cat", "cat", "cat", "dog", "dog", "")),
    ],
)
def test_numbers_of_classes_stay_where_no_column_names_them(
    tmp_path: Path, header: str, values: tuple[str, ...]
) -> None:
    rows = [f"{path},{(place // 3) + 3},{values[place]}" for place, (path, _) in enumerate(CELLS)]
    dataset = written(tmp_path, "\n".join([header, *rows]))
    assert dataset.classes == ("3", "4")
    assert dataset.split("train").labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert f"classes in {header.split(',')[1]!r}" in dataset.text()


@pytest.mark.parametrize("header", ["image,target,tags", "image,class_id,type", "image,label,class_name"])
def test_a_column_that_names_each_number_is_the_class(tmp_path: Path, header: str) -> None:
    rows = [f"{path},{place // 3},{name}" for place, (path, name) in enumerate(CELLS)]
    assert written(tmp_path, "\n".join([header, *rows])).classes == ("café", "cat")


@pytest.mark.parametrize("separator", ["/", "\\"])
@pytest.mark.parametrize("count", [1, 60])
def test_a_cell_of_thousands_of_folders_is_a_missing_image(tmp_path: Path, separator: str, count: int) -> None:
    rows = [f"{separator.join('abcd' * 2500)}{row}.jpg,cat" for row in range(count)]
    path = image_list(tmp_path, "cat/0.jpg,cat", "dog/0.jpg,dog", *rows, header="path,label")
    with pytest.raises(CompoundNetError, match="row 3: there is no file a"):
        open_dataset(path)
    assert len(open_dataset(path, allow_missing=True, test_fraction=0).split("train")) == 2
