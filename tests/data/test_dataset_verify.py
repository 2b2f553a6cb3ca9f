from __future__ import annotations

import json
from pathlib import Path

import pytest
from sample_images import write_classes
from split_names import names_of
from typer.testing import CliRunner

from compoundnet.base import CompoundNetError
from compoundnet.cli.data import app
from compoundnet.data.lookup import open_dataset
from compoundnet.data.verification import BadImage, verify


def broken(folder: Path) -> Path:
    write_classes(folder / "train", 4)
    write_classes(folder / "test", 2)
    (folder / "train/cat/1.jpg").write_bytes((folder / "train/cat/1.jpg").read_bytes()[:-200])
    (folder / "train/dog/2.jpg").write_bytes(b"<html>not found</html>")
    (folder / "test/dog/0.jpg").write_bytes(b"")
    return folder


def test_every_bad_image_is_named_with_its_reason(tmp_path: Path) -> None:
    steps: list[int] = []
    result = verify(open_dataset(broken(tmp_path)), progress=steps.append)
    assert result.counts == {"train": 8, "test": 4}
    assert [(bad.split, bad.name) for bad in result.bad] == [
        ("train", "cat/1.jpg"),
        ("train", "dog/2.jpg"),
        ("test", "dog/0.jpg"),
    ]
    assert result.bad[0].reason.startswith("cannot be decoded: ")
    assert "not an image" in result.bad[1].reason
    assert sum(steps) == 12


def test_a_good_data_set_has_none() -> None:
    assert verify(open_dataset("digits"), workers=1).bad == ()


def test_a_file_that_has_gone_is_a_bad_image(tmp_path: Path) -> None:
    dataset = open_dataset(write_classes(tmp_path))
    (tmp_path / "cat/0.jpg").unlink()
    split = next(name for name in dataset.splits if "cat/0.jpg" in names_of(dataset.split(name)))
    assert verify(dataset).bad == (BadImage(split, "cat/0.jpg", "cannot be read: No such file or directory"),)


def test_the_command_fails_and_lists_them(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["verify", str(broken(tmp_path)), "--json"])
    assert isinstance(result.exception, CompoundNetError)
    assert "3 of 12 images cannot be read" in str(result.exception)
    assert len(json.loads(result.stdout)["bad"]) == 3


def test_the_command_says_how_many_were_opened_and_what_was_assumed(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["verify", str(write_classes(tmp_path))])
    assert result.exit_code == 0
    assert result.stdout == "8 train, 2 test images opened\n"
    assert "no test split" in result.stderr


def test_list_and_describe_show_the_catalogue() -> None:
    listed = json.loads(CliRunner().invoke(app, ["list", "--json"]).stdout)
    assert [row["name"] for row in listed][:3] == ["digits", "cifar10", "cifar100"]
    assert "Birdsnap" in CliRunner().invoke(app, ["list"]).stdout
    described = CliRunner().invoke(app, ["describe", "oxford-iiit-pets"]).stdout
    assert "3,669 images (the paper prints 3,369)" in described
    assert json.loads(CliRunner().invoke(app, ["describe", "flowers", "--json"]).stdout)["metric"] == "mean_per_class"


def test_describe_counts_a_folder(tmp_path: Path) -> None:
    document = json.loads(CliRunner().invoke(app, ["describe", str(write_classes(tmp_path)), "--json"]).stdout)
    assert document["splits"]["train"] == {"count": 8, "per_class": [4, 4]}
    assert "2 classes: cat, dog" in CliRunner().invoke(app, ["describe", str(tmp_path)]).stdout


def test_describe_of_nothing_known_suggests() -> None:
    result = CliRunner().invoke(app, ["describe", "food-101"])
    with pytest.raises(CompoundNetError, match="did you mean food101"):
        raise result.exception or AssertionError


def test_shard_writes_a_folder_that_opens(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets")
    result = CliRunner().invoke(app, ["shard", str(tmp_path / "pets"), "-o", str(tmp_path / "shards")])
    assert "2 shards" in result.stderr
    assert len(open_dataset(tmp_path / "shards").split("train")) == 8
