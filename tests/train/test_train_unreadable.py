"""Images that cannot be read do not end a training after its work: they are left out, named and not counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from small_model import write_small_model
from small_train import class_folders, small_network, small_recipe

from compoundnet.base import CompoundNetError
from compoundnet.base.machine import torch_threads
from compoundnet.data import Dataset, Split, open_dataset
from compoundnet.models import read_folder
from compoundnet.train import Hardware, LabelResult, Watcher, find_recipe, launch, override, plan_task, train
from compoundnet.train.counts import Tolerance
from compoundnet.train.run import run_folder
from compoundnet.train.teacher import Teacher

CLASSES = ("dark", "light")


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


class Notes(Watcher):
    def __init__(self) -> None:
        self.lines, self.steps = list[str](), 0

    def notify(self, text: str) -> None:
        self.lines.append(text)

    def stepped(self, step: int, loss: float) -> None:
        self.steps += 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "data", dict.fromkeys(CLASSES, 20))


def several(dataset: Dataset) -> Dataset:
    return msgspec.structs.replace(
        dataset, splits={name: split.with_several_labels() for name, split in dataset.splits.items()}
    )


def spoil(folder: Path, split: Split | None, *indices: int) -> list[str]:
    """Empty some files of a split, and return their names."""
    assert split is not None
    names = [split.image_name(index) for index in indices]
    for name in names:
        (folder / name).write_bytes(b"")
    return names


@pytest.mark.parametrize("labels", [1, 2])
def test_held_out_and_test_images_are_left_out_and_named_once(folder: Path, tmp_path: Path, labels: int) -> None:
    dataset = open_dataset(folder) if labels == 1 else several(open_dataset(folder))
    task = plan_task(small_recipe("epochs=2", "minival=8", "patience=0"), dataset, network=small_network())
    assert task.test is not None
    (held,) = spoil(folder, task.held, 2)
    first, second = spoil(folder, task.test, 0, 5)
    notes = Notes()
    outcome = train(task, tmp_path / "model", watcher=notes)
    said = [
        f"1 of 8 held-out images cannot be read and is left out: {held}: is empty",
        f"2 of 8 test images cannot be read and are left out: {first}: is empty; {second}: is empty",
    ]
    assert list(outcome.notes) == said
    assert [line for line in notes.lines if "left out" in line] == said
    assert outcome.result is not None and outcome.result.count == 6
    assert isinstance(outcome.result, LabelResult) == (labels == 2)
    assert outcome.calibration is not None and outcome.calibration.images == 7
    assert all(epoch.held_top1 is not None for epoch in outcome.history)


@pytest.mark.parametrize("most", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_too_many_unreadable_test_images_cost_the_result_alone(folder: Path, tmp_path: Path, most: int) -> None:
    recipe = small_recipe("epochs=1", "minival=0", "select=last", "patience=0", f"max_bad={most}")
    task = plan_task(recipe, open_dataset(folder), network=small_network())
    names = spoil(folder, task.test, *range(most + 1))
    outcome = train(task, tmp_path / "model")
    assert outcome.result is None and not (tmp_path / "model" / "result.json").exists()
    assert read_folder(tmp_path / "model").network.num_classes == 2
    (note,) = outcome.notes
    what = "a test image cannot be read" if not most else "more than 1 test images cannot be read"
    assert note.startswith(f"the test images were not evaluated: {what}: {names[0]}: is empty.")
    assert "repair them, or allow for more with --set max_bad=N. The model is written without a result" in note
    assert "remove" not in note  # the rest would be divided anew
    # As it advises.
    lenient = plan_task(override(recipe, [f"max_bad={most + 1}"]), open_dataset(folder), network=small_network())
    again = train(lenient, tmp_path / "model", resume=True)
    assert again.result is not None and again.result.count == 8 - (most + 1)


def test_no_result_comes_from_no_image(folder: Path, tmp_path: Path) -> None:
    recipe = small_recipe("epochs=1", "minival=0", "select=last", "patience=0")
    task = plan_task(recipe, open_dataset(folder), network=small_network())
    spoil(folder, task.test, *range(8))
    outcome = train(task, tmp_path / "model")
    assert outcome.result is None and "no test image can be read" in outcome.notes[0]


def test_a_probe_leaves_them_out_too(folder: Path, tmp_path: Path) -> None:
    start = write_small_model(tmp_path / "start", labels=CLASSES)
    task = plan_task(find_recipe("probe"), open_dataset(folder), start=start)
    names = spoil(folder, task.test, 3) + spoil(folder, task.train, 4)
    notes = Notes()
    outcome = train(task, tmp_path / "probe", watcher=notes)
    assert outcome.result is not None and outcome.result.count == 7
    assert sorted(outcome.notes) == sorted(f"{name}: is empty; it is left out" for name in names)
    assert all(notes.lines.count(line) == 1 for line in outcome.notes)
    strict = plan_task(override(find_recipe("probe"), ["max_bad=1"]), open_dataset(folder), start=start)
    spoil(folder, task.test, 0)
    outcome = train(strict, tmp_path / "strict")
    assert outcome.result is None and "the test images were not evaluated: more than 1 images" in outcome.notes[-1]


def test_a_teacher_of_whole_images_leaves_them_out(folder: Path, tmp_path: Path) -> None:
    teacher = write_small_model(tmp_path / "teacher", labels=CLASSES)
    recipe = small_recipe("epochs=1", "minival=0", "select=last", "patience=0", "distillation.view=whole")
    task = plan_task(recipe, open_dataset(folder), network=small_network(), teacher=teacher)
    content = (folder / task.train.image_name(3)).read_bytes()
    (name,) = spoil(folder, task.train, 3)
    outcome = train(task, tmp_path / "model")
    assert outcome.notes == (f"1 of 32 training images cannot be read and is left out: {name}: is empty",)
    # What is kept for a run that resumes lacks no image.
    kept = tmp_path / "teacher.safetensors"
    assert not (run_folder(tmp_path / "model") / kept.name).exists()
    seeing = Teacher(teacher, task.train, launch(Hardware(devices=1, accelerator="cpu")), features=False)
    notes: list[str] = []
    seeing.see_whole_images(kept, workers=0, tolerance=Tolerance(1, "training", notes.append))
    assert len(notes) == 1 and len(seeing.recall(torch.tensor([2, 4])).logits) == 2
    with pytest.raises(CompoundNetError, match=rf"{name} can be read now, but could not be .*--resume"):
        seeing.recall(torch.tensor([2, 3]))
    (folder / name).write_bytes(content)
    seeing.see_whole_images(kept, workers=0, tolerance=Tolerance(1, "training", notes.append))
    assert seeing.recall(torch.tensor([3])).logits.isfinite().all() and kept.exists()


def test_a_second_training_is_kept_until_the_model_is_written(folder: Path, tmp_path: Path) -> None:
    """A model that cannot be written costs no training, though no checkpoint is to be kept of a finished one."""
    output = tmp_path / "model"
    recipe = small_recipe("epochs=1", "minival=8", "patience=0", "refit=true", "keep_finished=none")
    task = plan_task(recipe, open_dataset(folder), network=small_network())

    class InTheWay(Notes):
        def stepped(self, step: int, loss: float) -> None:
            super().stepped(step, loss)
            output.write_bytes(b"somebody's file")

    with pytest.raises(CompoundNetError, match="--resume writes the model"):
        train(task, output, watcher=InTheWay())
    output.unlink()
    notes = Notes()
    outcome = train(task, output, watcher=notes, resume=True)
    assert notes.steps == 0 and outcome.refit is not None
    assert not list(run_folder(output).rglob("step-*.pt"))
