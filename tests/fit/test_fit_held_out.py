"""Network or probe: which of the two the held-out images decide for."""

from __future__ import annotations

import numpy as np
import pytest

from compoundnet.fit.held_out import HeldOutComparison


@pytest.mark.parametrize(
    ("only_probe", "only_tuned", "cross_validated", "with_all", "without"),
    [
        (3, 5, 0.95, True, True),
        (4, 4, 0.96, True, True),
        (3, 2, 0.98, True, True),  # one image more: chance
        (6, 3, 0.97, True, False),  # ahead by 1.3 standard errors
        (9, 3, 0.97, False, False),  # by 2.1
        (6, 3, None, True, False),  # as with the accuracy on these images, 0.97
        (9, 3, 0.93, True, True),  # the probe is lucky with these images: on all it has two points more, not six
        (3, 5, 0.99, True, False),  # and here unlucky
    ],
)
def test_fine_tuning_is_taken_unless_the_probe_is_clearly_better(
    only_probe: int, only_tuned: int, cross_validated: float | None, with_all: bool, without: bool
) -> None:
    """Clearly: with 95 % confidence if the network will be trained on all images, else by one standard error."""
    both = np.ones(100, np.bool_)
    tuned, probed = both.copy(), both.copy()
    tuned[:only_probe] = False
    probed[50 : 50 + only_tuned] = False
    found = HeldOutComparison(tuned, probed, cross_validated)
    assert (found.better(on_all=True), found.better(on_all=False)) == (with_all, without)


def test_where_both_have_the_same_images_wrong_they_are_equal_whatever_these_images_are() -> None:
    right = np.arange(100) < 80
    for cross_validated in (0.7, 0.8, 0.9):
        assert HeldOutComparison(right, right, cross_validated).better(on_all=False)
    # A probe that has all of them right, or none, does not tell which are easy.
    assert not HeldOutComparison(right, np.ones(100, np.bool_), 0.9).better(on_all=True)
    assert HeldOutComparison(right, np.zeros(100, np.bool_), 0.7).better(on_all=False)
