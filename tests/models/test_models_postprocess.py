"""Postprocessing: probabilities at a temperature, labels by thresholds, kept in model folders and exported files."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from scipy import special
from small_model import write_small_model

import compoundnet as cn
from compoundnet import explain, models, runtime
from compoundnet.models import ModelFolder, Postprocess, load, write_folder


def calibrated(folder: Path, temperature: float) -> ModelFolder:
    """The small model of seven classes, at a temperature."""
    plain = write_small_model(folder / "plain")
    return write_folder(
        folder / "calibrated",
        plain.network,
        load(plain).state_dict(),
        plain.preprocess,
        labels=plain.labels,
        postprocess=Postprocess(temperature),
        readme="For tests.\n",
    )


def test_probabilities_are_the_softmax_at_the_temperature() -> None:
    logits = np.random.default_rng(0).normal(0, 5, (9, 4)).astype(np.float32)
    for temperature in (0.5, 1.0, 3.0):
        found = Postprocess(temperature).probabilities(logits)
        np.testing.assert_allclose(found, special.softmax(logits.astype(np.float64) / temperature, axis=1), rtol=1e-12)


def test_it_is_read_back_and_absent_by_default(tmp_path: Path) -> None:
    made = calibrated(tmp_path, 1.75)
    assert models.read_folder(made.folder) == made
    assert made.postprocess == Postprocess(1.75)
    plain = models.read_folder(tmp_path / "plain")
    assert plain.postprocess == Postprocess(1.0)
    assert not (plain.folder / "postprocess.toml").exists()


@pytest.mark.parametrize("content", ["temperature = 0.0", "temperature = -1.0", "temperature = nan", "warmth = 2.0"])
def test_an_impossible_temperature_names_the_file(tmp_path: Path, content: str) -> None:
    made = calibrated(tmp_path, 2.0)
    (made.folder / "postprocess.toml").write_text(content)
    with pytest.raises(cn.CompoundNetError, match=r"postprocess\.toml: .*(temperature|warmth)"):
        models.read_folder(made.folder)


@pytest.mark.parametrize("file", ["m.onnx", pytest.param("m.pt2", marks=pytest.mark.slow)])
def test_predict_explain_and_exported_files_apply_it_alike(tmp_path: Path, file: str) -> None:
    made = calibrated(tmp_path, 4.0)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    logits = runtime.session(made, threads=1)(made.preprocess.pixels(pixels)[None])[0].astype(np.float64)
    expected = special.softmax(logits / 4)

    export = runtime.export(
        made, tmp_path / file, format="onnx" if file.endswith("onnx") else "torch", with_cam=file.endswith("onnx")
    )
    assert models.open_exported(export.file).postprocess == Postprocess(4.0)
    for model in (made, Path(export.file)):
        found = {one.index: one.probability for one in runtime.Predictor(model, top=7)(pixels).predictions}
        assert [found[index] for index in range(7)] == pytest.approx(expected.tolist(), abs=1e-6)

    from PIL import Image

    explained = explain.Explainer(made)(Image.fromarray(pixels), top=7)
    assert {one.index: one.probability for one in explained.maps} == pytest.approx(
        dict(enumerate(expected.tolist())), abs=1e-6
    )


def test_an_exported_file_of_an_older_version_has_temperature_one(tmp_path: Path) -> None:
    from compoundnet.models.exported import from_properties

    runtime.export(calibrated(tmp_path, 2.0), tmp_path / "m.onnx")
    properties = models.open_exported(tmp_path / "m.onnx").properties()
    del properties["compoundnet.postprocess"]
    assert from_properties(properties, tmp_path / "m.onnx").postprocess == Postprocess(1.0)


def test_the_largest_temperature_gives_equal_shares() -> None:
    found = Postprocess(1e300).probabilities(np.array([[5.0, -3.0]], np.float32))
    assert found.tolist() == [[0.5, 0.5]]
    assert not math.isnan(found.sum())
    assert msgspec.structs.asdict(Postprocess()) == {"temperature": 1.0, "function": "softmax", "thresholds": ()}


# Several labels an image.

LOGITS = np.array([[np.log(3), -np.log(3), 0.0], [-1e4, 1e4, -2.0]], np.float32)


def several(folder: Path, *thresholds: float) -> ModelFolder:
    """The small model of seven classes, with a sigmoid."""
    plain = write_small_model(folder / "plain")
    return write_folder(
        folder / "several",
        plain.network,
        load(plain).state_dict(),
        plain.preprocess,
        labels=plain.labels,
        postprocess=Postprocess(2.0, "sigmoid", thresholds),
        readme="For tests.\n",
    )


def test_a_sigmoid_gives_each_label_its_own_probability() -> None:
    found = Postprocess(function="sigmoid").probabilities(LOGITS)
    np.testing.assert_allclose(found[0], [0.75, 0.25, 0.5], rtol=1e-6)
    np.testing.assert_allclose(found[1], [0, 1, special.expit(-2)], rtol=1e-12)
    np.testing.assert_allclose(
        Postprocess(2.0, "sigmoid").probabilities(LOGITS), special.expit(LOGITS / 2.0), rtol=1e-6
    )


def test_an_image_has_a_label_from_its_threshold_on() -> None:
    how = Postprocess(1.0, "sigmoid", (0.8, 0.2, 0.5))
    assert how.predicted(np.array([[0.79, 0.2, 0.5]])).tolist() == [[False, True, True]]
    assert Postprocess(function="sigmoid").predicted(np.array([[0.5, 0.49]])).tolist() == [[True, False]]
    assert Postprocess(1.0, "sigmoid", (0.7, 0.3, 0.6)).decided(LOGITS).tolist() == [
        [True, False, False],
        [False, True, False],
    ]
    assert Postprocess().decided(LOGITS).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('function = "tanh"', "function"),
        ('function = "sigmoid"\nthresholds = [0.5]', r"postprocess\.toml: holds 1 thresholds, and the network has 7"),
        ('function = "sigmoid"\nthresholds = [2.0]', r"thresholds must be probabilities from 0 to 1, got \[2\.0\]"),
        ("thresholds = [0.5]", "thresholds are for the function sigmoid"),
    ],
)
def test_an_impossible_threshold_names_the_file(tmp_path: Path, content: str, message: str) -> None:
    made = several(tmp_path)
    (made.folder / "postprocess.toml").write_text(content)
    with pytest.raises(cn.CompoundNetError, match=message):
        models.read_folder(made.folder)


def test_the_thresholds_of_many_labels_are_read_back() -> None:
    many = Postprocess(1.0, "sigmoid", tuple(np.random.default_rng(0).random(40_000).tolist()))
    assert Postprocess.loads(many.dumps()) == many


def test_thresholds_to_write_are_as_many_as_the_classes(tmp_path: Path) -> None:
    with pytest.raises(cn.CompoundNetError, match="the thresholds to write: holds 2 thresholds"):
        several(tmp_path, 0.5, 0.5)


@pytest.mark.parametrize("file", ["m.onnx", pytest.param("m.pt2", marks=pytest.mark.slow)])
def test_predict_explain_and_exported_files_know_labels_and_thresholds(tmp_path: Path, file: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    plain = several(tmp_path)
    logits = runtime.session(plain, threads=1)(plain.preprocess.pixels(pixels)[None])[0].astype(np.float64)
    expected = special.expit(logits / 2)
    # Thresholds that the least probable label and the third reach, and no other.
    ascending = np.argsort(expected).tolist()
    own = (ascending[0], ascending[4])
    thresholds = [float(expected[index]) + (-1e-4 if index in own else 1e-4) for index in range(7)]
    (tmp_path / "other").mkdir()
    made = several(tmp_path / "other", *thresholds)

    export = runtime.export(
        made, tmp_path / file, format="onnx" if file.endswith("onnx") else "torch", with_cam=file.endswith("onnx")
    )
    assert export.multilabel
    assert export.agreement == 1
    assert models.open_exported(export.file).postprocess == made.postprocess
    for model in (made, Path(export.file)):
        for top in (None, 1):
            found = runtime.Predictor(model, top=top)(pixels)
            # The labels of the image, the more probable first; then the others.
            assert found.labels == (f"class {own[1]}", f"class {own[0]}")
            assert [one.index for one in found.predictions[:2]] == [own[1], own[0]]
            assert [one.predicted for one in found.predictions] == [True, True] + [False] * (5 if top is None else 0)
        assert msgspec.to_builtins(found)["labels"] == (f"class {own[1]}", f"class {own[0]}")
    rest = [index for index in ascending[::-1] if index not in own]
    assert [one.index for one in runtime.Predictor(made)(pixels).predictions[2:]] == rest

    from PIL import Image

    explained = explain.Explainer(made)(Image.fromarray(pixels))
    assert [one.index for one in explained.maps] == [own[1], own[0], rest[0]]
    assert [one.threshold for one in explained.maps] == [thresholds[one.index] for one in explained.maps]
    assert explained.maps[0].facts()["threshold"] == thresholds[own[1]]


def test_of_one_class_an_image_nothing_changes(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    made = write_small_model(tmp_path / "plain")
    found = msgspec.to_builtins(runtime.Predictor(made, top=1)(pixels))
    assert found.keys() == {"path", "predictions"}
    assert found["predictions"][0].keys() == {"index", "label", "probability"}
