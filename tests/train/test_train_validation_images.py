"""Validation images beside test images: they are the held-out ones, or a note says that they are not used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from small_model import write_small_model
from small_train import CLASSES, class_folders, small_dataset, small_network, small_recipe

from compoundnet.base import CompoundNetError
from compoundnet.base.machine import torch_threads
from compoundnet.data import Dataset, open_dataset
from compoundnet.data.holdout import hold_out
from compoundnet.train import Recipe, Task, find_recipe, plan_task, train
from compoundnet.train.identity import check_identity, identity

AUTO = ("minival=auto", "select=last", "patience=0")


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


def with_validation(images: int = 18, train_images: int = 60) -> Dataset:
    """Noise of three classes: training, validation and test images."""
    dataset = small_dataset(train=train_images + images)
    kept, validation = hold_out(dataset.split("train"), images, name="val")
    return msgspec.structs.replace(dataset, splits={"train": kept, "val": validation, "test": dataset.split("test")})


def planned(*settings: str, dataset: Dataset | None = None, calibrated: bool = True) -> Task:
    return plan_task(
        small_recipe(*settings), dataset or with_validation(), network=small_network(), calibrated=calibrated
    )


def remarks(task: Task) -> list[str]:
    return [note for note in task.notes if "validation images" in note]


@pytest.mark.parametrize("settings", [(), ("select=best",), ("patience=3",)])
def test_they_are_the_held_out_ones(settings: tuple[str, ...]) -> None:
    for train_images in (60, 1200):  # of 1,200 training images a tenth would be held out
        dataset = with_validation(train_images=train_images)
        task = planned(*AUTO, *settings, dataset=dataset)
        assert task.held is not None and list(task.held.labels) == list(dataset.split("val").labels)
        assert (len(task.train), task.whole) == (train_images, None)
        assert [note for note in task.notes if "held" in note] == remarks(task)
        assert remarks(task) == [
            "the 18 validation images are the held-out ones: epochs are evaluated on them, and no training image is"
            " held out"
        ]


@pytest.mark.parametrize(
    ("minival", "held", "why"),
    [
        ("12", 12, "minival = 12 holds out training images; --set minival=auto takes the validation images"),
        ("0", 0, "minival = 0 holds nothing out; --set minival=auto takes them as the held-out images"),
    ],
)
def test_a_number_is_kept_and_told(minival: str, held: int, why: str) -> None:
    task = planned(*AUTO, f"minival={minival}")
    assert (len(task.train), len(task.held) if task.held is not None else 0) == (60 - held, held)
    assert remarks(task) == [f"the 18 validation images are not used: {why}"]


def test_without_test_images_they_are_the_test_images() -> None:
    dataset = with_validation()
    dataset = msgspec.structs.replace(dataset, splits={name: dataset.split(name) for name in ("train", "val")})
    task = planned(*AUTO, dataset=dataset)
    assert task.held is None and task.test is not None and len(task.test) == 18
    assert remarks(task) == []


def test_a_probe_does_not_use_them_and_says_so(tmp_path: Path) -> None:
    start = write_small_model(tmp_path / "start", labels=CLASSES)
    task = plan_task(find_recipe("probe"), with_validation(), start=start)
    assert task.held is None
    assert remarks(task) == [
        "the 18 validation images are not used: a probe is judged and calibrated by cross-validation"
    ]


def test_they_decide_and_all_images_are_trained_on_at_the_end(tmp_path: Path) -> None:
    task = planned(*AUTO, "select=best", "refit=true", "epochs=1")
    assert task.whole is not None
    names = [task.whole.image_name(number) for number in range(len(task.whole))]
    assert len(set(names)) == 78 and task.held is not None and names[60] == task.held.image_name(0)
    assert (np.asarray(task.whole[60][0]) == np.asarray(task.held[0][0])).all()
    assert any("all 78 are trained on from the start" in note for note in task.notes)
    done = train(task, tmp_path / "model", loggers=[])
    assert done.history[0].held_top1 is not None and done.calibration is not None
    assert done.calibration.images == 18
    assert done.refit is not None and "on all 78 images" in (tmp_path / "model" / "README.md").read_text()


def test_a_class_that_none_of_them_has_is_no_problem(tmp_path: Path) -> None:
    dataset = with_validation()
    few = dataset.split("val").subset(np.flatnonzero(dataset.split("val").labels != 2))
    dataset = msgspec.structs.replace(dataset, splits=dataset.splits | {"val": few})
    done = train(planned(*AUTO, "epochs=1", dataset=dataset), tmp_path / "model", loggers=[])
    assert done.history[0].held_mean_per_class is not None and done.calibration is not None


def test_they_choose_the_thresholds_of_several_labels(tmp_path: Path) -> None:
    dataset = with_validation()
    splits = {name: split.with_several_labels() for name, split in dataset.splits.items()}
    task = planned(*AUTO, "epochs=1", "balance=none", dataset=msgspec.structs.replace(dataset, splits=splits))
    done = train(task, tmp_path / "model", loggers=[])
    assert done.thresholds is not None and done.history[0].held_map is not None
    assert len(task.train) == 60


def test_few_images_of_several_labels_are_all_trained_on() -> None:
    """Nobody asked for held-out images: a tenth of five is none, and labels that one image has each leave none."""

    def several(labels: list[list[int]]) -> Dataset:
        rows = np.array(labels, np.bool_)
        split = msgspec.structs.replace(small_dataset(len(rows)).split("train"), labels=rows)
        return Dataset("few", {"train": split})

    five, own = several([[1, 1, 1]] * 5), several([*np.eye(3, dtype=int).tolist()])
    for dataset, why in (
        (five, "cannot hold 0.1 of 5 train images out as minival: give a count from 1 to 4, or a fraction from 0.2 to"),
        (several([[1, 1, 0, 0, 0, 0, 0, 0], *np.eye(8, dtype=int)[2:].tolist()]), "each has a label that no other"),
    ):
        task = planned(*AUTO, "balance=none", dataset=dataset)
        assert task.held is None and len(task.train) == len(dataset.split("train"))
        assert any("no training images are held out, so all are trained on: " in note for note in task.notes)
        assert any(why in note for note in task.notes)
    for asked in (["minival=1"], [*AUTO, "select=best"]):
        with pytest.raises(CompoundNetError, match=r"cannot hold .* of 3 train images out as minival"):
            planned("select=last", "patience=0", "balance=none", *asked, dataset=own)


def test_a_run_goes_on_with_the_same_ones_only() -> None:
    before, other = identity(planned(*AUTO)), identity(planned(*AUTO, dataset=with_validation(images=15)))
    assert check_identity(before, identity(planned(*AUTO)), "run").settings == ()
    with pytest.raises(CompoundNetError, match="held-out images is 18 there and 15 here"):
        check_identity(before, other, "run")


def test_folders_of_three_splits_are_read_so(tmp_path: Path) -> None:
    for name, count in {"train": 6, "val": 3, "test": 2}.items():
        class_folders(tmp_path / "photos" / name, {"dark": count, "light": count})
    recipe: Recipe = small_recipe(*AUTO, "refit=true")
    task = plan_task(recipe, open_dataset(tmp_path / "photos"), network=small_network(2))
    assert task.held is not None and task.held.name == "val" and len(task.held) == 6
    assert task.whole is not None and len(task.whole) == 18 and task.whole.image(17).size == (24, 24)
