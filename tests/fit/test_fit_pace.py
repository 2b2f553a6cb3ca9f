"""Times of candidates on a machine that other work makes slower for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from fit_jobs import UNUSED, fit_job
from grey_images import images

from compoundnet.fit import Candidate, Limits, Screened, pace, screen_run, ways
from compoundnet.fit.pace import Pace, Reference, begin_pace
from compoundnet.fit.screen_run import ScreenRun
from compoundnet.fit.state import Fit

LIMIT = 1.0


def candidate(side: int, model: str = "m") -> Candidate:
    return Candidate(model, side, "float32", 1, side**2, 1, 1)


class Machine:
    """Takes a millionth of a network's multiply-adds in milliseconds, times what it is slower."""

    def __init__(self) -> None:
        self.slower = 1.0

    def __call__(self, side: int) -> float:
        return side**2 / 4096 * self.slower


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()

    def timed(calls: dict[str, Callable[[], float]], **_: object) -> dict[str, Any]:
        return {name: SimpleNamespace(median=call()) for name, call in calls.items()}

    monkeypatch.setattr(pace, "time_rounds", timed)
    monkeypatch.setattr(ways, "time_rounds", timed)
    return made


def pace_of(machine: Machine, latency: float | None = None) -> Pace:
    return Pace(lambda: machine(32), candidate(32), latency)


def test_times_are_those_of_the_machine_at_its_fastest(machine: Machine) -> None:
    one = pace_of(machine)
    assert one.time(lambda: machine(64)) == 1.0
    machine.slower = 1.8
    assert one.time(lambda: machine(64)) == pytest.approx(1.05)
    assert one.slowest == pytest.approx(1.8)
    machine.slower = 0.5
    assert one.time(lambda: machine(64)) == 0.5
    assert one.reference == Reference(candidate(32), 0.125)


@pytest.mark.parametrize("slower", [0.9, 1.1])
def test_what_hardly_differs_is_left_as_it_is(machine: Machine, slower: float) -> None:
    one = pace_of(machine)
    machine.slower = slower
    assert one.time(lambda: machine(64)) == slower
    assert (one.reference.latency, one.slowest) == (0.25, 1.0)


def test_what_was_timed_while_the_machine_changed_is_timed_again(machine: Machine) -> None:
    one, asked = pace_of(machine), list[float]()

    def latency() -> float:
        asked.append(machine(64))
        machine.slower = 2.0
        return asked[-1]

    assert one.time(latency) == pytest.approx(1.05)
    assert asked == [1.0, 2.0]


class Starts:
    opened: ClassVar[dict[str, object]] = {"m": None}

    def __call__(self, _: Candidate) -> Any:
        return SimpleNamespace(at_resolution=lambda side: side)


def test_the_reference_takes_about_as_long_as_the_limit(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    class Opened:
        def __init__(self, side: int) -> None:
            self._side = side

        def open(self, _: int) -> Callable[[object], float]:
            return lambda _: machine(self._side)

    monkeypatch.setattr(pace, "Embedder", Opened)

    candidates = [*map(candidate, (32, 48, 64, 96)), candidate(56, "other")]
    starts: Any = Starts()
    assert begin_pace(candidates, starts, LIMIT, 1, None).reference == Reference(candidate(64), 1.0)
    assert begin_pace(candidates, starts, 0.1, 1, None).reference == Reference(candidate(32), 0.25)
    known = Reference(candidate(48), 0.5)
    assert begin_pace(candidates, starts, LIMIT, 1, known).reference == known
    gone = Reference(candidate(48, "gone"), 0.5)
    assert begin_pace(candidates, starts, LIMIT, 1, gone).reference == Reference(candidate(64), 1.0)


@pytest.fixture
def screened(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The sides that were screened, each with the real rule of what is too slow."""
    asked: list[int] = []

    def screen(one: Candidate, *_: object, timed: Callable[[Any], float], **__: object) -> tuple[Screened, tuple[()]]:
        asked.append(one.resolution)
        latency = timed(one)
        found = Screened(one, latency, 0.5 if latency <= LIMIT else None)
        return found.under(LIMIT), ()

    monkeypatch.setattr(screen_run, "screen", screen)
    monkeypatch.setattr(screen_run, "network_latency", lambda one, _: machine(one.resolution))
    monkeypatch.setattr(screen_run, "begin_pace", lambda *_: pace_of(machine))
    monkeypatch.setattr(screen_run, "other_ways", lambda _: [])
    yield asked


def run_of(said: list[str]) -> Any:
    state = Fit("greys", "", "", Limits(max_latency=LIMIT), 1, "", answer="one")  # type: ignore[arg-type]
    job = fit_job(said.append, dataset=images(), starts=Starts())
    return ScreenRun(job, state, {"m": 64}, None, UNUSED, lambda *_: None)


def test_candidates_that_were_dropped_while_the_machine_was_slow_are_screened_again(
    machine: Machine, screened: list[int]
) -> None:
    run = run_of([])
    machine.slower = 2.0
    for side in (96, 64, 52, 32):
        run._one(candidate(side))
    assert [one.fits for one in run._found] == [False, False, False, True]
    assert run._found[1].dropped == "predicted to take 2 ms, more than 1 ms"
    machine.slower = 1.0
    run._all([candidate(48)], [])
    assert screened == [96, 52, 32, 48, 64, 52]
    found = {one.candidate.resolution: one for one in run._found}
    assert {side: one.latency for side, one in found.items()} == {
        96: 2.25,
        32: 0.25,
        48: 0.5625,
        64: 1.0,
        52: 52**2 / 4096,
    }
    assert {side for side, one in found.items() if one.fits} == {32, 48, 52, 64}
    assert run._state.reference == Reference(candidate(32), 0.25)


def test_so_are_they_where_it_is_seen_with_what_exceeds_the_budget(
    machine: Machine, screened: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the last that is timed. Here the machine becomes faster before."""
    run, original, beyond = run_of([]), vars(screen_run)["screen"], candidate(66)
    fitting = [(candidate(side), None) for side in (64, 32)]
    monkeypatch.setattr(screen_run, "find_candidates", lambda *_: [*fitting, (beyond, "too many")])
    monkeypatch.setattr(screen_run, "wide_enough", lambda *_: True)
    monkeypatch.setattr(Candidate, "exceeds", lambda *_: None)
    machine.slower = 2.0

    def screen(one: Candidate, *args: Any, **options: Any) -> Any:
        machine.slower = 1.0 if one == beyond else machine.slower
        return original(one, *args, **options)

    monkeypatch.setattr(screen_run, "screen", screen)
    found = {one.candidate.resolution: one for one in run.run().screened}
    assert screened == [64, 32, 66, 64]
    assert {side: (one.latency, one.fits) for side, one in found.items() if side <= 64} == {
        64: (1.0, True),
        32: (0.25, True),
    }


def test_what_the_times_are_corrected_by_is_said(
    machine: Machine, screened: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    run = run_of(said)
    candidates = [candidate(64), candidate(60)]

    def slow(one: Candidate, *args: Any, **options: Any) -> Any:
        machine.slower = 1.8 if one.resolution == 60 else 1.0
        return original(one, *args, **options)

    original: Any = vars(screen_run)["screen"]
    monkeypatch.setattr(screen_run, "screen", slow)
    monkeypatch.setattr(screen_run, "find_candidates", lambda *_: [(one, None) for one in candidates])
    state = run.run()
    assert {one.candidate.resolution: one.fits for one in state.screened} == {64: True, 60: True}
    note = (
        "this machine was up to 1.8 times slower while candidates were timed than at its fastest: their times are"
        " corrected by that of m at 32 px"
    )
    assert note in said
    assert note in state.notes
    assert note in state.passing
