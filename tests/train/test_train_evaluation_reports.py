"""What an evaluation reports: figures against scikit-learn and by hand, calibration, rows of images, the sheet."""

from __future__ import annotations

import csv
import json
import tracemalloc
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from command import run
from numpy.typing import NDArray
from PIL import Image
from scipy import special
from sklearn import metrics
from small_train import CLASSES, small_dataset, small_network, small_recipe

from compoundnet.base import CompoundNetError
from compoundnet.data import Split
from compoundnet.explain import Explainer
from compoundnet.models import ModelFolder, Postprocess, Preprocess, load, write_folder
from compoundnet.nn import build
from compoundnet.train import Evaluation, Watcher, evaluate, fit_temperature, plan_task, train
from compoundnet.train.counts import counts_of_logits
from compoundnet.train.evaluation.calibration import BINS, calibration_bins, calibration_error
from compoundnet.train.evaluation.evaluation_report import wilson
from compoundnet.train.evaluation.mistakes import mistakes_sheet
from compoundnet.train.evaluation.single_label import SingleLabelReport, image_values, single_label_report

LABELS = tuple(f"class {number}" for number in range(7))


def model(folder: Path, labels: tuple[str, ...] = CLASSES, temperature: float = 1.0) -> ModelFolder:
    torch.manual_seed(1)
    network = small_network(len(labels))
    state = build(network).state_dict()
    return write_folder(
        folder, network, state, Preprocess(32, 1.0), labels=labels, postprocess=Postprocess(temperature), readme="x\n"
    )


def single(found: Evaluation) -> SingleLabelReport:
    """The report of a model that gives each image one class."""
    assert isinstance(found.report, SingleLabelReport)
    return found.report


def random_logits(count: int = 500) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits of seven classes, one of them never true and one never predicted, and the true classes."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (count, 7))
    logits[:, 5] = -20
    labels = np.where(random.random(count) < 0.4, logits.argmax(1), random.integers(0, 6, count))
    labels[labels == 6] = 0
    return logits, labels


def report(logits: NDArray[np.float64], labels: NDArray[np.int64], temperature: float = 1.0) -> SingleLabelReport:
    values = image_values(torch.from_numpy(logits), torch.from_numpy(labels), temperature).numpy()
    return single_label_report(values, LABELS[: logits.shape[1]], temperature)


def test_figures_of_classes_are_those_of_scikit_learn() -> None:
    logits, labels = random_logits()
    found = report(logits, labels)
    predicted = logits.argmax(1)
    precision, recall, f1, count = metrics.precision_recall_fscore_support(
        labels, predicted, labels=range(7), zero_division=0
    )
    assert {score.label for score in found.classes} == {LABELS[number] for number in range(7) if count[number]}
    for score in found.classes:
        number = LABELS.index(score.label)
        assert (score.precision or 0, score.recall, score.f1) == pytest.approx(
            (precision[number], recall[number], f1[number])
        )
        assert (score.precision is None) == (not (predicted == number).any())
        assert score.count == count[number]
    present = [LABELS.index(score.label) for score in found.classes]
    assert found.means() == pytest.approx(
        {"recall": recall[present].mean(), "precision": precision[present].mean(), "f1": f1[present].mean()}
    )
    matrix = metrics.confusion_matrix(labels, predicted, labels=range(7))
    np.testing.assert_array_equal(found.counts.confusion.toarray(), matrix)
    assert found.counts.top5 == pytest.approx(metrics.top_k_accuracy_score(labels, logits, k=5, labels=range(7)))
    assert found.counts.loss == pytest.approx(metrics.log_loss(labels, special.softmax(logits, 1), labels=range(7)))


def test_wilsons_interval_by_hand() -> None:
    # Wilson 1927 for 8 of 10, z = 1.96: (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)
    found = wilson(8, 10)
    assert (found.low, found.high) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert str(found) == "95% interval 49.02 to 94.33"
    assert wilson(10, 10).high == pytest.approx(1.0)


def test_the_json_document_of_a_thousand_classes_is_small() -> None:
    random = np.random.default_rng(5)
    truth = np.repeat(np.arange(1000), 5)
    values = image_values(torch.from_numpy(random.normal(0, 1, (5000, 1000))), torch.from_numpy(truth), 1.0).numpy()
    fields = single_label_report(values, tuple(map(str, range(1000))), 1.0).fields()
    assert len(msgspec.json.encode(fields["confusion"])) < 100_000  # all cells: 2 MB


def test_the_memory_of_a_report_is_that_of_its_images() -> None:
    """All pairs of ImageNet-21k's 21,843 classes take 3.8 GB."""
    labels, truth = tuple(map(str, range(21_843))), np.array([21_842, 21_842, 0])
    logits = np.zeros((3, len(labels)), np.float32)
    logits[[0, 1, 2], [21_842, 7, 0]] = 5
    values = image_values(torch.from_numpy(logits), torch.from_numpy(truth), 1.0).numpy()
    tracemalloc.start()
    try:
        found = single_label_report(values, labels, 1.0)
        fields, counts = found.fields(), counts_of_logits(logits, truth)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50e6
    assert (found.counts.top1, counts.top1, found.counts.count) == (2 / 3, 2 / 3, 3)
    assert fields["confusion"] == {"labels": ["0", "7", "21842"], "cells": [[0, 0, 1], [2, 1, 1], [2, 2, 1]]}
    assert [(score.label, score.most_confused) for score in found.classes] == [("0", None), ("21842", "7")]


def test_equal_logits_are_ranked_by_number() -> None:
    """So that an image is right exactly if its true class has rank 1."""
    logits = np.zeros((7, 7))
    found = report(logits, np.arange(7))
    assert found.images.rank.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert found.counts.top1 == pytest.approx(1 / 7)


# Calibration


def test_the_calibration_error_by_hand() -> None:
    # Two images in the bin up to 0.6 (one right), two in the last bin (both right): widths are 1 / 15.
    probabilities = np.array([0.55, 0.59, 0.95, 1.0])
    bins = calibration_bins(probabilities, np.array([True, False, True, True]))
    assert [one.count for one in bins if one.count] == [2, 2]
    assert calibration_error(bins) == pytest.approx(0.5 * abs(0.5 - 0.57) + 0.5 * abs(1 - 0.975))
    assert (bins[0].low, bins[-1].high, len(bins)) == (0, 1, BINS)
    edges = calibration_bins(np.array([0.2, 0.2 + 1e-9]), np.array([True, True]))  # (low, high]
    assert [place for place, one in enumerate(edges) if one.count] == [2, 3]


@pytest.mark.parametrize("temperature", [0.4, 1.8, 5.0])
def test_a_known_temperature_is_found_and_mends_the_error(temperature: float) -> None:
    random = np.random.default_rng(1)
    logits = random.normal(0, 2, (4000, 5))
    chances = special.softmax(logits, 1)
    labels = (random.random((4000, 1)) < chances.cumsum(1)).argmax(1)
    found = fit_temperature(logits * temperature, labels)
    assert found.temperature == pytest.approx(temperature, rel=0.06)
    assert found.loss < found.loss_before
    fixed = report(logits * temperature, labels, found.temperature).calibration
    assert fixed.ece < 0.03 < fixed.ece_before
    assert fixed.loss == pytest.approx(found.loss, abs=1e-6)
    assert "calibrated on 4,000 held-out images: temperature" in str(found)


def test_a_few_images_change_nothing() -> None:
    random = np.random.default_rng(2)
    logits = random.normal(0, 2, (12, 5))
    labels = logits.argmax(1)
    labels[:3] = 0
    found = fit_temperature(logits, labels)
    assert found.temperature == 1.0 and found.fitted != 1.0
    assert found.loss == found.loss_before
    assert "probabilities left as they are: 12 held-out images do not show" in str(found)
    assert "1 held-out image does not show" in str(msgspec.structs.replace(found, images=1))


def test_images_that_are_all_right_do_not_make_everything_certain() -> None:
    logits = np.tile([2.0, 0.0, 0.0], (200, 1))
    found = fit_temperature(logits, np.zeros(200, np.int64))
    assert 0.1 < found.temperature < 1
    assert special.softmax(logits[0] / found.temperature).max() < 0.999


def test_ten_certain_and_right_images_do_not_make_the_model_uncertain() -> None:
    """Platt's targets alone would: they count one image in twelve as wrong."""
    logits = np.tile([6.0, 0.0, 0.0, 0.0], (10, 1))
    found = fit_temperature(logits, np.zeros(10, np.int64))
    assert found.fitted > 1.3
    assert found.temperature == 1.0


# Evaluation of a model


def test_a_temperature_changes_probabilities_and_nothing_else(tmp_path: Path) -> None:
    plain = evaluate(model(tmp_path / "plain"), small_dataset(test=31))
    warm = evaluate(model(tmp_path / "warm", temperature=4.0), small_dataset(test=31))
    np.testing.assert_array_equal(plain.confusion, warm.confusion)
    assert single(warm).calibration.temperature == 4.0
    assert single(warm).calibration.ece_before == pytest.approx(single(plain).calibration.ece, abs=1e-9)
    assert single(warm).images.probability.mean() < single(plain).images.probability.mean()
    assert any("without the model's temperature of 4" in line for line in warm.summary())


def test_rows_of_images_agree_with_the_network(tmp_path: Path) -> None:
    opened, dataset = model(tmp_path / "model"), small_dataset(test=31)
    found = evaluate(opened, dataset, batch=8)
    found.write_images(tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    split = dataset.split("test")
    net = load(opened)
    assert len(rows) == 31
    for number, row in enumerate(rows):
        with torch.no_grad():
            chances = net(opened.preprocess(split.image(number))[None]).double().softmax(1)[0]
        truth = int(split.labels[number])
        assert row["file"] == split.image_name(number)
        assert (row["truth"], row["prediction"]) == (CLASSES[truth], CLASSES[int(chances.argmax())])
        assert float(row["probability"]) == pytest.approx(float(chances.max()), rel=1e-4)
        assert float(row["true_probability"]) == pytest.approx(float(chances[truth]), rel=1e-4)
        assert row["correct"] == str(truth == int(chances.argmax())).lower()
        assert int(row["true_rank"]) == 1 + int((chances > chances[truth]).sum())


def test_the_json_document_holds_all_figures(tmp_path: Path) -> None:
    found = evaluate(model(tmp_path / "model"), small_dataset(test=31))
    fields = json.loads(msgspec.json.encode(found.fields()))
    assert fields["top1_interval"] == [single(found).interval.low, single(found).interval.high]
    assert fields["confusion"]["labels"] == list(CLASSES)
    matrix = np.zeros_like(found.confusion)
    for true, predicted, count in fields["confusion"]["cells"]:
        assert count and not matrix[true, predicted]
        matrix[true, predicted] = count
    np.testing.assert_array_equal(matrix, found.confusion)
    assert fields["calibration"]["ece"] == single(found).calibration.ece
    assert fields["classes"][0].keys() >= {"precision", "recall", "f1"}
    assert "confusion" not in json.loads(found.result_file())


def test_the_sheet_shows_the_most_confident_mistakes(tmp_path: Path) -> None:
    opened, dataset = model(tmp_path / "model"), small_dataset(test=31)
    found = evaluate(opened, dataset)
    worst = found.report.mistakes(3)
    chances = single(found).images.probability
    wrong = np.flatnonzero(single(found).images.truth != single(found).images.predicted)
    assert [mistake.image for mistake in worst] == sorted(wrong, key=lambda number: -chances[number])[:3]
    page = mistakes_sheet(found, Explainer(opened), most=3)
    assert page is not None
    assert page.image.width == 1600
    first = worst[0]
    truth, predicted = CLASSES[dict(first.classes)["true class"]], CLASSES[dict(first.classes)["predicted"]]
    line = page.description.splitlines()[0]
    assert f"predicted: {predicted} " in line and f"true class: {truth} " in line
    assert found.split.image_name(first.image).rpartition("/")[2] in line
    with pytest.raises(CompoundNetError, match="1 to 50 images, got 0"):
        mistakes_sheet(found, Explainer(opened), most=0)


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    opened = model(tmp_path / "model")
    state = load(opened).state_dict()
    state["classifier.bias"][1] = float("nan")
    damaged = write_folder(
        tmp_path / "damaged", opened.network, state, opened.preprocess, labels=opened.labels, readme="x\n"
    )
    with pytest.raises(CompoundNetError, match=r"the tensor classifier\.bias is not finite: 1 of its 3 values"):
        evaluate(damaged, small_dataset())


def test_the_command_prints_and_writes_everything(tmp_path: Path) -> None:
    opened, split = model(tmp_path / "model"), small_dataset(test=31).split("test")
    for number in range(len(split)):
        folder = tmp_path / "data" / CLASSES[int(split.labels[number])]
        folder.mkdir(parents=True, exist_ok=True)
        split.image(number).save(folder / f"{number}.png")
    files = {"--csv": "rows.csv", "--mistakes": "sheet.jpg", "--confusion": "c.csv"}
    written = [word for option, name in files.items() for word in (option, str(tmp_path / name))]
    done = run("evaluate", opened.folder, tmp_path / "data", "--split", "all", *written)
    assert done.returncode == 0, done.stderr
    for text in ("precision", "recall", "F1", "true, then predicted", "95% interval", "expected calibration error"):
        assert text in done.stdout
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 32
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.width == 1600
    assert (tmp_path / "c.csv").read_text().splitlines()[0] == "true class,dark,grey,light"
    (opened.folder / "labels.txt").unlink()
    for label, name in enumerate(CLASSES):
        (tmp_path / "data" / name).rename(tmp_path / "data" / str(label))
    nameless = run("evaluate", opened.folder, tmp_path / "data", "--split", "all", "--json")
    notes = json.loads(nameless.stdout)["notes"]
    assert len(notes) == 1 and notes[0].endswith(" has no class names: the classes 0, 1, 2 are taken as its numbers")
    assert nameless.stderr.count(notes[0]) == 1
    refused = run("evaluate", opened.folder, tmp_path / "data", "--confusion", tmp_path / "c.txt")
    assert refused.returncode == 2
    assert ".png or .csv" in refused.stderr


class Listener(Watcher):
    """Keeps what a run tells."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def notify(self, text: str) -> None:
        self.told.append(text)


def test_training_calibrates_on_the_held_out_images_and_keeps_the_temperature(tmp_path: Path) -> None:
    recipe = small_recipe("epochs=4", "minival=60", "label_smoothing=0.3", "patience=0", "select=last")
    listener = Listener()
    task = plan_task(recipe, small_dataset(train=200), network=small_network())
    done = train(task, tmp_path / "model", watcher=listener)
    assert done.calibration is not None and done.calibration.images == 60
    assert done.model.postprocess.temperature == done.calibration.temperature < 1  # smoothing makes it too modest
    assert str(done.calibration) in listener.told
    assert "calibrated on 60 held-out images: temperature" in (done.model.folder / "README.md").read_text()
    assert task.held is not None
    logits = np.concatenate([runtime_logits(done.model, task.held, number) for number in range(60)])
    expected = fit_temperature(logits, task.held.labels.astype(np.int64))
    assert done.calibration.temperature == pytest.approx(expected.temperature, rel=1e-3)


def runtime_logits(opened: ModelFolder, split: Split, number: int) -> NDArray[np.float32]:
    with torch.no_grad():
        logits: NDArray[np.float32] = load(opened)(opened.preprocess(split.image(number))[None]).numpy()
    return logits


def test_training_says_why_it_does_not_calibrate(tmp_path: Path) -> None:
    listener = Listener()
    recipe = small_recipe("epochs=1", "minival=0", "patience=0", "select=last")
    done = train(plan_task(recipe, small_dataset(), network=small_network()), tmp_path / "model", watcher=listener)
    assert done.calibration is None
    assert any("not calibrated: no training images were held out" in text for text in listener.told)
    assert not (done.model.folder / "postprocess.toml").exists()
    held = plan_task(small_recipe("epochs=1"), small_dataset(), network=small_network(), calibrated=False)
    assert held.held is not None
    off = train(held, tmp_path / "off", watcher=listener)
    assert off.calibration is None and off.model.postprocess == Postprocess()
