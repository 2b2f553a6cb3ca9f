"""Network or probe: which of the two the held-out images decide for."""

from __future__ import annotations

import numpy as np
import pytest

from compoundnet.fit.held_out import HeldOutComparison


@pytest.mark.parametrize(
    ("only_probe", "only_tuned", "with_all", "without"),
    [
        (3, 5, True, True),
        (4, 4, True, True),
        (3, 2, True, True),  # one image more: chance
        (9, 3, True, False),  # ahead by 6 of 12, more than 3.5; p = 0.15
        (14, 3, False, False),  # p = 0.013
    ],
)
def test_fine_tuning_is_taken_unless_the_probe_is_clearly_better(
    only_probe: int, only_tuned: int, with_all: bool, without: bool
) -> None:
    """Clearly: with 95 % confidence if the network will be trained on all images, else by one standard error."""
    both = np.ones(100, np.bool_)
    tuned, probed = both.copy(), both.copy()
    tuned[:only_probe] = False
    probed[50 : 50 + only_tuned] = False
    found = HeldOutComparison(tuned, probed)
    assert (found.better(on_all=True), found.better(on_all=False)) == (with_all, without)
