"""Training images that a fit does without: damaged ones, and classes of which too few are not held out."""

from __future__ import annotations

import base64
import io
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from deep_images import write_deep
from grey_images import CLASSES, images, write_models
from PIL import Image

from compoundnet.data import Dataset, Split, open_dataset
from compoundnet.data.sources import Arrays
from compoundnet.fit import averaging, entry, finish, fit, trainings
from compoundnet.fit.candidates import measured
from compoundnet.fit.held_out import right_by_probe
from compoundnet.fit.screen import probe_of
from compoundnet.fit.trainings import Trainings
from compoundnet.models import open_folder


@pytest.fixture
def race_of_few_images(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in (entry, finish):
        monkeypatch.setattr(module, "LEAST_HELD_OUT", 10)
    monkeypatch.setattr(trainings, "LEAST_STEPS", 1)
    monkeypatch.setattr(averaging, "MOST", 1)
    yield


def test_images_that_cannot_be_read_are_left_out_of_every_step(tmp_path: Path, race_of_few_images: None) -> None:
    """Of the race, its held-out images and the probe too; and the same command goes on without them."""
    whole, photos = images(60).split("train"), tmp_path / "photos"
    for index in range(len(whole)):
        place = photos / CLASSES[int(whole.labels[index])]
        place.mkdir(parents=True, exist_ok=True)
        whole.image(index).save(place / f"{index}.png")
    data = open_dataset(photos, test_fraction=0)
    train = data.split("train")
    damaged = [train.image_name(index) for index in range(0, len(train), 6)]
    for name in damaged:
        (photos / name).write_bytes(b"no image")
    data, said = open_dataset(photos, test_fraction=0), list[str]()
    models = write_models(tmp_path)[:1]
    found = fit(data, tmp_path / "best", models=models, seconds=300, notify=said.append)
    assert found.rungs and found.finished and set(found.unreadable) == set(damaged)
    assert any(f"{len(damaged)} training images cannot be read and are left out: " in note for note in found.notes)
    again = fit(data, tmp_path / "best", models=models, seconds=300, notify=said.append)
    assert again.unreadable == found.unreadable and again.answer == found.answer


def test_a_class_of_which_one_image_is_not_held_out_is_unknown_to_the_probe(tmp_path: Path) -> None:
    """It is compared with the network all the same."""
    random, labels = np.random.default_rng(0), np.array([0] * 20 + [1] * 20 + [2] * 2, np.int64)
    pixels = random.normal(60 + 70 * labels[:, None, None, None], 20, (42, 24, 24, 3)).clip(0, 255).astype(np.uint8)
    data = Dataset("greys", {"train": Split("train", CLASSES, labels, Arrays("train", pixels))})
    model = write_models(tmp_path)[0]
    one, start = measured(model, open_folder(model).network, 32, 3), open_folder(model)
    said = list[str]()
    for held_out in (0.2, 0.3, 0.4, 0.5):
        made = Trainings(data, tmp_path, {one.key: start}, frozenset(), 1, time.time() + 100, held_out=held_out)
        task = made.task(one)
        if np.bincount(task.train.labels, minlength=3)[2] == 1:
            break
    else:
        pytest.fail("both images of the class are on one side")
    assert task.held is not None
    right = right_by_probe(probe_of(one, data, start), task, said.append)
    assert right.shape == (len(task.held),) and not right[task.held.labels == 2].any()
    assert right[task.held.labels != 2].mean() > 0.7
    assert any(line.startswith("one class has fewer than two images that are not held out") for line in said)


def test_test_images_that_cannot_be_read_are_not_counted(tmp_path: Path) -> None:
    """They are named, and the mistakes that the report shows are those images, not their neighbours."""
    whole, photos = images(90, 30), tmp_path / "photos"
    for name, split in whole.splits.items():
        for index in range(len(split)):
            # Some are of another class than their folder says.
            label = (int(split.labels[index]) + (index % 10 == 9)) % 3
            place = photos / name / CLASSES[label]
            place.mkdir(parents=True, exist_ok=True)
            split.image(index).save(place / f"{index:02}.png")
    damaged = sorted((photos / "test").glob("*/*.png"))[::12]
    for file in damaged:
        file.write_bytes(b"no image")
    data = open_dataset(photos)
    found = fit(data, tmp_path / "best", models=write_models(tmp_path)[:1])
    assert found.answer is not None and found.answer.result is not None
    assert found.answer.result.count == 30 - len(damaged)
    names = ", ".join(str(file.relative_to(photos / "test")) for file in damaged)
    assert f"{len(damaged)} test images cannot be read and are left out: {names}" in found.notes
    test = data.split("test")
    assert found.answer.mistakes
    for mistake in found.answer.mistakes:
        assert test.image_name(mistake.index) == mistake.image and CLASSES[test.labels[mistake.index]] == mistake.truth


def test_images_of_12_bits_are_read_with_one_range_in_every_step(tmp_path: Path) -> None:
    """Also by the pictures of the mistakes in the report; a line says which."""
    photos = write_deep(tmp_path / "photos", ("dark", "light"), 20)
    for number in range(4, 12):  # of the other class, so that there are mistakes
        (photos / "dark" / f"{number}.png").rename(photos / "light" / f"other-{number}.png")
    found = fit(open_dataset(photos), tmp_path / "best", models=write_models(tmp_path)[:1])
    assert any("4095" in note for note in found.notes)
    assert found.answer is not None and found.answer.mistakes
    page = (tmp_path / "best.fit" / "report.html").read_text()
    pictures = [base64.b64decode(text) for text in re.findall(r'data:image/jpeg;base64,([^"]+)', page)]
    levels = [float(np.asarray(Image.open(io.BytesIO(one)).convert("L")).mean()) for one in pictures]
    assert pictures and any(level == pytest.approx(255 * 400 / 4095, abs=8) for level in levels), "not read as 16 bits"


def test_validation_images_beside_test_images_are_named(tmp_path: Path) -> None:
    splits, validation = images().splits, images(seed=5).split("test")
    data = Dataset("greys", {**splits, "val": validation.subset(np.arange(30), "val")})
    found = fit(data, tmp_path / "best", models=write_models(tmp_path)[:1])
    assert "the 30 validation images are not used: candidates are compared by training images" in found.notes
