"""Logistic regression on features: the minimum of its objective, the choice of the strength, and balance."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from compoundnet.base import CompoundNetError
from compoundnet.train import Probe, fit_probe, logistic
from compoundnet.train.logistic import STRENGTHS, assign_folds


def drawn(counts: tuple[int, ...], width: int, noise: float = 2.0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Points around one centre a class, which do not depend on the counts."""
    random = np.random.default_rng(1)
    centres = random.normal(size=(len(counts), width))
    labels = np.repeat(np.arange(len(counts)), counts)
    return (3 + centres[labels] + noise * random.normal(size=(len(labels), width))).astype(np.float32), labels


def scaled(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """As the strength is defined: of variance 1."""
    centred = features - features.mean(axis=0)
    return np.asarray(centred / np.sqrt(np.square(centred).mean()))


@pytest.mark.parametrize("width", [12, 300])
def test_it_is_the_minimum_that_scikit_learn_finds(width: int) -> None:
    """With fewer and with more images than features."""
    features, labels = drawn((40, 30, 50), width)
    probe = fit_probe(features, labels)
    points = scaled(features)
    other = LogisticRegression(C=1 / (probe.strength * len(labels)), tol=1e-8, max_iter=10_000).fit(points, labels)
    expected = other.decision_function(points)
    found = probe.logits(features)
    difference = (found - found.mean(axis=1, keepdims=True)) - (expected - expected.mean(axis=1, keepdims=True))
    assert np.abs(difference).max() < 0.02 * np.abs(expected).max()


def test_the_strength_is_that_of_the_lowest_loss_on_images_left_out() -> None:
    features, labels = drawn((60, 60), 40, noise=4.0)
    probe = fit_probe(features, labels)
    assert probe.losses[probe.strength] == min(probe.losses.values())
    assert set(probe.losses) == set(STRENGTHS[: len(probe.losses)])
    # The trade-off has two sides: the strongest is too strong, and the last ones are too weak.
    assert STRENGTHS[0] > probe.strength > list(probe.losses)[-1]
    accuracy = (probe.held_out.argmax(axis=1) == labels).mean()
    assert probe.accuracy == pytest.approx(accuracy)
    assert probe.mean_per_class == pytest.approx(accuracy)  # of classes of equal size


def test_the_mean_per_class_is_of_the_classes_that_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many images only some choose the strength: there may be none of a rare class among them."""
    monkeypatch.setattr(logistic, "_MOST", 60)
    features, labels = drawn((150, 150, *[2] * 20), 8)
    probe = fit_probe(features, labels)
    known = np.unique(probe.labels)
    assert len(probe.labels) == 60 and 2 < len(known) < 22
    right = probe.held_out.argmax(axis=1) == probe.labels
    assert probe.mean_per_class == pytest.approx(np.mean([right[probe.labels == label].mean() for label in known]))
    assert f" of the {len(known)} of 22 classes that are among the images judged in 2-fold" in str(probe)
    assert "among" not in str(fit_probe(*drawn((20, 20), 8)))


def test_what_is_left_out_was_not_fitted() -> None:
    """Labels that mean nothing cannot be predicted for images that are left out."""
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(200, 400)).astype(np.float32), random.integers(0, 2, 200)
    probe = fit_probe(features, labels)
    assert 0.35 < probe.accuracy < 0.65


def recalls(probe: Probe, features: NDArray[np.float32], labels: NDArray[np.int64]) -> list[float]:
    found = probe.logits(features).argmax(axis=1)
    return [float((found[labels == label] == label).mean()) for label in range(2)]


@pytest.mark.parametrize("balance", ["loss", "sampler"])
def test_balance_makes_up_for_a_small_class(balance: str) -> None:
    features, labels = drawn((400, 20), 20, noise=3.5)
    even, truth = drawn((400, 400), 20, noise=3.5)
    plain = recalls(fit_probe(features, labels, balance="none"), even, truth)
    balanced = recalls(fit_probe(features, labels, balance=balance), even, truth)  # type: ignore[arg-type]
    assert balanced[1] > plain[1] + 0.15
    assert sum(balanced) > sum(plain)


def test_several_labels_are_as_many_yes_or_no_questions() -> None:
    features, _ = drawn((150,), 15)
    random = np.random.default_rng(2)
    sums = features @ random.normal(size=(15, 3)) + random.normal(size=(150, 3))
    labels = sums > np.quantile(sums, (0.3, 0.5, 0.8), axis=0).diagonal()
    probe = fit_probe(features, labels)
    points = scaled(features)
    for place in range(3):
        strength = 1 / (probe.strength * len(labels))
        other = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000).fit(points, labels[:, place])
        expected = other.decision_function(points)
        assert np.abs(probe.logits(features)[:, place] - expected).max() < 0.05 * np.abs(expected).max()
    assert probe.mean_per_class is None
    assert probe.accuracy == pytest.approx(((probe.held_out > 0) == labels).all(axis=1).mean())


def test_folds_share_every_class_evenly() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), (23, 5, 10, 7))
    folds = assign_folds(labels[:, None] == np.arange(4), 5, random)
    table = np.array([np.bincount(folds[labels == label], minlength=5) for label in range(4)])
    assert (np.ptp(table, axis=1) <= 1).all()
    assert np.ptp(table.sum(axis=0)) <= 1
    several = random.random((60, 3)) < (0.1, 0.3, 0.6)
    shared = assign_folds(several, 5, random)
    assert shared.min() == 0 and shared.max() == 4
    assert (np.ptp([several[shared == fold].sum(axis=0) for fold in range(5)], axis=0) <= 4).all()


def test_a_class_with_two_images_is_enough_and_one_is_not() -> None:
    features, labels = drawn((6, 2), 5)
    assert fit_probe(features, labels).folds == 2
    features, labels = drawn((6, 1), 5)
    with pytest.raises(CompoundNetError, match=r"'few' has 1 training image, and a probe needs at least 2"):
        fit_probe(features, labels, ("many", "few"))
    with pytest.raises(CompoundNetError, match="not finite"):
        fit_probe(np.full((4, 2), np.nan, np.float32), np.array([0, 1, 0, 1]))
