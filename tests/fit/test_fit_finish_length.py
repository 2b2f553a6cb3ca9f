"""How long the winner of a race is trained on all images."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import pytest

from compoundnet.fit import Candidate
from compoundnet.fit.finish import Finish
from compoundnet.fit.trainings import Trainings

WINNER = Candidate("m", 32, "float32", 1, 1, 1, 1)
UNUSED: Any = None


@pytest.mark.parametrize(
    ("raced", "left", "expected"),
    [
        (1.0, 130, 1.0),  # 100 s with images held out are 115 s on all, and 3 s to write the model
        (1.0, 110, 0.7),  # loses less than a fifth of the images
        (1.0, 65, 0.5),
        (1.0, 50, None),  # 0.3 loses more
        (0.5, 50, 0.3),
        (0.5, 130, 1.0),  # longer than the race
        (0.3, 30, None),
    ],
)
def test_it_is_as_long_as_there_is_time_for_if_that_is_worth_more_than_the_held_out_images(
    raced: float, left: float, expected: float | None
) -> None:
    trainings = Trainings(UNUSED, Path(), {}, frozenset(), 1, time.time() + left, length=raced)
    finish = Finish(UNUSED, UNUSED, trainings, UNUSED, Path(), {WINNER: 100.0}, print)
    assert cast(Any, finish)._length_on_all(WINNER) == expected
