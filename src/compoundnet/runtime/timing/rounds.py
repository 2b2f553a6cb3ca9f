"""How long things take: as the paper times them (batch 1, one thread, the mean of 20 runs) and as engineers do (after a
warm-up, median, 95th percentile and spread; in interleaved rounds where several are compared, so that drift of the
machine hits all alike)."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib import metadata

import msgspec
import numpy as np

from compoundnet.base import CompoundNetError
from compoundnet.base.machine import cores, processor

_LOG = logging.getLogger(__name__)
RUNS, WARM_UP = 20, 3
# Seconds of waiting that a note tells of.
_LONG = 5.0
_PACKAGES = ("compoundnet", "torch", "onnxruntime", "openvino", "timm", "torchvision", "efficientnet_pytorch", "numpy")


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds of one call, over `runs` calls after the warm-up.

    mean    what the paper's Table 4 gives
    p95     95 % of the calls were at most this long
    spread  interquartile range as a fraction of the median
    """

    mean: float
    median: float
    p95: float
    fastest: float
    slowest: float
    spread: float
    runs: int


class Setting(msgspec.Struct, frozen=True):
    """What latencies depend on beside the network.

    pinned        numbers of the cores that the process may use; None where the system does not say
    load_average  of the last minute when the measurement began: how busy others kept the machine; None as above
    versions      of the packages that are installed, and of Python
    """

    processor: str
    cores: int
    pinned: tuple[int, ...] | None
    load_average: float | None
    system: str
    threads: int
    batch: int
    runs: int
    warm_up: int
    versions: dict[str, str]


def time_rounds(
    subjects: Mapping[str, Callable[[], object]], *, runs: int = RUNS, warm_up: int = WARM_UP
) -> dict[str, Latency]:
    """Call every subject once a round, for `runs` rounds after `warm_up` rounds that do not count.

    How long they will take is logged, where that is long: by the second, because the first call of anything is slower.
    Raises CompoundNetError where runs is less than 1.
    """
    if runs < 1:
        raise CompoundNetError(f"runs must be at least 1, got {runs}")
    taken: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(1, warm_up + runs + 1):
        milliseconds = {name: _timed(call) for name, call in subjects.items()}
        if number > warm_up:
            for name, value in milliseconds.items():
                taken[name].append(value)
        left = warm_up + runs - number
        seconds = left * sum(milliseconds.values()) / 1e3
        if number == 2 and seconds > _LONG:
            _LOG.info("timing: %d more rounds, about %.0f s", left, seconds)
    return {name: summarise(values) for name, values in taken.items()}


def summarise(milliseconds: list[float]) -> Latency:
    """The figures of a list of times, which must not be empty."""
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


def setting(*, threads: int, batch: int, runs: int = RUNS, warm_up: int = WARM_UP) -> Setting:
    """What holds on this machine now."""
    return Setting(
        processor=processor(),
        cores=cores(),
        pinned=tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None,
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        system=platform.platform(),
        threads=threads,
        batch=batch,
        runs=runs,
        warm_up=warm_up,
        versions={"python": platform.python_version(), **installed(*_PACKAGES)},
    )


def installed(*packages: str) -> dict[str, str]:
    """The versions of those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            # Installed under another name, such as onnxruntime-gpu, or run from a source folder; or not at all.
            if importlib.util.find_spec(package) is not None:
                found[package] = str(importlib.import_module(package).__version__)
    return found


def _timed(call: Callable[[], object]) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3
