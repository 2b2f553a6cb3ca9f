"""Distillation: the teacher's classes, what it sees, the losses, and a student that follows its teacher."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from small_model import write_small_model
from small_train import CLASSES, small_dataset, small_network, small_recipe

from compoundnet.base import CompoundNetError
from compoundnet.base.images import Reading
from compoundnet.base.machine import torch_threads
from compoundnet.data import Dataset
from compoundnet.data.loader import loader, normalise
from compoundnet.models import ModelFolder, Postprocess, Preprocess, load, write_folder
from compoundnet.train import Hardware, Task, launch, plan_task, train
from compoundnet.train.losses import similarity_loss, teacher_loss
from compoundnet.train.recipe_parts import Distillation
from compoundnet.train.teacher import Teacher


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """A teacher at 48 px that is nearly always right."""
    recipe = small_recipe("epochs=8", "minival=0", "select=last", "patience=0", "ema_decay=0.9", "augment=none")
    task = plan_task(recipe.replace(resolution=48), small_dataset(240), network=small_network())
    outcome = train(task, tmp_path_factory.mktemp("teacher") / "model")
    assert outcome.result is not None and outcome.result.top1 > 0.8
    return outcome.model


def with_labels(teacher: ModelFolder, folder: Path, labels: tuple[str, ...] | None) -> ModelFolder:
    """The same teacher with other names, and as many more classes."""
    state = load(teacher).state_dict()
    more = len(labels or CLASSES) - len(CLASSES)
    state["classifier.weight"] = torch.cat([state["classifier.weight"], torch.ones(more, 32)])
    state["classifier.bias"] = torch.cat([state["classifier.bias"], torch.ones(more)])
    network = teacher.network.replace(num_classes=len(labels or CLASSES))
    return write_folder(folder, network, state, teacher.preprocess, labels=labels, readme="For tests.\n")


def task_of(teacher: ModelFolder, *settings: str, images: int = 60) -> Task:
    recipe = small_recipe("minival=0", "select=last", "patience=0", *settings)
    return plan_task(recipe, small_dataset(images), network=small_network(), teacher=teacher)


def test_the_loss_is_the_divergence_at_the_temperature() -> None:
    logits, theirs = torch.randn(5, 3), torch.randn(5, 3)
    how = Distillation(temperature=3)
    p, q = (theirs / 3).softmax(1), (logits / 3).softmax(1)
    expected = 9 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(teacher_loss(logits, p, how), expected)
    assert float(teacher_loss(theirs, p, how)) == pytest.approx(0, abs=1e-6)


def test_features_are_compared_by_how_alike_they_make_the_images() -> None:
    features = torch.randn(6, 8)
    turned = torch.linalg.qr(torch.randn(20, 8)).Q
    assert float(similarity_loss(features, 5 * features @ turned.T)) == pytest.approx(0, abs=1e-5)
    assert float(similarity_loss(features, torch.randn(6, 20))) > 0.1


@pytest.mark.parametrize("names", [CLASSES, ("light", "other", "grey", "dark")])
def test_classes_are_matched_by_name(taught: ModelFolder, tmp_path: Path, names: tuple[str, ...]) -> None:
    named = with_labels(taught, tmp_path / "named", names)
    fabric = launch(Hardware(devices=1, accelerator="cpu"))
    teacher = Teacher(named, small_dataset().split("train"), fabric, features=False)
    images = torch.randn(4, 3, 48, 48)
    with torch.no_grad():
        logits = load(named)(images)
    columns = logits[:, [names.index(name) for name in CLASSES]]
    torch.testing.assert_close(teacher.teach(images).logits, columns, rtol=1e-3, atol=1e-3)
    both = Teacher(named, small_dataset().split("train"), fabric, features=True).teach(images)
    torch.testing.assert_close(both.logits, columns, rtol=1e-4, atol=1e-4)
    assert both.features is not None and both.features.shape == (4, 32)


def test_a_teacher_of_other_classes_is_refused(taught: ModelFolder, tmp_path: Path) -> None:
    other = with_labels(taught, tmp_path / "other", ("dark", "gray", "light"))
    with pytest.raises(CompoundNetError, match=r"as a teacher, other does not know 1 of the 3 classes.*'grey'"):
        task_of(other)


def test_a_teacher_without_class_names_is_refused(taught: ModelFolder, tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match="as a teacher, unnamed has 3 classes without names"):
        task_of(with_labels(taught, tmp_path / "unnamed", None))


def test_a_teacher_of_grey_images_is_refused(tmp_path: Path) -> None:
    grey = write_small_model(tmp_path / "grey", labels=CLASSES, in_channels=1)
    with pytest.raises(CompoundNetError, match="grey takes images of 1 channels, and training has 3"):
        task_of(grey)


def test_several_labels_have_no_teacher(taught: ModelFolder) -> None:
    several = msgspec.structs.replace(taught, postprocess=Postprocess(function="sigmoid"))
    with pytest.raises(CompoundNetError, match="gives an image several labels"):
        task_of(several)
    split = small_dataset().split("train")
    labels = np.eye(3, dtype=np.bool_)[split.labels]
    several_images = Dataset("greys", {"train": msgspec.structs.replace(split, labels=labels)})
    with pytest.raises(CompoundNetError, match="the training images have several labels"):
        plan_task(
            small_recipe("minival=0", "select=last", "patience=0"), several_images, network=small_network(),
            teacher=taught,
        )  # fmt: skip


def test_a_distillation_without_a_teacher_is_refused() -> None:
    with pytest.raises(CompoundNetError, match="there is no teacher: give --teacher MODEL"):
        plan_task(small_recipe("distillation.weight=0.7"), small_dataset(), network=small_network())


def test_the_teacher_sees_the_crop_of_the_student_at_its_own_resolution(taught: ModelFolder) -> None:
    task = task_of(taught, "augment=none")
    batch = next(iter(loader(task.train, task.transform, batch=8)))
    assert batch.images.shape == (8, 3, 32, 32)
    assert batch.seconds.shape == (8, 3, 48, 48)
    shrunk = torch.nn.functional.interpolate(batch.seconds, (32, 32), mode="bilinear", antialias=True)
    assert (shrunk.float() - batch.images.float()).abs().mean() < 6
    assert task.recipe.distillation == Distillation()


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(["distillation.weight=1", "distillation.temperature=1"], marks=pytest.mark.slow),
        pytest.param(
            ["distillation.view=whole", "distillation.weight=1", "mixup=0.2", "cutmix=1"], marks=pytest.mark.slow
        ),
        pytest.param(["distillation.features=5", "erase=0.25", "cutmix=1"], marks=pytest.mark.slow),
        ["distillation.features=20", "distillation.view=whole"],
    ],
)
def test_a_student_follows_its_teacher(taught: ModelFolder, tmp_path: Path, settings: list[str]) -> None:
    task = task_of(taught, "epochs=6", "lr=0.1", "ema_decay=0.9", "augment=none", *settings, images=240)
    outcome = train(task, tmp_path / "model")
    assert outcome.result is not None and outcome.result.top1 > 0.75
    assert f"learned from {taught.name}" in (tmp_path / "model" / "README.md").read_text()
    kept = tmp_path / "model.run" / "teacher.safetensors"
    assert kept.exists() == ("distillation.view=whole" in settings)


@pytest.mark.slow
def test_labels_alone_do_not_matter_with_all_weight_on_the_teacher(taught: ModelFolder, tmp_path: Path) -> None:
    """Even wrong ones: the student learns from images alone."""
    dataset = small_dataset(240)
    split = dataset.split("train")
    wrong = Dataset("greys", {**dataset.splits, "train": msgspec.structs.replace(split, labels=(split.labels + 1) % 3)})
    recipe = small_recipe(
        "minival=0",
        "select=last",
        "patience=0",
        "epochs=6",
        "lr=0.1",
        "ema_decay=0.9",
        "augment=none",
        "distillation.weight=1",
    )
    outcome = train(plan_task(recipe, wrong, network=small_network(), teacher=taught), tmp_path / "model")
    assert outcome.result is not None and outcome.result.top1 > 0.75


def test_kept_predictions_are_those_of_this_teacher_and_these_images(taught: ModelFolder, tmp_path: Path) -> None:
    fabric = launch(Hardware(devices=1, accelerator="cpu"))
    counted: list[int] = []

    def see(model: ModelFolder, images: int, value_range: tuple[float, float] | None = None) -> Teacher:
        split = msgspec.structs.replace(small_dataset(images).split("train"), reading=Reading(value_range))
        teacher = Teacher(model, split, fabric, features=False)
        counted.clear()
        teacher.see_whole_images(tmp_path / "kept", workers=0, progress=counted.append)
        return teacher

    first = see(taught, 60).recall(torch.arange(60)).logits
    assert sum(counted) == 60
    assert torch.equal(see(taught, 60).recall(torch.arange(60)).logits, first) and not counted
    see(taught, 45)
    assert sum(counted) == 45
    see(msgspec.structs.replace(taught, preprocess=Preprocess.authors(40)), 45)
    assert sum(counted) == 45
    see(taught, 45)
    see(taught, 45, (0, 4095))
    assert sum(counted) == 45
    (tmp_path / "kept").write_bytes((tmp_path / "kept").read_bytes()[:100])
    see(taught, 45)
    assert sum(counted) == 45


def test_a_run_that_starts_again_asks_the_teacher_again(taught: ModelFolder, tmp_path: Path) -> None:
    kept = tmp_path / "model.run" / "teacher.safetensors"
    kept.parent.mkdir()
    kept.write_bytes(b"of images that were other ones")
    train(task_of(taught, "epochs=1"), tmp_path / "model", replace=True)
    assert not kept.exists()


def test_the_normalisation_is_the_teachers(taught: ModelFolder) -> None:
    grey = msgspec.structs.replace(taught, preprocess=Preprocess(48, 1.0, mean=(0.5,) * 3, std=(0.25,) * 3))
    teacher = Teacher(
        grey, small_dataset().split("train"), launch(Hardware(devices=1, accelerator="cpu")), features=False
    )
    pixels = torch.full((1, 3, 48, 48), 255, dtype=torch.uint8)
    torch.testing.assert_close(teacher.teach_pixels(pixels), torch.full((1, 3, 48, 48), 2.0))
    torch.testing.assert_close(teacher.teach_pixels(pixels), normalise(pixels, grey.preprocess))
