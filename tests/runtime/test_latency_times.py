"""Latencies: the figures of a list of times, the order of the rounds, and what is recorded beside them."""

from __future__ import annotations

import logging

import msgspec
import pytest

from compoundnet.base import CompoundNetError
from compoundnet.runtime.timing import rounds
from compoundnet.runtime.timing.rounds import setting, summarise, time_rounds


def test_the_figures_of_known_times() -> None:
    found = summarise([float(value) for value in range(1, 102)])
    assert (found.mean, found.median, found.p95, found.runs) == (51.0, 51.0, 96.0, 101)
    assert (found.fastest, found.slowest) == (1.0, 101.0)
    assert found.spread == pytest.approx(50 / 51)


def test_rounds_are_interleaved_and_the_warm_up_does_not_count() -> None:
    called: list[str] = []
    times = time_rounds({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, runs=3, warm_up=2)
    assert called == ["a", "b"] * 5
    assert list(times) == ["a", "b"]
    assert all(latency.runs == 3 and latency.fastest <= latency.median <= latency.p95 for latency in times.values())


def test_a_long_wait_is_told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    with caplog.at_level(logging.INFO):
        time_rounds({"a": list})
        assert caplog.messages == []
        monkeypatch.setattr(rounds, "_timed", lambda call: 500.0)
        time_rounds({"a": list, "b": list})
    assert caplog.messages == ["timing: 21 more rounds, about 21 s"]


def test_no_rounds_is_an_error() -> None:
    with pytest.raises(CompoundNetError, match="runs must be at least 1, got 0"):
        time_rounds({"a": list}, runs=0)


def test_the_setting_tells_what_a_latency_depends_on() -> None:
    found = msgspec.to_builtins(setting(threads=1, batch=4, runs=7))
    assert found["processor"] and found["cores"] >= 1
    assert (found["threads"], found["batch"], found["runs"]) == (1, 4, 7)
    assert {"python", "compoundnet", "torch", "onnxruntime", "numpy"} <= set(found["versions"])
    assert found["pinned"] is None or len(found["pinned"]) == found["cores"]
