"""The time that is kept for the end of a fit, and what the trainings get of the rest."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
from fit_jobs import UNUSED, fit_job, probe_answer
from grey_images import images

from compoundnet.base.machine import cores
from compoundnet.fit import Candidate, Limits, Screened, entry
from compoundnet.fit.ending import seconds_after_race, seconds_after_training
from compoundnet.fit.entry import Entry, NoRaceError
from compoundnet.fit.state import Fit
from compoundnet.fit.trainings import Trainings


def candidate(side: int, precision: str = "float32") -> Candidate:
    return Candidate("m", side, precision, 1, side**2, 1, 1)


# Int8 ranks first.
INT8, WHOLE = Screened(candidate(64, "int8"), 5.0, 0.9), Screened(candidate(48), 5.0, 0.88)
STATE = Fit(
    "greys", "", "", Limits(max_latency=6.0), 1, "", ratios={" int8": 0.5}, screened=(INT8, WHOLE),
    answer=probe_answer(WHOLE.candidate, seconds=10.0),
)  # fmt: skip
TESTED = len(images(30).split("test")) * 5.0 / 1e3 / cores()


def test_it_depends_on_the_precision_of_the_answer_and_of_the_first() -> None:
    data = images(30)
    assert seconds_after_training(WHOLE, STATE, data) == pytest.approx(10 + TESTED)
    assert seconds_after_training(INT8, STATE, data) == pytest.approx(40 + TESTED)
    sought = msgspec.structs.replace(STATE, limits=Limits(max_latency=6.0, max_drop=0.01))
    assert seconds_after_training(INT8, sought, data) == pytest.approx(60 + TESTED)
    assert seconds_after_training(WHOLE, sought, data) == pytest.approx(10 + TESTED)
    for layers, expected in ((0, 40), (2, 60)):  # so long did the first take
        first = probe_answer(INT8.candidate, seconds=float(expected), float32_layers=layers)
        assert seconds_after_training(WHOLE, msgspec.structs.replace(STATE, answer=first), data) == pytest.approx(
            10 + TESTED
        )


def test_after_the_race_it_is_compared_and_raised_too() -> None:
    """Up to 4/3 of the side, which takes 16/9 of the time, or as long as may be."""
    data, before = images(30), 9 + 8 + 10
    for limit, slowest in ((6.0, 6.0), (100.0, 16 / 9 * 5.0)):
        state = msgspec.structs.replace(STATE, limits=Limits(max_latency=limit))
        assert seconds_after_race(WHOLE, state, data) == pytest.approx(before + TESTED * slowest / 5.0)
    state = msgspec.structs.replace(STATE, limits=Limits(min_accuracy=0.95))
    assert seconds_after_race(WHOLE, state, data) == pytest.approx(before - 8 + TESTED * 16 / 9)


@pytest.mark.parametrize(
    ("seconds", "first", "left"),
    [
        (300.0, 64, 243.0),  # all of it but 9 + 8 + 40 s
        (75.0, 48, 48.0),  # 18 s are too few for int8; without it there are 9 + 8 + 10 less than 75
        (20.0, None, 0.0),
    ],
)
def test_int8_leaves_less_time_than_float32(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seconds: float, first: int | None, left: float
) -> None:
    monkeypatch.setattr(entry, "estimate_all", lambda _, entrants: [(one, 100.0) for one in entrants])
    monkeypatch.setattr(Entry, "_is_fast", lambda *_, **__: True)
    chosen = Entry(fit_job(seconds=seconds, starts=UNUSED), images(300), STATE)
    if first is None:
        with pytest.raises(NoRaceError, match=r"^the time is up$"):
            chosen.promising()
        return
    plan = chosen.planned(Trainings(images(300), tmp_path, {}, frozenset(), 1, UNUSED), chosen.promising())
    assert plan.entrants[0].resolution == first
    assert chosen.until(plan.entrants) - time.time() == pytest.approx(left, abs=3)
