"""Truncated, deep and unread image files: every command takes them alike, and says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command import run
from PIL import Image, PngImagePlugin
from sample_images import write_image
from small_model import write_small_model
from small_train import class_folders, small_network

from compoundnet.data import open_dataset
from compoundnet.models import read_folder

CLASSES = ("class 0", "class 1")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("models") / "small").folder


@pytest.fixture(scope="module")
def truncated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images of each class, of which one is truncated, and a camera's raw file."""
    folder = tmp_path_factory.mktemp("truncated")
    for label, name in enumerate(CLASSES):
        for number in range(10):
            write_image(folder / name / f"{number}.jpg", 100 * label + number, size=(160, 120))
    cut = folder / CLASSES[1] / "3.jpg"
    cut.write_bytes(cut.read_bytes()[:-900])
    (folder / CLASSES[0] / "raw.CR2").touch()
    return folder


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12-bit images, dark and light; one of the latter has the largest value, 4087."""
    folder = tmp_path_factory.mktemp("deep")
    random = np.random.default_rng(0)
    for name, level in (("dark", 700), ("light", 3300)):
        (folder / name).mkdir()
        for number in range(10):
            pixels = random.integers(level - 300, level + 300, (40, 40)).astype(np.uint16)
            pixels[0, 0] = 4087 if name == "light" else pixels[0, 0]
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


USED = "3.jpg: is truncated; used as far as it can be decoded\n"


@pytest.mark.parametrize(
    ("command", "counted"),
    [
        (lambda model, data, out: ("predict", model, data), "1 of 20 images are truncated or damaged"),
        pytest.param(
            lambda model, data, out: ("explain", model, data, "--top", "1", "-o", out),
            "1 of 20 images are truncated",
            marks=pytest.mark.slow,
        ),
        (lambda model, data, out: ("evaluate", model, data, "--split", "all"), ""),
    ],
    ids=["predict", "explain", "evaluate"],
)
def test_truncated_images_are_refused_or_used_and_named(
    command: Callable[[Path, Path, Path], tuple[str | Path, ...]],
    counted: str,
    model: Path,
    truncated: Path,
    tmp_path: Path,
) -> None:
    words = command(model, truncated, tmp_path / "out")
    refused = run(*words)
    assert refused.returncode == 1
    assert "3.jpg: cannot be decoded: image file is truncated" in refused.stderr
    used = run(*words, "--allow-truncated")
    assert used.returncode == 0, used.stderr
    assert USED in used.stderr
    assert counted in used.stderr


def test_check_lists_truncated_images(truncated: Path) -> None:
    found = run("data", "check", truncated)
    assert found.returncode == 0, found.stderr
    assert "warning: 1 image is truncated or damaged: training leaves out up to 10 unreadable images" in found.stdout
    used = run("data", "check", truncated, "--allow-truncated")
    assert used.returncode == 0, used.stderr
    assert "3.jpg: is truncated\n" in used.stdout
    assert "warning: 1 image is truncated or damaged: taken as far as they can be decoded" in used.stdout
    document = json.loads(run("data", "check", truncated, "--allow-truncated", "--json").stdout)
    damaged = [found for found in document["findings"] if found["kind"] == "damaged images"]
    assert (document["trains"], [found["level"] for found in damaged]) == (True, ["warning"])


def test_the_data_check_reads_what_the_others_read(tmp_path: Path) -> None:
    """Large text before the pixels of a PNG, which PIL does not even open."""
    for label, name in enumerate(CLASSES):
        for number in range(5):
            write_image(tmp_path / name / f"{number}.png", 10 * label + number)
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", "x" * (3 << 20), zip=True)
    place = tmp_path / CLASSES[0] / "0.png"
    with Image.open(place) as image:
        image.save(place, pnginfo=info)
    done = run("data", "check", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Training would run: 0 errors" in done.stdout


def test_an_image_that_is_not_read_here_is_counted_with_what_to_do(model: Path, truncated: Path) -> None:
    done = run("predict", model, truncated / CLASSES[0])
    assert (done.returncode, done.stderr) == (
        0,
        "1 image is left out, because it cannot be read here: 1 .cr2 (convert them to JPEG or PNG)\n",
    )


SMALL = [word for value in ("epochs=1", "batch=8", "minival=0", "max_bad=0") for word in ("--set", value)]


def test_training_uses_truncated_images_where_it_is_told_to(truncated: Path, tmp_path: Path) -> None:
    small_network().save(tmp_path / "small.toml")
    words: tuple[str | Path, ...] = (
        "train", truncated, "--network", tmp_path / "small.toml", *SMALL, "-o", tmp_path / "model",
    )  # fmt: skip
    refused = run(*words)
    assert refused.returncode == 1
    assert "image file is truncated" in refused.stderr and "--allow-truncated" in refused.stderr
    used = run(*words, "--allow-truncated", "--resume")  # as the message says, and it goes on
    assert used.returncode == 0, used.stderr
    assert used.stderr.count(USED) >= 1


def test_training_writes_its_model_though_a_test_image_cannot_be_read(tmp_path: Path) -> None:
    small_network().save(tmp_path / "small.toml")
    data = class_folders(tmp_path / "data", dict.fromkeys(CLASSES, 10))
    bad = open_dataset(data).split("test").image_name(1)
    (data / bad).write_bytes(b"")
    done = run("train", data, "--network", tmp_path / "small.toml", *SMALL, "-o", tmp_path / "model", "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    said = f"the test images were not evaluated: a test image cannot be read: {bad}: is empty."
    assert document["result"] is None and document["notes"][-1].startswith(said) and done.stderr.count(said) == 1
    assert read_folder(tmp_path / "model").labels == CLASSES


def test_one_range_of_12_bit_images_is_found_said_and_kept(deep: Path, tmp_path: Path) -> None:
    small_network().save(tmp_path / "small.toml")
    made = tmp_path / "model"
    done = run("train", deep, "--network", tmp_path / "small.toml", *SMALL, "-o", made)
    assert done.returncode == 0, done.stderr
    said = "16 of 16 images examined have more than 8 bits a value and do not state their range: 0 to 4095 is assumed"
    assert done.stderr.count(said) == 1
    assert read_folder(made).preprocess.range == (0, 4095)
    again = run("predict", made, deep, "--json")
    assert again.returncode == 0
    assert "range" not in again.stderr  # the model has one: nothing is guessed
    assert "range" not in run("evaluate", made, deep, "--split", "all", "--json").stderr
    checked = run("data", "check", deep, "--json")
    assert [said in note for note in json.loads(checked.stdout)["notes"]] == [False, True]


@pytest.mark.slow
def test_a_model_without_a_range_says_what_it_assumes(model: Path, deep: Path, tmp_path: Path) -> None:
    said = "20 of 20 images examined have more than 8 bits a value and do not state their range: 0 to 4095 is assumed"
    assert run("predict", model, deep, "--range", "0:65535").returncode == 0  # compiles the model, and says so
    found = run("predict", model, deep, "--json")
    assert found.stderr.count(said) == 1 and found.stderr.count("\n") == 1
    given = run("predict", model, deep, "--range", "0:4095", "--json")
    assert (given.stderr, given.stdout) == ("", found.stdout)
    assert run("predict", model, deep, "--range", "0:65535", "--json").stdout != found.stdout
    assert said in run("explain", model, deep, "--top", "1", "-o", tmp_path / "out").stderr
    wrong = run("predict", model, deep, "--range", "12")
    assert wrong.returncode == 1 and "a range is LOW:HIGH" in wrong.stderr
