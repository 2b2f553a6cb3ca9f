"""Timing of calls in interleaved rounds, so that other load on the machine slows all of them alike.

The paper reports the mean of 20 runs on one thread; median, 95th percentile and spread show how reliable it is.
"""

from __future__ import annotations

import logging
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping

import msgspec
import numpy as np

from compoundnet.base import CompoundNetError
from compoundnet.base.machine import cores, installed_version, processor

_LOG = logging.getLogger(__name__)
RUNS, WARM_UP = 20, 3
# Seconds of waiting above which the expected duration is logged.
_LONG = 5.0
_PACKAGES = ("compoundnet", "torch", "onnxruntime", "openvino", "timm", "torchvision", "efficientnet_pytorch", "numpy")


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds of one call, over `runs` calls after the warm-up.

    Attributes:
        mean: The mean, as in Table 4 of the paper.
        median: Half of the calls took at most this long.
        p95: 95 % of the calls took at most this long.
        fastest: The shortest call.
        slowest: The longest call.
        spread: Interquartile range as a fraction of the median.
        runs: The number of calls that were counted.
    """

    mean: float
    median: float
    p95: float
    fastest: float
    slowest: float
    spread: float
    runs: int


class Setting(msgspec.Struct, frozen=True):
    """The conditions, besides the network, that latencies depend on.

    Attributes:
        processor: The name of the processor.
        cores: The number of cores that the process may use.
        pinned: The numbers of these cores; None if the system does not report them.
        load_average: The load average of the last minute before the measurement, i.e. the load of other processes; None
            as above.
        system: The operating system.
        device: The device of torch.
        threads: Threads of each network.
        batch: Images at a time.
        runs: Calls that are counted.
        warm_up: Calls before them.
        versions: The versions of the installed packages and of Python.
    """

    processor: str
    cores: int
    pinned: tuple[int, ...] | None
    load_average: float | None
    system: str
    device: str
    threads: int
    batch: int
    runs: int
    warm_up: int
    versions: dict[str, str]


def time_rounds(
    calls: Mapping[str, Callable[[], object]], *, runs: int = RUNS, warm_up: int = WARM_UP
) -> dict[str, Latency]:
    """Time calls in rounds: each is called once a round, for `runs` rounds after `warm_up` rounds that do not count.

    A long expected duration of all rounds is logged after the second round, because first calls are slower.

    Args:
        calls: The calls by name.
        runs: Rounds that count.
        warm_up: Rounds before them.

    Returns:
        The latencies by name.

    Raises:
        CompoundNetError: `runs` is less than 1.
    """
    if runs < 1:
        raise CompoundNetError(f"runs must be at least 1, got {runs}")
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(1, warm_up + runs + 1):
        milliseconds = {name: _timed(call) for name, call in calls.items()}
        if number > warm_up:
            for name, value in milliseconds.items():
                taken[name].append(value)
        left = warm_up + runs - number
        seconds = left * sum(milliseconds.values()) / 1e3
        if number == 2 and seconds > _LONG:
            _LOG.info("timing: %d more rounds, about %.0f s", left, seconds)
    return {name: summarise(values) for name, values in taken.items()}


def summarise(milliseconds: list[float]) -> Latency:
    """Return the latency of a list of times, which must not be empty."""
    low, median, high, p95 = np.percentile(milliseconds, [25, 50, 75, 95]).tolist()
    return Latency(
        mean=statistics.fmean(milliseconds),
        median=median,
        p95=p95,
        fastest=min(milliseconds),
        slowest=max(milliseconds),
        spread=(high - low) / median if median else 0.0,
        runs=len(milliseconds),
    )


def setting(*, threads: int, batch: int, runs: int = RUNS, warm_up: int = WARM_UP, device: str = "cpu") -> Setting:
    """Return the present conditions on this machine."""
    return Setting(
        processor=processor(),
        cores=cores(),
        pinned=tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None,
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        system=platform.platform(),
        device=device,
        threads=threads,
        batch=batch,
        runs=runs,
        warm_up=warm_up,
        versions={"python": platform.python_version(), **installed(*_PACKAGES)},
    )


def installed(*packages: str) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    versions = {package: installed_version(package) for package in packages}
    return {package: version for package, version in versions.items() if version is not None}


def _timed(call: Callable[[], object]) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3
