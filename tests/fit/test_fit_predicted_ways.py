"""Entrants of a race in another precision than float32: each is timed in it before it is trained."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fit_jobs import fit_job, probe_answer
from grey_images import images

from compoundnet.base import CompoundNetError, Notify, ignore
from compoundnet.fit import Candidate, Limits, Screened, entry
from compoundnet.fit.entry import Entry, NoRaceError
from compoundnet.fit.race_plan import RacePlan
from compoundnet.fit.state import Fit
from compoundnet.fit.trainings import Trainings


def candidate(resolution: int, precision: str = "int8", backend: str = "") -> Candidate:
    return Candidate("m", resolution, precision, 1, resolution**2, 1, 1, backend=backend)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[tuple[str, str]]]]:
    """The resolutions and ways that were timed; int8 takes 0.9, 0.55 and 0.4 of the time at 64, 48 and 32 px."""
    found: list[tuple[int, list[tuple[str, str]]]] = []

    def compare_ways(
        model: object, side: int, data: object, form: str, threads: int, ways: list[tuple[str, str]]
    ) -> dict[str, float]:
        found.append((side, ways))
        if side == 96:
            raise CompoundNetError("it cannot be exported")
        return {"the way": {64: 0.9, 48: 0.55, 32: 0.4}[side] * (0.5 if ways == [("openvino", "int8")] else 1)}

    monkeypatch.setattr(entry, "compare_ways", compare_ways)
    monkeypatch.setattr(entry, "estimate_all", lambda _, entrants: [(one, 1.0) for one in entrants])
    return found


def entry_of(state: Fit, notify: Notify = ignore, count: int = 30) -> Entry:
    return Entry(fit_job(notify, seconds=100.0, starts=lambda _: None), images(count), state)


def planned(
    screened: list[Screened],
    limits: Limits,
    folder: Path,
    form: str = "onnx",
    ratios: dict[str, float] | None = None,
) -> tuple[RacePlan, list[str]]:
    said: list[str] = []
    state: Any = Fit(
        "greys", "", "", limits, 1, "", form, ratios=ratios or {" int8": 0.5}, screened=tuple(screened),
        answer=probe_answer(candidate(32)),
    )  # fmt: skip
    trainings = Trainings(images(), folder, {}, frozenset(), 1, time.time() + 100)
    chosen = entry_of(state, said.append)
    plan = chosen.planned(trainings, screened)
    assert set(plan.entrants) <= {one.candidate for one in chosen.state.screened}
    return plan, said


# Each takes 10 ms in float32, and was predicted to take half in int8.
SCREENED = [Screened(candidate(side), 5.0, 0.5) for side in (96, 64, 48, 32)]


def test_what_is_slower_than_predicted_does_not_start(
    asked: list[tuple[int, list[tuple[str, str]]]], tmp_path: Path
) -> None:
    plan, said = planned(SCREENED, Limits(max_latency=6.0), tmp_path)
    assert plan.entrants == (candidate(48),)
    assert asked == [(side, [("", "int8")]) for side in (96, 64, 48)]
    assert said == [
        "m at 96 px in int8 is not fine-tuned: it cannot be exported",
        "m at 64 px in int8 timed: 9 ms, 0.90 times that of the screen, so it is not fine-tuned",
        "m at 48 px in int8 timed: 5.5 ms, 0.55 times that of the screen",
    ]


def test_what_is_close_to_the_limit_starts_if_nothing_else_is_left(
    asked: list[tuple[int, list[tuple[str, str]]]], tmp_path: Path
) -> None:
    plan, _ = planned(SCREENED[2:], Limits(max_latency=5.6), tmp_path)
    assert plan.entrants == (candidate(32),)
    plan, _ = planned(SCREENED[2:3], Limits(max_latency=5.6), tmp_path)
    assert plan.entrants == (candidate(48),)
    with pytest.raises(NoRaceError, match="every candidate takes longer than --max-latency when it is timed") as error:
        planned(SCREENED[2:3], Limits(max_latency=5.4), tmp_path)
    assert error.value.state.screened == tuple(SCREENED[2:3]), "they fit all the same, as probes"


def test_a_way_on_another_backend(asked: list[tuple[int, list[tuple[str, str]]]], tmp_path: Path) -> None:
    one = Screened(candidate(48, "bfloat16", "openvino"), 4.0, 0.5)
    plan, said = planned([one], Limits(max_latency=6.0), tmp_path, ratios={"openvino bfloat16": 0.4})
    assert plan.entrants == (one.candidate,) and asked == [(48, [("openvino", "bfloat16")])]
    assert said == ["m at 48 px in bfloat16 on openvino timed: 5.5 ms, 0.55 times that of the screen"]


def test_what_is_slower_than_predicted_starts_in_a_faster_way(
    asked: list[tuple[int, list[tuple[str, str]]]], tmp_path: Path
) -> None:
    """At 64 px int8 takes 9 ms in place of 5; on the other backend 4.5, which was predicted."""
    ratios, other = {" int8": 0.5, "openvino int8": 0.45}, candidate(64).in_precision("int8", "openvino")
    plan, said = planned(SCREENED[1:], Limits(max_latency=6.0), tmp_path, ratios=ratios)
    assert plan.entrants == (other,) and asked == [(64, [("", "int8")]), (64, [("openvino", "int8")])]
    assert said == [
        "m at 64 px in int8 timed: 9 ms, 0.90 times that of the screen, so it is not fine-tuned",
        "m at 64 px in int8 on openvino is timed in its place",
        "m at 64 px in int8 on openvino timed: 4.5 ms, 0.45 times that of the screen",
    ]


def test_a_later_call_goes_on_in_the_faster_way(asked: list[tuple[int, list[tuple[str, str]]]], tmp_path: Path) -> None:
    """Its screen knows the candidate in the way that was predicted alone."""
    ratios, other = {" int8": 0.5, "openvino int8": 0.45}, candidate(64).in_precision("int8", "openvino")
    plan = RacePlan((other,), (1.0,), ((1, 1.0),), 1.0, 1.0, 0.0)
    state: Any = Fit(
        "greys", "", "", Limits(max_latency=6.0), 1, "", "onnx", ratios=ratios, screened=tuple(SCREENED), plan=plan,
        seconds=100.0, answer=probe_answer(candidate(32)),
    )  # fmt: skip
    chosen = entry_of(state)
    trainings = Trainings(images(), tmp_path, {}, frozenset(), 1, time.time() + 100)
    assert chosen.planned(trainings, SCREENED) == plan and not asked
    assert chosen.state.screened == (*SCREENED, Screened(other, 4.5, 0.5))
    before = chosen.state
    assert chosen.planned(trainings, SCREENED) == plan and chosen.state == before


@pytest.mark.parametrize("ratio", [0.51, 0.5, 0.45])
def test_a_way_that_is_no_faster_or_too_slow_is_not_tried(
    asked: list[tuple[int, list[tuple[str, str]]]], tmp_path: Path, ratio: float
) -> None:
    """Slower than the one that failed, as fast, and too slow itself: 0.45 times the 10 ms in float32."""
    limit, ratios = 4.3 if ratio == 0.45 else 6.0, {" int8": 0.5, "openvino int8": ratio}
    plan, _ = planned([SCREENED[1], SCREENED[3]], Limits(max_latency=limit), tmp_path, ratios=ratios)
    assert plan.entrants == (candidate(32),) and [side for side, _ in asked] == [64, 32]


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [({}, [32]), ({" int8": 0.98}, [32]), ({" int8": 0.7}, [48, 32]), ({" float32": 2.0, "x int8": 1.9}, [48, 32])],
)
def test_what_is_close_to_the_limit_starts_if_another_way_is_faster(
    ratios: dict[str, float], expected: list[int]
) -> None:
    """It is deployed in that, if it misses the limit in float32."""
    said: list[str] = []
    close, fast = Screened(candidate(48, "float32"), 0.99, 0.6), Screened(candidate(32, "float32"), 0.5, 0.5)
    state = Fit(
        "greys", "", "", Limits(max_latency=1.0), 1, "", "onnx", ratios=ratios, screened=(close, fast),
        answer=probe_answer(fast.candidate),
    )  # fmt: skip
    promising = entry_of(state, said.append).promising()
    assert sorted((one.candidate.resolution for one in promising), reverse=True) == expected
    assert any("within 3% of --max-latency is not fine-tuned" in line for line in said) == (expected == [32])


def test_many_candidates(tmp_path: Path) -> None:
    said: list[str] = []
    screened = tuple(Screened(candidate(side, "float32"), 1.0, side / 100) for side in range(30, 60))
    state = Fit("greys", "", "", Limits(), 1, "", "onnx", screened=screened, answer=probe_answer(candidate(32)))
    chosen = entry_of(state, said.append)
    assert len(chosen.promising()) == 18
    assert "of 30 candidates that fit, the 18 that rank highest may be fine-tuned" in said
    assert chosen.state.notes == tuple(said)


@pytest.mark.parametrize(
    ("one", "limits", "form"),
    [
        (candidate(48, "float32"), Limits(max_latency=6.0), "onnx"),  # timed by the screen
        (candidate(48), Limits(max_size=1e6), "onnx"),  # no limit of latency
    ],
)
def test_what_need_not_be_timed(
    asked: list[tuple[int, list[tuple[str, str]]]], tmp_path: Path, one: Candidate, limits: Limits, form: str
) -> None:
    plan, said = planned([Screened(one, 5.0, 0.5)], limits, tmp_path, form)
    assert plan.entrants == (one,) and not said and not asked


def test_where_a_probe_suffices_only_what_is_faster_may_race() -> None:
    enough, fast, slow = (
        Screened(candidate(side, "float32"), side / 10, accuracy)
        for side, accuracy in ((48, 0.92), (32, 0.8), (96, 0.99))
    )
    state = Fit(
        "greys", "", "", Limits(min_accuracy=0.9), 1, "", screened=(enough, fast, slow),
        answer=probe_answer(fast.candidate),
    )  # fmt: skip
    assert entry_of(state, count=600).promising() == [fast]
    with pytest.raises(NoRaceError, match="as a probe, and nothing faster fits"):
        entry_of(msgspec.structs.replace(state, screened=(enough, slow)), count=600).promising()
    none = msgspec.structs.replace(state, limits=Limits(min_accuracy=0.999))
    assert entry_of(none, count=600).promising() == [slow, enough, fast]
