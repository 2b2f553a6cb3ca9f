"""A training on images of two labels that overlap: it learns, resumes to the bit, and its model knows its labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_train import small_network

import compoundnet as cn
from compoundnet import runtime
from compoundnet.data import Dataset, Split
from compoundnet.data.sources import Arrays
from compoundnet.models import Postprocess, open_folder, open_model
from compoundnet.train import InterruptedRunError, Outcome, Recipe, evaluate, find_recipe, override, plan_task, train
from compoundnet.train.evaluation.multi_label import MultiLabelReport
from compoundnet.train.results import LabelResult
from compoundnet.train.status import Watcher

LABELS = ("blue", "red")


def split_of(name: str, count: int, seed: int) -> Split:
    """Noise, with more red, more blue, both or neither."""
    random = np.random.default_rng(seed)
    labels = random.random((count, 2)) < 0.5
    pixels = random.normal(90, 30, (count, 24, 24, 3))
    pixels[..., 2] += 100 * labels[:, :1, None]
    pixels[..., 0] += 100 * labels[:, 1:, None]
    return Split(name, LABELS, labels, Arrays(name, pixels.clip(0, 255).astype(np.uint8)))


def dataset() -> Dataset:
    return Dataset("colours", {"train": split_of("train", 120, 1), "test": split_of("test", 60, 2)})


def recipe(*settings: str) -> Recipe:
    return override(
        find_recipe("imagenet"),
        ["epochs=6", "batch=12", "lr=0.4", "warmup_epochs=1", "minival=36", "precision=fp32", "save_minutes=1000",
         "augment=none", "area=[0.5,1.0]", *settings],
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("labels") / "colours"
    task = plan_task(recipe(), dataset(), network=small_network())
    return folder, train(task, folder)


def test_it_learns_both_labels_and_keeps_a_threshold_for_each(trained: tuple[Path, Outcome]) -> None:
    folder, outcome = trained
    result = outcome.result
    assert isinstance(result, LabelResult)
    assert result.mean_average_precision > 0.95
    assert result.mean_f1 > 0.9
    assert outcome.thresholds is not None
    model = open_model(folder)
    assert model.labels == LABELS
    assert outcome.calibration is not None
    temperature = outcome.calibration.temperature
    assert model.postprocess == Postprocess(temperature, "sigmoid", outcome.thresholds.thresholds)
    assert outcome.thresholds.images == 36 or abs(outcome.thresholds.images - 36) <= 2
    assert all(0 < one < 1 for one in outcome.thresholds.thresholds)
    last = outcome.history[-1]
    assert last.held_map is not None
    assert last.held_map > 0.95
    readme = (folder / "README.md").read_text()
    assert f"mAP {result.mean_average_precision:.2%}" in readme
    assert "The threshold of each label is that of the best F1 on" in readme
    written = json.loads((folder / "result.json").read_text())
    assert written["mean_average_precision"] == result.mean_average_precision
    assert written["all_right"] == result.top1
    assert "top1" not in written


def test_evaluation_measures_what_training_wrote(trained: tuple[Path, Outcome]) -> None:
    folder, outcome = trained
    found = evaluate(folder, dataset(), threads=1)
    assert isinstance(found.result, LabelResult)
    assert isinstance(outcome.result, LabelResult)
    assert found.result.mean_average_precision == pytest.approx(outcome.result.mean_average_precision, abs=1e-6)
    assert found.result.mean_f1 == pytest.approx(outcome.result.mean_f1, abs=1e-6)
    report = found.report
    assert isinstance(report, MultiLabelReport)
    assert [score.count for score in report.scores] == split_of("test", 60, 2).labels.sum(axis=0).tolist()
    fields = found.fields()
    assert fields["mean_average_precision"] == found.result.mean_average_precision
    assert [one["label"] for one in fields["labels"]] == list(LABELS)  # type: ignore[attr-defined]
    assert fields["calibration"]["ece"] == report.calibration.ece  # type: ignore[index]
    assert found.summary()[0].startswith(f"{folder.name} on colours (test, 60 images): mAP ")
    rows = list(report.image_rows(str))
    assert len(rows) == 60
    assert sum(bool(row[3]) for row in rows) == report.all_right
    assert len(report.mistakes(100)) == 60 - report.all_right
    with pytest.raises(cn.CompoundNetError, match="a confusion matrix is of models that give an image one class"):
        found.draw_confusion()


def test_images_of_one_class_are_images_of_one_label(trained: tuple[Path, Outcome]) -> None:
    folder, _ = trained
    whole = split_of("test", 60, 2)
    single = whole.subset(np.flatnonzero(whole.labels.sum(axis=1) == 1))
    plain = Split("test", LABELS, single.labels.argmax(axis=1).astype(np.int64), single.source, single.members)
    found = evaluate(folder, Dataset("plain", {"test": plain}), threads=1).report
    assert isinstance(found, MultiLabelReport)
    assert found.predictions.truth.tolist() == single.labels.tolist()


def test_a_model_of_one_class_refuses_images_with_several(tmp_path: Path) -> None:
    from small_model import write_small_model

    model = write_small_model(tmp_path / "m", classes=2)
    with pytest.raises(cn.CompoundNetError, match="gives an image exactly one class, and these images have several"):
        evaluate(model, dataset())


def test_predictions_and_the_exported_file_equal_torch(trained: tuple[Path, Outcome], tmp_path: Path) -> None:
    folder, outcome = trained
    model, test = open_model(folder), split_of("test", 60, 2)
    assert outcome.thresholds is not None
    net = cn.load(folder)
    exported = runtime.export(folder, tmp_path / "m.onnx", with_cam=True)
    assert exported.multilabel
    for index in range(8):
        image = test.image(index)
        with torch.inference_mode():
            logits = net(model.preprocess(image)[None])[0].double()
        expected = (logits / model.postprocess.temperature).sigmoid().numpy()
        wanted = [
            LABELS[label] for label in np.argsort(-expected) if expected[label] >= outcome.thresholds.thresholds[label]
        ]
        for one in (folder, tmp_path / "m.onnx"):
            found = runtime.Predictor(one)(image)
            assert {item.index: item.probability for item in found.predictions} == pytest.approx(
                dict(enumerate(expected)), abs=1e-5
            )
            assert list(found.labels or ()) == wanted


class StopAfter(Watcher):
    def __init__(self, step: int) -> None:
        self.step = step

    def stepped(self, step: int, loss: float) -> None:
        if step == self.step:
            raise KeyboardInterrupt


def test_a_resumed_run_equals_the_uninterrupted_one_to_the_bit(trained: tuple[Path, Outcome], tmp_path: Path) -> None:
    whole, outcome = trained
    task = plan_task(recipe(), dataset(), network=small_network())
    with pytest.raises((KeyboardInterrupt, InterruptedRunError)):
        train(task, tmp_path / "again", watcher=StopAfter(17))
    again = train(task, tmp_path / "again", resume=True)
    assert (tmp_path / "again" / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert again.thresholds == outcome.thresholds


def test_a_model_of_several_labels_is_trained_on(trained: tuple[Path, Outcome]) -> None:
    folder, _ = trained
    start = open_folder(folder)
    net = plan_task(recipe(), dataset(), start=start).make_net()
    assert torch.equal(net.get_parameter("classifier.weight"), cn.load(folder).get_parameter("classifier.weight"))
    # Other labels: a new classifier, which starts at their shares.
    other = split_of("train", 120, 1)
    renamed = Dataset("renamed", {"train": Split("train", ("a", "b"), other.labels, other.source)})
    new = plan_task(recipe("minival=0", "select=last", "patience=0"), renamed, start=start).make_net()
    shares = (other.labels.sum(axis=0) + 0.5) / 121
    assert new.get_parameter("classifier.bias").sigmoid().tolist() == pytest.approx(shares.tolist())
    assert not new.get_parameter("classifier.weight").any()


def test_without_held_out_images_the_thresholds_are_a_half(tmp_path: Path) -> None:
    told: list[str] = []

    class Notes(Watcher):
        def notify(self, text: str) -> None:
            told.append(text)

    task = plan_task(recipe("minival=0", "select=last", "patience=0", "epochs=1"), dataset(), network=small_network())
    outcome = train(task, tmp_path / "m", watcher=Notes())
    assert outcome.thresholds is None
    assert outcome.model.postprocess == Postprocess(function="sigmoid")
    assert any("the threshold of each label is 0.5: no training images were held out" in text for text in told)
    assert any("probabilities are not calibrated: no training images were held out" in text for text in told)
