"""Timing several things in one run: interleaved rounds, so that drift of the machine hits all alike."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping

from compoundnet.base.machine import processor


def compare(title: str, subjects: Mapping[str, Callable[[], object]], ours: str, rounds: int = 15) -> dict[str, float]:
    """Run every subject once a round, print median milliseconds and the ratio to `ours`, and return the medians."""
    for run in subjects.values():
        run()
        run()
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, run in subjects.items():
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) * 1e3)
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"\n{title} ({rounds} rounds, {machine()})")
    for name, median in sorted(medians.items(), key=lambda item: item[1]):
        low, high = min(times[name]), max(times[name])
        print(f"  {name:44s} {median:9.2f} ms  ({low:.2f} to {high:.2f})  {median / medians[ours]:6.2f}x ours")
    return medians


def machine() -> str:
    """What the figures were measured on, as far as they depend on it."""
    return f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"
