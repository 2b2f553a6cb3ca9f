"""The order of the screen: a first answer soon, and the other ways to compute what is too slow."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from fit_jobs import UNUSED, fit_job
from grey_images import images

from compoundnet.base import CompoundNetError
from compoundnet.fit import Candidate, Limits, Screened, screen_run
from compoundnet.fit.screen_run import ScreenRun
from compoundnet.fit.state import Fit


def candidate(resolution: int) -> Candidate:
    return Candidate("m", resolution, "float32", 1, resolution**2, 1, 1)


class Starts:
    """The model of every candidate, of which nothing is asked."""

    def __init__(self) -> None:
        self.opened: dict[str, object] = {}

    def __call__(self, candidate: Candidate) -> None:
        pass


def screen_of(
    limits: Limits, answer: object = None, until: float | None = None, first: Callable[..., Fit] = UNUSED
) -> Any:
    state = Fit("greys", "", "", limits, 1, "", answer=answer)  # type: ignore[arg-type]
    return ScreenRun(fit_job(print, dataset=UNUSED, starts=Starts()), state, {"m": 64}, until, first, lambda *_: None)


def test_until_there_is_an_answer_what_is_predicted_to_fit_comes_first() -> None:
    candidates = [candidate(side) for side in (64, 48, 32)]
    run = screen_of(Limits(max_latency=1.0))
    assert run._next(candidates) == candidate(64), "nothing is known yet"
    run._timed["m"] = {40**2: 1.0}
    assert run._next(candidates) == candidate(32)
    assert run._next(candidates[:2]) == candidate(64), "none fits"
    assert screen_of(Limits(max_latency=1.0), answer="one")._next(candidates) == candidate(64)
    assert screen_of(Limits())._next(candidates) == candidate(64)


def test_the_time_of_a_resolution_by_others() -> None:
    """At 32 px half of the time is not that of the multiply-adds."""
    run = screen_of(Limits(max_latency=1.0))
    assert run._predicted(candidate(48)) == 0.0
    run._timed["m"] = {64**2: 5.0, 32**2: 2.0}
    assert run._predicted(candidate(48)) == pytest.approx(2.0 + 3.0 * (48**2 - 32**2) / (64**2 - 32**2))
    assert run._predicted(candidate(64)) == 5.0
    assert run._predicted(candidate(128)) == pytest.approx(4 * 5.0)
    assert run._predicted(candidate(16)) == pytest.approx(2.0 / 4)
    run._state = msgspec.structs.replace(run._state, ratios={" int8": 0.5})
    assert run._predicted(candidate(64).in_precision("int8")) == pytest.approx(2.5)


def test_the_ways_are_compared_for_one_candidate_at_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the time is up after comparing, one candidate in a faster way is screened all the same, and no other."""
    asked, sides = list[Candidate](), list[int]()

    def screened(one: Candidate, *_: object, **__: object) -> tuple[Screened, tuple[str, ...]]:
        asked.append(one)
        return Screened(one, 1.0, 0.5), ()

    monkeypatch.setattr(screen_run, "screen", screened)
    run = screen_of(Limits(max_latency=1.0), answer="one", until=time.monotonic() + 1000)

    def compared(_: object, side: int, *__: object) -> dict[str, float]:
        sides.append(side)
        run._until = time.monotonic() - 1
        return {" int8": 0.5}

    monkeypatch.setattr(screen_run, "compare_ways", compared)
    slow = [candidate(64), candidate(48), candidate(128)]
    run._found = [Screened(one, ms, dropped="more than 1 ms") for one, ms in zip(slow, (1.9, 1.5, 5.0), strict=True)]
    run._faster(list(slow))
    assert asked == [candidate(64).in_precision("int8")]
    assert sides == [48], "the nearest to where another way meets the limit"
    again = screen_of(Limits(max_latency=1.0), answer="one", until=time.monotonic() - 1)
    again._state = msgspec.structs.replace(again._state, ratios={" int8": 0.5})
    again._found = run._found[:3]
    again._faster(list(slow))
    assert len(asked) == 1 and again._left == 2, "which is counted: 128 px are too slow in any way"


def test_when_the_time_is_up_what_is_known_in_a_faster_way_stays() -> None:
    # A call that goes on has its own time for what is new; the results of before cost none.
    known, new = candidate(64).in_precision("int8"), candidate(48)
    state = Fit("greys", "", "", Limits(max_latency=1.0), 1, "", ratios={" int8": 0.5}, answer="one")  # type: ignore[arg-type]
    state = msgspec.structs.replace(state, screened=(Screened(known, 0.9, 0.5),))
    run = ScreenRun(
        fit_job(dataset=UNUSED, starts=Starts()), state, {"m": 64}, time.monotonic() - 1, UNUSED, lambda *_: None
    )
    run._found = [Screened(one, ms, dropped="more than 1 ms") for one, ms in ((candidate(64), 1.8), (new, 1.5))]
    run._faster([candidate(64), new])
    assert [one.candidate for one in run._fits()] == [known] and run._left == 1


def test_ctrl_c_while_ways_are_compared_leaves_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    compared, asked = list[int](), list[Candidate]()

    def interrupted(_: object, side: int, *__: object) -> dict[str, float]:
        compared.append(side)
        raise KeyboardInterrupt

    monkeypatch.setattr(screen_run, "compare_ways", interrupted)
    monkeypatch.setattr(screen_run, "screen", lambda one, *_, **__: asked.append(one))
    slow = [Screened(candidate(side), 1.5, dropped="more than 1 ms") for side in (64, 48)]
    run = screen_of(Limits(max_latency=1.0), answer="one")
    run._found = [*slow, Screened(candidate(32), 0.5, 0.5)]
    run._faster([one.candidate for one in slow])
    assert run.stopped and len(compared) == 1 and not asked
    nothing = screen_of(Limits(max_latency=1.0), answer="one")
    nothing._found = slow
    with pytest.raises(KeyboardInterrupt):  # there is nothing to finish with
        nothing._faster([one.candidate for one in slow])


def test_what_is_too_slow_in_another_format_is_tried_in_its_other_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """1.8 ms on ONNX Runtime are 3.6 in the format's first way and 0.9 in int8."""
    monkeypatch.setattr(screen_run, "screen", lambda one, *_, **__: (Screened(one, 0.9, 0.5), ()))
    run = screen_of(Limits(max_latency=1.0), answer="one")
    ratios = {" float32": 2.0, " int8": 0.5}
    run._state = msgspec.structs.replace(run._state, format="torch", ratios=ratios)
    run._found = [Screened(candidate(64), 3.6, dropped="more than 1 ms")]
    run._faster([candidate(64)])
    assert [one.candidate for one in run._found[1:]] == [candidate(64).in_precision("int8")]


def test_what_comes_nearest_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing fits, the lowest resolution had only been predicted to be too slow."""
    slow = "more than 0.1 ms"
    monkeypatch.setattr(screen_run, "screen", lambda one, *_, **__: (Screened(one, 0.5, dropped=slow), ()))
    run = screen_of(Limits(max_latency=0.1))
    run._found = [
        Screened(candidate(64), 2.0, dropped="more than 0.1 ms"),
        Screened(candidate(48)),
        Screened(candidate(32)),
    ]
    run._timed["m"] = {64**2: 2.0}
    run._time_fastest()
    assert run._found[-1] == Screened(candidate(32), 0.5, dropped="more than 0.1 ms") and len(run._found) == 3
    with pytest.raises(CompoundNetError, match="the fastest that was timed, m at 32 px, takes"):
        run._raise_too_slow()


def test_how_fast_int8_is_is_measured_before_what_is_deployed_in_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """3 ms in float32 are 0.9 in int8, which the limit admits."""
    small = candidate(64).in_precision("int8")
    monkeypatch.setattr(screen_run, "find_candidates", lambda *_: [(small, None)])
    monkeypatch.setattr(screen_run, "compare_ways", lambda *_: {" int8": 0.3})

    def screened(one: Candidate, *_: object, **given: Any) -> tuple[Screened, tuple[str, ...]]:
        return Screened(one, 3.0 * given["ratios"].get(one.way, 1.0), 0.5), ()

    monkeypatch.setattr(screen_run, "screen", screened)
    run = screen_of(Limits(max_latency=1.0), answer="one")
    run._dataset, run._chosen = images(), {"m": 32}
    (found,) = run.run().ranking
    assert (found.candidate, found.latency) == (small, pytest.approx(0.9))


def test_narrower_networks_are_as_large_as_the_first_of_them_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Much of the model's time at its lowest resolution is that of reading weights, of which they have fewer."""

    def narrower(*given: Any) -> list[Candidate]:
        macs = given[-1].max_macs
        return [Candidate("m", 64, "float32", 1, round(macs), 1, 1, width=width) for width in (0.5, 0.4)]

    monkeypatch.setattr(screen_run, "scaled_candidates", narrower)
    monkeypatch.setattr(screen_run, "smallest_model", lambda _: "m")
    monkeypatch.setattr(screen_run, "screen", lambda one, *_, **__: (Screened(one, one.macs / 1000, 0.5), ()))
    run = screen_of(Limits(max_latency=2.0), answer="one")
    run._dataset = images()
    run._screen_narrower(2.0)
    assert run._found == [], "nothing was timed"
    run._timed["m"] = {1000: 2.0, 9000: 6.0}
    run._screen_narrower(2.0)
    assert [one.latency for one in run._found] == [1.0, 2.0, 2.0]
