"""The final form of an answer: where int8 loses too much, the layers that lose most stay in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from outlier_model import LABELS, images, write_outlier_model

from compoundnet import runtime
from compoundnet.data import Dataset, Split
from compoundnet.data.sources import Arrays
from compoundnet.fit import Limits, Screened
from compoundnet.fit.candidates import Candidate
from compoundnet.fit.deployment import Judged, copied, deploy
from compoundnet.fit.state import Fit
from compoundnet.models import ModelFolder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return write_outlier_model(tmp_path_factory.mktemp("outlier") / "model")


@pytest.fixture(scope="module")
def dataset(model: ModelFolder) -> Dataset:
    """Images with the classes that the model predicts in float32."""
    predictor = runtime.Predictor(model, top=1, threads=1)
    labels = np.array([LABELS.index(predictor(image).label) for image in images()])
    pixels = np.stack([np.asarray(image) for image in images()])
    return Dataset("outliers", {"train": Split("train", tuple(LABELS), labels, Arrays("train", pixels))})


@pytest.fixture
def judged(model: ModelFolder, dataset: Dataset) -> Judged:
    """A candidate whose float32 was too large, so that only int8 is tried."""
    candidate = Candidate(str(model.folder), 32, "int8", 10**6, 10**5, 10**5, 10**5)
    return Judged(Screened(candidate, 1.0, 0.9), dataset.split("train"))


def state(max_drop: float, **limits: float) -> Fit:
    return Fit("outliers", "", "", Limits(max_drop=max_drop, **limits), 1, "")  # type: ignore[arg-type]


def test_the_layers_that_lose_most_stay_in_float32(
    model: ModelFolder, dataset: Dataset, judged: Judged, tmp_path: Path
) -> None:
    answer, excess = deploy(judged, copied(model), state(0.1), dataset, tmp_path / "best")
    assert answer is not None, excess
    assert answer.float32_layers >= 1
    assert f"in int8, probe, {answer.float32_layers} layers in float32 for --max-drop" in answer.text()
    assert answer.drop is not None and answer.drop <= 0.1
    predictor = runtime.Predictor(tmp_path / "best.onnx", top=1, threads=1)
    right = [
        predictor(image).label == LABELS[label]
        for image, label in zip(images(), dataset.split("train").labels, strict=True)
    ]
    assert np.mean(right) == pytest.approx(1 - answer.drop)
    answer, excess = deploy(judged, copied(model), state(0.1, max_size=1000), dataset, tmp_path / "other")
    assert answer is None
    assert excess.startswith("as int8 its file has ") and excess.endswith(" layers in float32")


def test_a_drop_that_holds_or_that_nothing_meets(
    model: ModelFolder, dataset: Dataset, judged: Judged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, _ = deploy(judged, copied(model), state(0.99), dataset, tmp_path / "holds")
    assert answer is not None and answer.float32_layers == 0

    from compoundnet.runtime.exports.quantise import OnnxQuantiser

    whole = OnnxQuantiser.write
    monkeypatch.setattr(OnnxQuantiser, "write", lambda quantiser, file, float32=(): whole(quantiser, file))
    answer, excess = deploy(judged, copied(model), state(0.1), dataset, tmp_path / "fails")
    assert answer is None
    assert "points of accuracy, more than --max-drop 10%" in excess
    assert not (tmp_path / "fails").exists() and not (tmp_path / "fails.onnx").exists()
