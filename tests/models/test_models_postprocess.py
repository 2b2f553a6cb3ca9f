"""Postprocessing: probabilities at a temperature, kept in a model folder and in exported files, applied everywhere."""

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


@pytest.mark.parametrize("file", ["m.onnx", "m.pt2"])
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
    assert msgspec.structs.asdict(Postprocess()) == {"temperature": 1.0}
