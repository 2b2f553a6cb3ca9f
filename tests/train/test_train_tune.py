"""`models tune`: what it measures, what it writes, and what sessions of a tuned model do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from command import run
from deep_images import RANGE, write_deep
from PIL import Image
from small_model import write_small_model

from compoundnet import base, models, runtime, train
from compoundnet.base import image_values
from compoundnet.base.images import Reading
from compoundnet.data import open_dataset
from compoundnet.models.tuning import INT8_FILE, TUNING_FILE, Tuning
from compoundnet.runtime.session_source import find_source
from compoundnet.runtime.timing import fastest
from compoundnet.runtime.timing.rounds import Latency, summarise
from compoundnet.train.teacher import Teacher


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven classes with 4 training and 4 test images each."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    numbers = np.random.default_rng(0)
    for split in ("train", "test"):
        for number in range(7):
            place = folder / split / f"class {number}"
            place.mkdir(parents=True)
            for image in range(4):
                coarse = numbers.integers(0, 256, (5, 5, 3), dtype=np.uint8)
                Image.fromarray(coarse).resize((40, 40)).save(place / f"{image}.png")
    return folder


@pytest.fixture(scope="module")
def tuned(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, train.Tuned]:
    folder = write_small_model(tmp_path_factory.mktemp("models") / "small").folder
    return folder, train.tune(folder, photos, least_agreement=0.01, threads=1)


@pytest.fixture(scope="module")
def of_12_bits(tmp_path_factory: pytest.TempPathFactory) -> tuple[models.ModelFolder, Path]:
    """A model with the range of 12 bits, and images of 12 bits in files of 16."""
    folder = tmp_path_factory.mktemp("deep")
    model = write_small_model(folder / "small")
    how = msgspec.structs.replace(model.preprocess, range=RANGE)
    how.save(model.folder / "preprocess.toml")
    return models.read_folder(model.folder), write_deep(folder / "images", ("class 0", "class 1"), 50)


@pytest.mark.slow
def test_images_of_12_bits_are_read_with_the_range_of_the_model(
    of_12_bits: tuple[models.ModelFolder, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those on which int8 is calibrated too."""
    model, images = of_12_bits
    monkeypatch.setattr(image_values, "_warned", set())
    found = train.tune(model, images, threads=1)
    assert (found.tuning.images, found.calibration) == (20, 80)
    assert "dark" not in image_values._warned  # an image was read as 0 to 65535


def test_evaluated_images_are_read_with_the_range_of_the_model(
    of_12_bits: tuple[models.ModelFolder, Path],
) -> None:
    """By what looks at single ones of them afterwards too, such as the sheet of mistakes."""
    model, images = of_12_bits
    found = train.evaluate(model, images, threads=1)
    assert found.split.reading.range == RANGE
    other = open_dataset(images).read_with(Reading((0, 8190)))
    assert train.evaluate(model, other, threads=1).split.reading.range == (0, 8190)


@pytest.mark.slow
def test_class_folders_of_a_model_of_several_labels_are_images_of_one_label(photos: Path, tmp_path: Path) -> None:
    how = models.Postprocess(function="sigmoid")
    model = write_small_model(tmp_path / "several", postprocess=how)
    found = train.tune(model, photos, threads=1)
    expected = train.evaluate(model, photos, precision="float32", threads=1).result
    assert found.tuning.ways[0].accuracy == pytest.approx(expected.top1)


def timed(fast: str) -> Callable[..., dict[str, Latency]]:
    def rounds(calls: Mapping[str, object], **_: object) -> dict[str, Latency]:
        return {name: summarise([1.0 if name == fast else 9.0]) for name in calls}

    return rounds


def test_the_record_holds_each_precision(tuned: tuple[Path, train.Tuned], photos: Path) -> None:
    folder, found = tuned
    assert Tuning.load(folder / TUNING_FILE) == found.tuning
    assert (found.tuning.data, found.tuning.images, found.calibration) == ("photos, test", 28, 28)
    first, *others = found.tuning.ways
    assert (first.backend, first.precision, first.agreement) == ("onnxruntime", "float32", 1.0)
    assert {(way.backend, way.precision) for way in others} >= {("onnxruntime", "int8")}
    assert len(found.milliseconds) == len(found.tuning.ways)
    expected = train.evaluate(folder, photos, precision="float32").result
    assert first.accuracy == pytest.approx(expected.top1)


def test_sessions_run_what_agrees(
    tuned: tuple[Path, train.Tuned], empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = tuned
    monkeypatch.setattr(fastest, "time_rounds", timed("onnxruntime int8"))
    session = runtime.session(folder, threads=1)
    assert (session.backend, session.precision) == ("onnxruntime", "int8")
    assert session.choice is not None
    assert "onnxruntime int8" in session.choice.text()
    assert "28 images of photos, test" in session.choice.text()
    assert runtime.session(folder, precision="float32", threads=1).precision == "float32"
    assert runtime.session(folder, precision="int8", threads=1).precision == "int8"


def test_a_tuned_model_teaches_in_float32(
    tuned: tuple[Path, train.Tuned], photos: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fastest, "time_rounds", timed("onnxruntime int8"))
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model, fabric = models.read_folder(tuned[0]), train.launch(train.Hardware(accelerator="cpu"))
    images = images[..., : model.preprocess.size, : model.preprocess.size]
    found = Teacher(model, open_dataset(photos).split("train"), fabric, features=False).teach(images)
    expected = runtime.session(model, precision="float32", threads=1)(images.numpy())
    np.testing.assert_allclose(found.logits.numpy(), expected, rtol=0, atol=1e-3 * np.abs(expected).max())


def test_sessions_do_not_run_what_does_not_agree(
    tuned: tuple[Path, train.Tuned], tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(tuned[0], tmp_path / "small")
    record = Tuning.load(folder / TUNING_FILE)
    text = record.dumps().replace("least_agreement = 0.01", "least_agreement = 1.0")
    worse = Tuning.loads(text.replace(f"agreement = {record.ways[1].agreement}, ", "agreement = 0.5, "))
    worse.save(folder / TUNING_FILE)
    monkeypatch.setattr(fastest, "time_rounds", timed("onnxruntime int8"))
    assert runtime.session(folder, backend="onnxruntime", threads=1).precision == "float32"


def test_a_record_of_other_weights_or_a_damaged_int8_is_an_error(
    tuned: tuple[Path, train.Tuned], tmp_path: Path
) -> None:
    folder = shutil.copytree(tuned[0], tmp_path / "small")
    with (folder / INT8_FILE).open("ab") as file:
        file.write(b"more")
    with pytest.raises(base.CompoundNetError, match=r"int8\.onnx is damaged or has been changed"):
        runtime.session(folder, precision="int8")
    record = Tuning.load(folder / TUNING_FILE)
    (folder / TUNING_FILE).write_text(record.dumps().replace(record.weights, "0" * 64))
    with pytest.raises(base.CompoundNetError, match=r"was measured with other weights than weights\.safetensors"):
        runtime.session(folder)
    with pytest.raises(base.CompoundNetError, match=r"was measured with other weights than weights\.safetensors"):
        find_source(folder)
    assert find_source(folder, tuned=False).tuning is None, "as `models tune`, which the message advises, opens it"


def test_too_few_images_leave_the_folder_as_it_was(tmp_path: Path, photos: Path) -> None:
    model = write_small_model(tmp_path / "small")
    before = sorted(path.name for path in model.folder.iterdir())
    (tmp_path / "few").mkdir()
    for number in range(7):
        shutil.copytree(photos / "test" / f"class {number}", tmp_path / "few" / "test" / f"class {number}")
        shutil.copytree(photos / "train" / f"class {number}", tmp_path / "few" / "train" / f"class {number}")
        for image in range(2):
            (tmp_path / "few" / "test" / f"class {number}" / f"{image}.png").unlink()
    with pytest.raises(base.CompoundNetError, match="has 14 test images to measure, and 20 are the least"):
        train.tune(model, tmp_path / "few")
    assert sorted(path.name for path in model.folder.iterdir()) == before


def test_a_tuned_folder_is_replaced_by_a_training(tuned: tuple[Path, train.Tuned], tmp_path: Path) -> None:
    folder = shutil.copytree(tuned[0], tmp_path / "small")
    model = models.read_folder(folder)
    state = models.load(model).state_dict()
    models.write_folder(folder, model.network, state, model.preprocess, labels=model.labels, readme="", replace=True)
    assert not (folder / TUNING_FILE).exists()


@pytest.mark.slow
def test_the_command(photos: Path, tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "small").folder
    done = run("models", "tune", model, photos, "--least-agreement", "0.5", "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["tuning"]["least_agreement"] == 0.5
    assert found["notes"] == []
    assert f"wrote precision.toml and int8.onnx into {model}" in done.stderr
    assert "INFO:" not in done.stderr
    shown = run("predict", model, photos / "test" / "class 0" / "0.png", "--precision", "float32")
    assert (shown.returncode, shown.stderr) == (0, "")
    chosen = run("predict", model, photos / "test" / "class 0" / "0.png")
    assert "small: auto takes " in chosen.stderr
