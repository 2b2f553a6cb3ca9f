"""Several labels an image: loss, thresholds and scores on small cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import special

from compoundnet.data import Split
from compoundnet.data.sources import Arrays
from compoundnet.models import Postprocess
from compoundnet.train.evaluation.calibration import fit_label_temperature
from compoundnet.train.evaluation.multi_label import label_calibration
from compoundnet.train.several_labels import (
    LabelCrossEntropy,
    LabelPredictions,
    average_precisions,
    best_thresholds,
    fit_thresholds,
    label_predictions,
    label_scores,
    starting_bias,
)

# Of the first label two of four images, of the second one, of the third none.
TRUTH = np.array([[1, 0, 0], [0, 0, 0], [1, 1, 0], [0, 0, 0]], np.bool_)
PROBABILITIES = np.array([[0.9, 0.2, 0.6], [0.8, 0.4, 0.3], [0.7, 0.4, 0.2], [0.1, 0.1, 0.1]])


def test_the_average_precision_is_the_sum_of_the_steps_of_recall() -> None:
    found = average_precisions(TRUTH, PROBABILITIES)
    # Half of the recall at a precision of 1, the other half at 2 of 3.
    assert found[0] == pytest.approx((1 + 2 / 3) / 2)
    # Two images share the probability of the only one with the label: precision 1 of 2.
    assert found[1] == pytest.approx(1 / 2)
    assert math.isnan(found[2])
    predictions = LabelPredictions(TRUTH, PROBABILITIES, 0.0)
    assert predictions.mean_average_precision == pytest.approx((5 / 6 + 1 / 2) / 2)


def test_a_threshold_has_the_highest_f1_and_lies_halfway_to_the_next_image() -> None:
    first, second, third = best_thresholds(TRUTH, PROBABILITIES)
    # At 0.7 F1 is 2 * 2 / (2 + 3) = 0.8; at 0.9 it is 2 / (2 + 1) = 0.67. The next probability below is 0.1.
    assert first == pytest.approx((0.7 + 0.1) / 2)
    assert second == pytest.approx((0.4 + 0.2) / 2)
    assert third == 0.5


def test_a_label_of_every_image_takes_the_lowest_threshold() -> None:
    assert best_thresholds(np.ones((2, 1), np.bool_), np.array([[0.9], [0.4]])) == (0.2,)


def test_the_scores_of_a_label_are_those_at_its_threshold() -> None:
    first, second, third = label_scores(
        LabelPredictions(TRUTH, PROBABILITIES, 0.0), ("cat", "dog", "bird"), (0.75, 0.4, 0.6)
    )
    assert (first.count, first.predicted, first.right) == (2, 2, 1)
    assert (first.precision, first.recall, first.f1) == (0.5, 0.5, 0.5)
    assert (second.count, second.predicted, second.right) == (1, 2, 1)
    assert (second.precision, second.recall) == (0.5, 1.0)
    assert second.f1 == pytest.approx(2 / 3)
    assert (third.count, third.predicted, third.right) == (0, 1, 0)
    assert (third.average_precision, third.precision, third.recall, third.f1) == (None, 0.0, None, None)
    assert [one.threshold for one in (first, second, third)] == [0.75, 0.4, 0.6]


def test_one_label_alone_is_scored_too() -> None:
    (only,) = label_scores(LabelPredictions(TRUTH[:, :1], PROBABILITIES[:, :1], 0.0), ("cat",), (0.95,))
    assert (only.predicted, only.precision, only.recall, only.f1) == (0, None, 0.0, 0.0)


def test_the_loss_is_the_sum_over_labels_and_the_mean_over_images() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [math.log(3), -math.log(3)]])
    labels = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    # Probabilities 1/2, 3/4; 3/4, 1/4: of the true answers 1/2, 1/4; 3/4, 3/4.
    expected = (-math.log(1 / 2) - math.log(1 / 4) - 2 * math.log(3 / 4)) / 2
    assert LabelCrossEntropy()(logits, labels).item() == pytest.approx(expected)


def test_smoothing_takes_half_its_amount_from_either_answer() -> None:
    # A probability of 1/4 that the image has the label; smoothed by 0.2 the target is 0.9.
    found = LabelCrossEntropy(0.2)(torch.tensor([[-math.log(3)]]), torch.ones(1, 1))
    assert found.item() == pytest.approx(-0.9 * math.log(1 / 4) - 0.1 * math.log(3 / 4))


def test_a_new_classifier_starts_at_the_share_of_each_label() -> None:
    split = Split("train", ("a", "b", "c"), TRUTH, Arrays("x", np.zeros((4, 8, 8), np.uint8)))
    expected = [(2 + 0.5) / 5, (1 + 0.5) / 5, 0.5 / 5]
    assert starting_bias(split).sigmoid().tolist() == pytest.approx(expected)


def test_thresholds_say_on_how_many_images_they_stand() -> None:
    found = fit_thresholds(LabelPredictions(TRUTH, PROBABILITIES, 0.0), ("cat", "dog", "bird"))
    assert (found.images, found.undecided, found.rarest, found.rarest_count) == (4, ("bird",), "dog", 1)
    assert str(found) == (
        "the threshold of each label is that of the best F1 on 4 held-out images, of which 1 has 'dog', the rarest; it"
        " is 0.5 for labels that none of these images has: 'bird'"
    )


# Calibration


def drawn(images: int, seed: int, groups: int = 6) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Logits of six labels, and for each image labels of just these probabilities; labels of a group go together."""
    random = np.random.default_rng(seed)
    logits = np.repeat(random.normal(-1, 2, (images, groups)), 6 // groups, axis=1)
    chances = np.repeat(random.random((images, groups)), 6 // groups, axis=1)
    return logits, chances < special.expit(logits)


@pytest.mark.parametrize("temperature", [0.4, 1.8, 5.0])
def test_a_known_temperature_of_several_labels_is_found_and_mends_the_error(temperature: float) -> None:
    logits, truth = drawn(4000, seed=1)
    found = fit_label_temperature(logits * temperature, truth)
    assert found.temperature == pytest.approx(temperature, rel=0.06)
    assert found.loss < found.loss_before
    predictions = label_predictions(logits * temperature, truth, Postprocess(found.temperature, "sigmoid"))
    fixed = label_calibration(predictions, found.temperature)
    assert fixed.ece < 0.02 < fixed.ece_before
    assert (fixed.loss, fixed.loss_before) == pytest.approx((found.loss, found.loss_before), abs=1e-6)
    plain = label_calibration(label_predictions(logits * temperature, truth, Postprocess(1.0, "sigmoid")), 1.0)
    assert (plain.ece, plain.loss) == pytest.approx((fixed.ece_before, fixed.loss_before), abs=1e-6)
    assert sum(one.count for one in fixed.bins) == 4000 * 6


@pytest.mark.parametrize("groups", [6, 1])
def test_probabilities_that_are_right_stay_as_they_are(groups: int) -> None:
    """Also of labels that go together: they are no further observations."""
    kept = sum(fit_label_temperature(*drawn(200, seed, groups)).temperature == 1 for seed in range(100))
    assert kept >= 88  # the test of 95 % is wrong in 5 of 100; more than 12 happens in one of 2,000 cases


def test_labels_that_are_all_right_do_not_make_everything_certain() -> None:
    truth = np.tile([True, False], (200, 1))
    logits = np.where(truth, 2.0, -2.0)
    found = fit_label_temperature(logits, truth)
    assert 0.1 < found.temperature < 1
    assert special.expit(2 / found.temperature) < 0.999


def test_a_label_that_no_image_has_leaves_the_others_alone() -> None:
    logits, truth = drawn(4000, seed=3)
    none = np.full((4000, 1), -9.0)
    found = fit_label_temperature(np.hstack([logits * 3, none]), np.hstack([truth, none > 0]))
    assert found.temperature == pytest.approx(3, rel=0.1)
