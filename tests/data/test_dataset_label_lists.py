"""Lists with several labels an image, in all the forms in which people write them, and lists that only look so."""

from __future__ import annotations

from pathlib import Path

import pytest
from sample_images import write_classes

from compoundnet.base import CompoundNetError
from compoundnet.data import open_dataset
from compoundnet.data.dataset import Dataset
from compoundnet.data.label_cells import LabelsPerImage
from compoundnet.data.names import natural_order


def opened(folder: Path, *lines: str, name: str = "list.csv", labels: LabelsPerImage | None = None) -> Dataset:
    """A list of images 0.jpg to 3.jpg."""
    write_classes(folder, 4, ("images",))
    (folder / "images" / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return open_dataset(folder / "images" / name, test_fraction=0, labels=labels)


def labels_of(dataset: Dataset) -> dict[str, str]:
    """The labels of each image, with spaces between them."""
    split = dataset.split("train")
    assert split.multilabel
    return {
        split.image_name(index): " ".join(name for name, has in zip(split.classes, row, strict=True) if has)
        for index, row in enumerate(split.labels.tolist())
    }


EXPECTED = {"0.jpg": "cat dog", "1.jpg": "cat", "2.jpg": "bird dog", "3.jpg": ""}


@pytest.mark.parametrize(
    "lines",
    [
        ('"0.jpg","cat,dog"', '"1.jpg","cat"', '"2.jpg","dog, bird"', '"3.jpg",""'),
        ("0.jpg,cat|dog", "1.jpg,cat", "2.jpg,dog|bird", "3.jpg,"),
        ("0.jpg,cat;dog", "1.jpg,cat", "2.jpg,dog ; bird", "3.jpg,"),
        ("0.jpg,cat,dog", "1.jpg,cat", "2.jpg,dog,bird", "3.jpg"),
        ("image,labels", "0.jpg,cat,dog", "1.jpg,cat", "2.jpg,dog,bird", "3.jpg,"),
        ("0.jpg;cat,dog", "1.jpg;cat", "2.jpg;dog,bird", "3.jpg;"),
        ("0.jpg\tcat,dog", "1.jpg\tcat", "2.jpg\tdog,bird", "3.jpg\t"),
        ("filename;labels", "0.jpg;['cat', 'dog']", "1.jpg;['cat']", "2.jpg;['dog', 'bird']", "3.jpg;[]"),
        ("filename,labels", '0.jpg,"[""cat"",""dog""]"', '1.jpg,"[""cat""]"', '2.jpg,"[""dog"",""bird""]"', "3.jpg,[]"),
        ("image,choice", '0.jpg,"{""choices"": [""cat"", ""dog""]}"', "1.jpg,cat",
         '2.jpg,"{""choices"": [""dog"", ""bird""]}"', "3.jpg,"),
        ("cat dog bird", "0.jpg  1  1 -1", "1.jpg  1 -1 -1", "2.jpg -1  1  1", "3.jpg -1 -1 -1"),
        ("image_name,tags", "0,cat dog", "1,cat", "2,bird dog", "3,", "1,cat"),
        ("image,tag1,tag2", "0.jpg,cat,dog", "1.jpg,cat,", "2.jpg,dog,bird", "3.jpg,,"),
        ("filename,cat,dog,bird", "0.jpg,1.0,1.0,", "1.jpg,1.0,,", "2.jpg,0.0,1.0,1.0", "3.jpg,,,"),
        ("filename,cat,dog,bird", "0.jpg,1,1,0", "1.jpg,1,0,0", "2.jpg,0,1,1", "3.jpg,0,0,0"),
        ("filename,width,cat,dog,bird", "0.jpg,9,1,1,-1", "1.jpg,8,1,-1,-1", "2.jpg,9,-1,1,1", "3.jpg,9,-1,-1,-1"),
        ("filename;cat;dog;bird", "0.jpg;True;True;False", "1.jpg;True;False;False", "2.jpg;False;True;True",
         "3.jpg;False;False;False"),
    ],
)  # fmt: skip
def test_every_form_of_several_labels_is_read(tmp_path: Path, lines: tuple[str, ...]) -> None:
    dataset = opened(tmp_path, *lines)
    found = {image: " ".join(sorted(labels.split())) for image, labels in labels_of(dataset).items()}
    assert found == EXPECTED
    assert any("several labels an image" in note for note in dataset.notes)
    assert "3 labels, 1.2 an image on average, 1 image without any" in dataset.text()
    assert dataset.facts()["several_labels"] is True


def test_a_split_may_come_before_the_image_and_its_labels(tmp_path: Path) -> None:
    lines = ("TRAINING,gs://bucket/0.jpg,cat,dog", "TRAIN,gs://bucket/1.jpg,cat", "TEST,gs://bucket/2.jpg,dog")
    dataset = opened(tmp_path, *lines)
    assert labels_of(dataset) == {"0.jpg": "cat dog", "1.jpg": "cat"}
    assert dataset.split("test").labels.tolist() == [[False, True]]


def test_labels_between_spaces_and_as_many_columns_as_labels(tmp_path: Path) -> None:
    found = labels_of(opened(tmp_path / "spaces", "0.jpg cat dog", "1.jpg cat", "2.jpg dog", name="list.txt"))
    assert found == {"0.jpg": "cat dog", "1.jpg": "cat", "2.jpg": "dog"}
    found = labels_of(opened(tmp_path / "equal", "0.jpg,cat,dog", "1.jpg,dog,bird", "2.jpg,cat,bird"))
    assert found == {"0.jpg": "cat dog", "1.jpg": "bird dog", "2.jpg": "bird cat"}


def test_class_names_of_several_words_stay_one(tmp_path: Path) -> None:
    dataset = opened(tmp_path, "0.jpg,polar bear", "1.jpg,brown bear", "2.jpg,panda", "3.jpg,brown bear")
    assert dataset.classes == ("brown bear", "panda", "polar bear")
    dataset = opened(tmp_path / "brackets", "0.jpg,(none)", "1.jpg,crane (bird)", "2.jpg,crane", "3.jpg,(none)")
    assert dataset.classes == ("(none)", "crane", "crane (bird)")
    dataset = opened(tmp_path / "text", "0.jpg polar bear", "1.jpg panda", "2.jpg brown bear", name="list.txt")
    assert dataset.classes == ("brown bear", "panda", "polar bear")


def test_an_image_in_several_rows_has_the_labels_of_all(tmp_path: Path) -> None:
    dataset = opened(tmp_path, "path,label", "0.jpg,cat", "1.jpg,cat", "0.jpg,dog", "2.jpg,bird")
    assert labels_of(dataset) == {"0.jpg": "cat dog", "1.jpg": "cat", "2.jpg": "bird"}
    assert any("1 of 3 images are in several rows with different labels" in note for note in dataset.notes)
    with pytest.raises(
        CompoundNetError, match=r"row 3: 0\.jpg has the class 'dog' here and 'cat' in row 1.*--several-labels"
    ):
        opened(tmp_path, "path,label", "0.jpg,cat", "1.jpg,cat", "0.jpg,dog", "2.jpg,bird", labels="one")


def test_a_comma_in_class_names_stays_one_and_is_said(tmp_path: Path) -> None:
    lines = ("path,label", '0.jpg,"tench, Tinca tinca"', '1.jpg,"goldfish, Carassius auratus"', "2.jpg,hen")
    dataset = opened(tmp_path, *lines)
    assert dataset.classes == ("goldfish, Carassius auratus", "hen", "tench, Tinca tinca")
    assert not dataset.multilabel
    assert any(
        "a comma is taken as part of a class name" in note and "--several-labels" in note for note in dataset.notes
    )
    several = opened(tmp_path, *lines, labels="several")
    assert several.classes == ("Carassius auratus", "Tinca tinca", "goldfish", "hen", "tench")


def test_the_user_decides_about_a_separator(tmp_path: Path) -> None:
    dataset = opened(tmp_path, "path,label", "0.jpg,cat|dog", "1.jpg,cat", labels="one")
    assert dataset.classes == ("cat", "cat|dog")
    assert labels_of(opened(tmp_path, "path,label", "0.jpg,cat", "1.jpg,dog", labels="several")) == {
        "0.jpg": "cat",
        "1.jpg": "dog",
    }


def test_one_column_a_class_with_exactly_one_1_is_one_class(tmp_path: Path) -> None:
    lines = ("filename,cat,dog", "0.jpg,1,0", "1.jpg,0,1", "2.jpg,1,0")
    dataset = opened(tmp_path, *lines)
    assert dataset.classes == ("cat", "dog")
    assert dataset.split("train").labels.tolist() == [0, 1, 0]
    assert any("one column a class" in note for note in dataset.notes)
    assert labels_of(opened(tmp_path, *lines, labels="several")) == {"0.jpg": "cat", "1.jpg": "dog", "2.jpg": "cat"}
    with pytest.raises(CompoundNetError, match="row 2 has a 1 in 2 columns"):
        opened(tmp_path, "filename,cat,dog", "0.jpg,1,0", "1.jpg,1,1", labels="one")


def test_an_uncertain_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match="the column 'dog' has -1 beside 0 and 1"):
        opened(tmp_path, "filename,cat,dog", "0.jpg,1,0", "1.jpg,1,1", "2.jpg,0,-1")


def test_a_label_column_beside_flags_is_the_class(tmp_path: Path) -> None:
    dataset = opened(tmp_path, "filename,label,blurred", "0.jpg,1,0", "1.jpg,0,1", "2.jpg,1,0")
    assert dataset.classes == ("0", "1")
    dataset = opened(tmp_path, "filename,disease,healthy", "0.jpg,1,0", "1.jpg,0,1", "2.jpg,1,1")
    assert dataset.classes == ("disease", "healthy")
    assert dataset.multilabel


def test_an_empty_cell_among_single_classes_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match=r"row 2: label is empty.*--several-labels"):
        opened(tmp_path, "path,label", "0.jpg,cat", "1.jpg,", "2.jpg,dog")
    assert (
        labels_of(opened(tmp_path, "path,label", "0.jpg,cat", "1.jpg,", "2.jpg,dog", labels="several"))["1.jpg"] == ""
    )


def test_a_label_that_only_test_images_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match=r"row 3: the label 'bird' is not among those of the training images"):
        opened(tmp_path, "path,label,split", "0.jpg,cat|dog,train", "1.jpg,cat,train", "2.jpg,cat|bird,test")


def test_a_test_split_is_held_out_label_by_label(tmp_path: Path) -> None:
    write_classes(tmp_path, 40, ("images",))
    lines = [f"{index}.jpg,{'cat|dog' if index % 4 == 0 else 'cat' if index % 2 else 'dog'}" for index in range(40)]
    (tmp_path / "images" / "list.csv").write_text("\n".join(["path,label", *lines]))
    dataset = open_dataset(tmp_path / "images" / "list.csv")
    assert dataset.split("test").counts().tolist() == [6, 4]
    assert abs(len(dataset.split("test")) - 8) <= 1


def test_parquet_lists_are_several_labels(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    write_classes(tmp_path, 4, ("images",))
    columns = {"path": [f"{index}.jpg" for index in range(4)], "labels": [["cat", "dog"], ["cat"], ["dog", "bird"], []]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "images" / "list.parquet")
    dataset = open_dataset(tmp_path / "images" / "list.parquet", test_fraction=0)
    assert {name: " ".join(sorted(found.split())) for name, found in labels_of(dataset).items()} == EXPECTED


def test_class_folders_can_be_taken_as_labels(tmp_path: Path) -> None:
    write_classes(tmp_path, 3, ("cat", "dog"))
    dataset = open_dataset(tmp_path, test_fraction=0, labels="several")
    assert set(labels_of(dataset).values()) == {"cat", "dog"}


@pytest.mark.parametrize(
    "header",
    ["filename,class_0,class_1,class_2", "filename,0,1,2", "image,label1,label2,label3", "path,Tag 1,Tag 2,Tag 3"],
)
def test_numbered_columns_of_0_and_1_are_a_column_a_label(tmp_path: Path, header: str) -> None:
    names = tuple(header.split(",")[1:])
    one = opened(tmp_path / "one", header, "0.jpg,1,0,0", "1.jpg,0,1,0", "2.jpg,0,0,1", "3.jpg,0,1,0")
    assert one.classes == names
    assert one.split("train").labels.tolist() == [0, 1, 2, 1]
    several = opened(tmp_path / "several", header, "0.jpg,True,True,False", "1.jpg,False,False,False")
    assert labels_of(several) == {"0.jpg": f"{names[0]} {names[1]}", "1.jpg": ""}
    with pytest.raises(CompoundNetError, match=f"the column '{names[2]}' has -1 beside 0 and 1"):
        opened(tmp_path / "uncertain", header, "0.jpg,1,0,-1", "1.jpg,0,1,0", "2.jpg,0,1,1")


@pytest.mark.parametrize(
    "lines",
    [
        ("filename,class_0,class_1", "0.jpg,0.9,0.1", "1.jpg,1e-05,0.99", "2.jpg,1,0"),
        ("filename,bbox_1,bbox_2,bbox_3,bbox_4", "0.jpg,1,2,30,40", "1.jpg,2,3,30,40"),
        ("0.jpg,0.9,0.1", "1.jpg,0.1,0.9"),
        ("0.jpg,cat,1,2,30,40", "1.jpg,dog,2,3,30,40"),
    ],
)
def test_measurements_are_no_labels(tmp_path: Path, lines: tuple[str, ...]) -> None:
    with pytest.raises(CompoundNetError, match="it is not clear which"):
        opened(tmp_path, *lines)


def test_numbered_columns_hold_labels_by_name_or_by_number(tmp_path: Path) -> None:
    found = labels_of(opened(tmp_path / "numbers", "image,label_1,label_2", "0.jpg,3,7", "1.jpg,7,", "2.jpg,1,3"))
    assert found == {"0.jpg": "3 7", "1.jpg": "7", "2.jpg": "1 3"}
    found = labels_of(opened(tmp_path / "words", "image,tag1,tag2", "0.jpg,cat,", "1.jpg,dog,", "2.jpg,cat,dog"))
    assert found == {"0.jpg": "cat", "1.jpg": "dog", "2.jpg": "cat dog"}
    found = labels_of(opened(tmp_path / "without", "0.jpg,3,7", "1.jpg,7,2", "2.jpg,1,3"))
    assert found == {"0.jpg": "3 7", "1.jpg": "2 7", "2.jpg": "1 3"}


@pytest.mark.parametrize(
    "lines",
    [
        ("image,labels", '0.jpg,"[1, 0, 0]"', '1.jpg,"[0, 1, 1]"'),
        ("image,labels", "0.jpg,[1. 0. 0.]", "1.jpg,[0. 1. 1.]"),
        ("image,labels", '0.jpg,"1,0,0"', '1.jpg,"0,1,1"'),
        ("image,labels", "0.jpg,1 0 0", "1.jpg,0 1 1"),
        ("image,labels", "0.jpg,1,0,0", "1.jpg,0,1,1"),
        ("image,labels", "0.jpg,True|False", "1.jpg,False|False"),
    ],
)
def test_a_cell_of_0_and_1_names_no_label(tmp_path: Path, lines: tuple[str, ...]) -> None:
    with pytest.raises(CompoundNetError, match=r"row 1: .* says yes or no without naming a label; write the names"):
        opened(tmp_path, *lines)
    assert len(opened(tmp_path, *lines, labels="one").classes) == 2


def test_cells_of_the_classes_0_and_1_are_labels(tmp_path: Path) -> None:
    found = labels_of(opened(tmp_path, "image,labels", '0.jpg,"[0, 1]"', '1.jpg,"[1]"', "2.jpg,[]"))
    assert found == {"0.jpg": "0 1", "1.jpg": "1", "2.jpg": ""}


def test_an_uncertain_label_without_any_yes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match="the column 'dog' has -1 beside 0 and 1"):
        opened(tmp_path, "filename,cat,dog,bird", "0.jpg,1,0,1", "1.jpg,1,-1,0", "2.jpg,0,0,0")


@pytest.mark.parametrize("heading", ["species", "type", "diagnosis", "Finding Labels", "true_class"])
def test_a_class_column_in_words_beside_flags_is_the_class(tmp_path: Path, heading: str) -> None:
    header = f"filename,{heading},occluded,truncated"
    dataset = opened(tmp_path, header, "0.jpg,cat,0,1", "1.jpg,dog,1,1", "2.jpg,cat,0,0")
    assert dataset.classes == ("cat", "dog")
    assert dataset.split("train").labels.tolist() == [0, 1, 0]
    assert "not used: 'occluded', 'truncated'" in dataset.text()
    (note,) = (note for note in dataset.notes if "taken for the classes" in note and "not used" in note)
    assert f"the column '{heading}' is taken for the classes, and the 2 columns of yes and no are not used" in note


@pytest.mark.parametrize(
    ("headings", "rows", "classes"),
    [
        # What a picture is of, and in which view or by which means: three columns of yes and no at the least.
        ("type,cat,dog,bird", ("photo,1,1,0", "drawing,0,1,0", "photo,0,0,1"), ("cat", "dog", "bird")),
        ("age category,melanoma,nevus,wart", ("old,1,0,0", "young,0,0,0", "old,1,1,1"), ("melanoma", "nevus", "wart")),
        # Of a species few columns tell what it is, and these name none.
        ("species,occluded,cut,blurred", ("cat,1,0,0", "dog,0,0,0", "cat,1,1,1"), ("cat", "dog")),
        # One column with yes for each image names its class, whatever stands beside it.
        ("species,healthy,ill", ("cat,1,0", "dog,1,0", "cat,0,1"), ("healthy", "ill")),
        # Unless it says the same.
        ("species,cat,dog", ("cat,1,0", "dog,0,1", "cat,1,0"), ("cat", "dog")),
    ],
)
def test_a_column_in_words_beside_columns_of_labels(
    tmp_path: Path, headings: str, rows: tuple[str, ...], classes: tuple[str, ...]
) -> None:
    lines = [f"{number}.jpg,{row}" for number, row in enumerate(rows)]
    dataset = opened(tmp_path, f"filename,{headings}", *lines)
    assert dataset.classes == classes
    first = headings.partition(",")[0]
    (note,) = (note for note in dataset.notes if "not used" in note)
    taken = f"the column '{first}' is taken for the classes" if first == "species" and classes[0] == "cat" else "labels"
    assert taken in note and repr(first) in note


def test_a_column_about_the_labels_is_not_the_class(tmp_path: Path) -> None:
    dataset = opened(tmp_path, "filename,label_source,labels in total,cat,dog", "0.jpg,me,2,1,1", "1.jpg,you,1,0,1")
    assert labels_of(dataset) == {"0.jpg": "cat dog", "1.jpg": "dog"}
    dataset = opened(tmp_path, "filename,final_class,cat,dog", "0.jpg,0.5,1,1", "1.jpg,0.25,0,1")
    assert labels_of(dataset) == {"0.jpg": "cat dog", "1.jpg": "dog"}


def test_an_uncertain_label_with_the_name_of_a_class_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match="the column 'disease' has -1 beside 0 and 1"):
        opened(tmp_path, "filename,disease,healthy", "0.jpg,1,0", "1.jpg,0,1", "2.jpg,-1,0")


PLANTS = [
    f"{plant} {state}"
    for plant in ("Potato", "Tomato", "Pepper")
    for state in ("Early blight", "Late blight", "healthy")
]
FRUITS = [f"{state} {fruit}" for state in ("ripe", "unripe", "rotten") for fruit in ("apple", "banana", "pear")]
# As in PlantVillage: "Bacterial" and "leaf" have several places from the start, and "Pepper" is a name alone.
LEAVES = [
    *PLANTS, "Pepper bell Bacterial spot", "Tomato Bacterial spot", "Tomato Septoria leaf spot", "Tomato leaf mold",
    "Pepper", "Potato leaf mold", "Pepper bell leaf mold",
]  # fmt: skip
CARS = [f"{maker} {kind} {year}" for maker in ("Audi", "BMW") for kind in ("Coupe", "3 Sedan") for year in (2011, 2012)]


@pytest.mark.parametrize("names", [PLANTS, [*FRUITS, "other"], [*FRUITS, "very ripe apple"], LEAVES, CARS])
def test_class_names_that_combine_two_things_stay_one(tmp_path: Path, names: list[str]) -> None:
    write_classes(tmp_path, len(names), ("images",))
    rows = [f"{number}.jpg,{name}" for number, name in enumerate(names)]
    (tmp_path / "images" / "list.csv").write_text("\n".join(["path,label", *rows]))
    dataset = open_dataset(tmp_path / "images" / "list.csv", test_fraction=0)
    assert dataset.classes == natural_order(names)
    assert any("a space is taken as part of a class name" in note and "--several" in note for note in dataset.notes)
    several = open_dataset(tmp_path / "images" / "list.csv", test_fraction=0, labels="several")
    assert several.classes == natural_order({word for name in names for word in name.split()})


TAGS = ["a b", "b c", "a c", "a b c", "b", "a"]
WEATHER = [
    "haze primary", "agriculture clear primary water", "clear primary", "clear primary road", "haze primary water",
    "agriculture clear primary", "haze primary road", "clear primary water",
]  # fmt: skip


@pytest.mark.parametrize("cells", [TAGS, TAGS[:4], WEATHER, ["1 2", "1 3", "1 2 3", "1 4", "1 2 4"]])
def test_labels_between_spaces_stay_several(tmp_path: Path, cells: list[str]) -> None:
    write_classes(tmp_path, len(cells), ("images",))
    rows = [f"{number}.jpg,{cell}" for number, cell in enumerate(cells)]
    (tmp_path / "images" / "list.csv").write_text("\n".join(["path,label", *rows]))
    found = labels_of(open_dataset(tmp_path / "images" / "list.csv", test_fraction=0))
    assert list(found.values()) == cells
