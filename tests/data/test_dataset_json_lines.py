"""Lists of images in JSON Lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sample_images import write_classes
from split_names import names_of

from compoundnet.base import CompoundNetError, limits
from compoundnet.data.dataset import Dataset
from compoundnet.data.lookup import open_dataset
from compoundnet.data.tables import read_table


def written(folder: Path, *lines: object) -> Path:
    write_classes(folder)
    path = folder / "metadata.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def opened(folder: Path, *lines: object) -> Dataset:
    return open_dataset(written(folder, *lines), test_fraction=0)


def test_hugging_faces_metadata(tmp_path: Path) -> None:
    rows = [
        {"file_name": f"{name}/{n}.jpg", "label": name, "split": "train"} for name in ("cat", "dog") for n in (0, 1)
    ]
    rows[3]["split"] = "test"
    dataset = opened(tmp_path, *rows, "", "  ")
    assert dataset.classes == ("cat", "dog")
    assert names_of(dataset.split("train")) == ["cat/0.jpg", "cat/1.jpg", "dog/0.jpg"]
    assert names_of(dataset.split("test")) == ["dog/1.jpg"]


def test_labels_as_lists_are_several(tmp_path: Path) -> None:
    dataset = opened(
        tmp_path,
        {"file_name": "cat/0.jpg", "tags": ["cat", "in, doors"]},
        {"file_name": "dog/0.jpg", "tags": ["dog"]},
        {"file_name": "dog/1.jpg", "tags": []},
    )
    assert dataset.multilabel and dataset.classes == ("cat", "dog", "in, doors")
    assert dataset.split("train").labels.tolist() == [[True, False, True], [False, True, False], [False] * 3]


def test_fields_may_lack_and_objects_have_their_name_before_theirs(tmp_path: Path) -> None:
    table = read_table(
        written(
            tmp_path,
            "\ufeff" + json.dumps({"image": "a.jpg", "label": {"name": "cat"}}),
            {"image": "b\u2028.jpg", "label": {"name": "dog", "sure": True}, "note": None},
            {"label": {"name": 7}},
        )
    )
    assert table.headings == ("image", "label.name", "label.sure", "note")
    assert table.columns == (["a.jpg", "b\u2028.jpg", ""], ["cat", "dog", "7"], ["", "True", ""], ["", "", ""])


def nested(depth: int) -> object:
    return 1 if depth == 0 else {"a": nested(depth - 1)}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (('{"path": "a.jpg"}', "[1]"), r'line 2 is no JSON object: expected one a line, such as \{"path": "a.jpg"'),
        (('{"path": ',), "line 1 is no JSON: "),
        (("",), "is empty; expected the columns path, label"),
        ((nested(10),), "line 1: objects are nested more than 8 deep"),
        (("[" * 100_000,), "line 1 is no JSON"),
        (({str(n): n for n in range(limits.LIST_FIELDS + 1)},), "line 1: the lines have more than 2,000 different"),
    ],
    ids=["array", "cut", "empty", "nested", "deep", "wide"],
)
def test_what_is_no_list_is_refused(tmp_path: Path, lines: tuple[object, ...], message: str) -> None:
    with pytest.raises(CompoundNetError, match=message):
        opened(tmp_path, *lines)
