"""`export`: what it says, as text and as JSON, and that `predict` takes what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import run
from deep_images import write_deep
from sample_images import write_noise
from small_model import write_small_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("models") / "small").folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_noise(tmp_path_factory.mktemp("photos"), 3)


def test_predict_takes_what_export_wrote(model: Path, photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "small.onnx"
    done = run("export", model, "--images", photos, "-o", file)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"wrote {file}: onnx opset 18, float32, ")
    assert lines[1] == "input: one image of 32 px"
    assert lines[2].startswith("largest difference from torch on noise and 3 images: ")
    assert lines[2].endswith("of the largest logit (limit 0.0001)")
    assert lines[3] == "same most probable class as torch on 100.0% of them"
    by_file, by_folder = (
        run("predict", given, photos, "--json", "--threads", "1", "--backend", backend)
        for given, backend in ((file, "onnxruntime"), (model, "torch"))
    )
    assert by_file.returncode == 0, by_file.stderr
    for found, expected in zip(json.loads(by_file.stdout), json.loads(by_folder.stdout), strict=True):
        assert [one["label"] for one in found["predictions"]] == [one["label"] for one in expected["predictions"]]


@pytest.mark.slow
def test_json_is_the_report(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "small.pt2"
    done = run("export", model, "--format", "torch", "--dynamic-batch", "--json", "-o", file)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["file"] == str(file)
    assert report["bytes"] == file.stat().st_size
    assert (report["format"], report["precision"], report["dynamic_batch"], report["dynamic_size"]) == (
        "torch",
        "float32",
        True,
        False,
    )
    assert report["difference"] < report["limit"] == 1e-4


def test_what_int8_is_calibrated_on_is_said(model: Path, tmp_path: Path) -> None:
    """The number of images, those that are left out, and the range that was found for more than 8 bits a value."""
    images = write_deep(tmp_path / "deep", ("dark",), 3)
    (images / "raw.CR2").touch()
    words = ("export", model, "--precision", "int8", "--calibrate", images)
    left_out = "1 image is left out, because it cannot be read here: 1 .cr2 (convert them to JPEG or PNG)"
    assumed = "3 of 3 images examined have more than 8 bits a value and do not state their range: 0 to 4095 is assumed"
    done = run(*words, "-o", tmp_path / "a.onnx")
    assert done.returncode == 0, done.stderr
    assert "\ncalibrated on 3 images\n" in done.stdout
    assert (done.stderr.count(left_out), done.stderr.count(assumed), done.stderr.count("\n")) == (1, 1, 2)
    report = json.loads(run(*words, "-o", tmp_path / "b.onnx", "--json").stdout)
    assert report["calibrated"] == 3
    assert [note.split(";")[0].split(", because their values")[0] for note in report["notes"]] == [left_out, assumed]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-o", "a.bin"], "error: the suffix of an exported file says its format: .onnx (onnx), "),
        (["--format", "caffe", "-o", "a.caffe"], "error: there is no format 'caffe'; known: coreml, litert, onnx, "),
        (["--precision", "int8", "-o", "a.onnx"], "error: int8 is calibrated on images: give --calibrate a folder"),
        (["--precision", "int8", "--calibrate", "gone", "-o", "a.onnx"], "error: gone: there is no such folder or"),
        (["--max-drop", "a little", "-o", "a.onnx"], "error: --max-drop is a percentage such as 1%, or a fraction"),
    ],
)
def test_errors_are_one_line_and_nothing_is_written(
    arguments: list[str], told: str, model: Path, tmp_path: Path
) -> None:
    done = run("export", model, *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(told)
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_ours_is_told(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"something else")
    done = run("predict", tmp_path / "a.onnx", photos)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path / 'a.onnx'} is no ONNX file, or it is damaged")
