"""How long the winner of a race goes on with all images."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import pytest
from fit_jobs import UNUSED, fit_job

from compoundnet.fit import Candidate
from compoundnet.fit.finish import Finish
from compoundnet.fit.trainings import Trainings

WINNER = Candidate("m", 32, "float32", 1, 1, 1, 1)


class Usual(Trainings):
    """Ten epochs are usual."""

    def usual(self, candidate: Candidate) -> int:
        return 10


@pytest.mark.parametrize(
    ("raced", "left", "expected"),
    [
        # Ten epochs take 100 s with images held out, 115 s on all, and 3 s to write the model; 5 % is in reserve.
        (1.0, 126, 10),
        (1.0, 114, 9),
        (1.0, 65, 5),
        (1.0, 63, None),
        (0.5, 126, 10),  # whatever the race
        (1.0, 1000, 20),
    ],
)
def test_it_is_as_long_as_there_is_time_for(raced: float, left: float, expected: int | None) -> None:
    trainings = Usual(UNUSED, Path(), {}, frozenset(), 1, time.time() + left, length=raced)
    finish = Finish(fit_job(), UNUSED, trainings, {WINNER: 100.0})
    assert cast(Any, finish)._epochs_on_all(WINNER) == expected
