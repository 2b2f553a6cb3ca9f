"""`explain`: the files it writes, what it tells, and what it says of input that it cannot use."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from command import run
from deep_images import write_deep
from PIL import Image
from sample_images import write_noise
from small_model import write_small_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("models") / "small").folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_noise(tmp_path_factory.mktemp("photos"), 2)


def test_it_writes_an_overlay_per_image_one_sheet_and_the_numbers(model: Path, photos: Path, tmp_path: Path) -> None:
    done = run("explain", model, photos, "--top", "2", "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith(f"wrote {tmp_path / 'out/sheet.jpg'}, {tmp_path / 'out/maps.json'}\n")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "0.cam.jpg",
        "1.cam.jpg",
        "maps.json",
        "sheet.jpg",
    ]
    told = json.loads(done.stdout)
    assert told == json.loads((tmp_path / "out" / "maps.json").read_text())
    assert (told["model"], told["method"], told["box_share"], told["sheets"]) == ("small", "cam", 0.2, ["sheet.jpg"])
    first = told["images"][0]
    assert (first["path"], first["overlay"]) == (str(photos / "0.png"), "0.cam.jpg")
    assert (first["width"], first["height"]) == (50, 40)
    left, top, right, bottom = first["seen"]
    assert right - left == bottom - top == 20
    assert len(first["maps"]) == 2
    for shown in first["maps"]:
        assert set(shown) == {"index", "label", "probability", "logit", "peak", "box"}
        assert left <= shown["peak"][0] < right
        assert top <= shown["peak"][1] < bottom


def test_the_text_has_a_line_for_each_map(model: Path, photos: Path, tmp_path: Path) -> None:
    done = run("explain", model, photos / "0.png", "--class", "class 3", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    path, line = done.stdout.splitlines()
    assert path == str(photos / "0.png")
    assert "%     3  class 3: " in line


def test_images_of_one_name_get_files_of_their_own(model: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    for folder in (tmp_path, tmp_path / "deeper"):
        (folder / "cat.png").write_bytes((photos / "0.png").read_bytes())
    before = (tmp_path / "cat.png").read_bytes()
    done = run("explain", model, tmp_path / "cat.png", tmp_path / "deeper" / "cat.png", "--top", "1", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"cat.cam.jpg", "cat-2.cam.jpg"} <= {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "cat.png").read_bytes() == before


def test_one_that_cannot_be_read_does_not_stop_the_others(model: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "odd.jpg").write_bytes(b"Dear diary")
    done = run("explain", model, tmp_path / "odd.jpg", photos / "0.png", "--json", "-o", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path / 'odd.jpg'}: is not an image in a format that can be read\n")
    assert done.stderr.endswith("1 of 2 images could not be read\n")
    odd, sound = json.loads(done.stdout)["images"]
    assert odd == {"path": str(tmp_path / "odd.jpg"), "error": "is not an image in a format that can be read"}
    assert len(sound["maps"]) == 3
    assert (tmp_path / "out" / "sheet.jpg").exists()


def test_the_range_that_was_found_is_in_the_documents(model: Path, tmp_path: Path) -> None:
    deep = write_deep(tmp_path / "deep", count=1)
    for words in (("-o", tmp_path / "maps", "--json"), ("--grid", "-o", tmp_path / "grid", "--json", "--")):
        places = (*words, deep) if "--grid" in words else (deep, *words)
        done = run("explain", model, *places)
        assert done.returncode == 0, done.stderr
        (note,) = json.loads(done.stdout)["notes"]
        assert "0 to 4095 is assumed" in note and note in done.stderr.splitlines()


def test_an_exported_file_is_explained_without_torch(model: Path, photos: Path, tmp_path: Path) -> None:
    made = run("export", model, "--with-cam", "-o", tmp_path / "small.onnx")
    assert made.returncode == 0, made.stderr
    assert "second output: the features that `compoundnet explain` makes maps of" in made.stdout
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "torch.py").write_text("raise ImportError('torch was imported')\n")
    places = os.pathsep.join(filter(None, (str(tmp_path / "blocked"), os.environ.get("PYTHONPATH"))))
    done = run("explain", tmp_path / "small.onnx", photos, "-o", tmp_path / "out", PYTHONPATH=places)
    assert done.returncode == 0, done.stderr


def test_a_grid_has_its_models_before_the_dashes(model: Path, photos: Path, tmp_path: Path) -> None:
    done = run("explain", model, model, "--grid", "-o", tmp_path, "--json", "--", photos / "0.png", photos / "1.png")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["grid"] == str(tmp_path / "grid.jpg")
    assert told["description"].startswith("Class activation maps of 2 images (rows) by small, ")
    with Image.open(tmp_path / "grid.jpg") as image:
        assert image.width == 1600


def test_a_grid_says_which_of_its_images_are_truncated(model: Path, tmp_path: Path) -> None:
    photo = write_noise(tmp_path, 1) / "0.png"
    content = photo.read_bytes()
    photo.write_bytes(content[: len(content) // 2])
    done = run("explain", model, "--grid", "--allow-truncated", "-o", tmp_path / "out", "--json", "--", photo)
    assert done.returncode == 0, done.stderr
    line = f"{photo}: is truncated; used as far as it can be decoded"
    assert json.loads(done.stdout)["damaged"] == [line]
    assert line in done.stderr.splitlines() and "1 of 1 images are truncated" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{model}", "{photo}", "--class", "klass 3"], "error: small has no class 'klass 3'; did you mean class 3"),
        (["{model}", "gone.png"], "error: gone.png: cannot be read: No such file or directory"),
        (["{photo}", "{photo}"], "error: {photo} is a file, not a model folder"),
        (["efficientnet-lite00", "{photo}"], "error: there is no model named 'efficientnet-lite00'; did you mean "),
        (["resnet-18", "{photo}"], "error: "),
        (["{model}", "{photo}", "--method", "gradcm"], "error: there is no method 'gradcm'; did you mean gradcam"),
        (["{model}", "{photo}", "-o", "{photo}"], "error: {photo}: cannot be written: File exists"),
        (["{model}", "{photo}", "-o", "{photo}/below"], "error: {photo}/below: cannot be written: Not a directory"),
    ],
)
def test_errors_are_one_line(arguments: list[str], told: str, model: Path, photos: Path, tmp_path: Path) -> None:
    places = {"model": model, "photo": photos / "0.png"}
    done = run("explain", *(argument.format(**places) for argument in arguments), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(told.format(**places))
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{model}"], "give a model and at least one image"),
        (["{model}", "{photo}", "--grid"], "with --grid `--` stands between the models and the images"),
        (["{model}", "{photo}", "--top", "2", "--class", "class 3"], "--top is for one model, without --class"),
    ],
)
def test_wrong_usage_is_told(arguments: list[str], told: str, model: Path, photos: Path, tmp_path: Path) -> None:
    places = {"model": model, "photo": photos / "0.png"}
    done = run("explain", *(argument.format(**places) for argument in arguments), cwd=tmp_path)
    assert done.returncode == 2
    assert told in " ".join(done.stderr.replace("│", " ").split())


def test_a_model_of_several_labels_has_a_map_for_each_of_the_image(photos: Path, tmp_path: Path) -> None:
    from compoundnet.models import Postprocess

    how = Postprocess(1.0, "sigmoid", (0.01, 0.01, 0.99, 0.01, 0.01, 0.99, 0.99))
    folder = write_small_model(tmp_path / "tags", postprocess=how).folder
    image_file = sorted(photos.iterdir())[0]
    done = run("explain", folder, image_file, "-o", tmp_path / "maps", "--json")
    assert done.returncode == 0, done.stderr
    (image,) = json.loads(done.stdout)["images"]
    assert sorted(shown["index"] for shown in image["maps"]) == [0, 1, 3, 4]
    text = run("explain", folder, image_file, "-o", tmp_path / "maps", "--class", "class 2").stdout
    assert "class 2 (below its threshold, 99.00%)" in text
