"""The times of a network's ways to run on this machine: measured once, then cached."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec

from compoundnet.base.machine import instruction_sets, processor
from compoundnet.runtime.backends.precisions import Way
from compoundnet.runtime.backends.session import open_session
from compoundnet.runtime.cache import stored
from compoundnet.runtime.session_source import SessionSource
from compoundnet.runtime.timing.rounds import time_rounds

_ROUNDS, _WARM_UP = 15, 2
_RESULT = "result.json"


class _Result(msgspec.Struct, frozen=True):
    """Seconds of a call, the median, by way."""

    seconds: dict[str, float]


def time_ways(
    source: SessionSource, ways: Sequence[Way], threads: int, batch: int, device: str = "cpu"
) -> dict[Way, float]:
    """Return the milliseconds of a batch in each way, the median of interleaved rounds; measured once, then cached."""
    identity = way_identity(source, ways, device)
    if identity is not None:
        identity |= {"threads": str(threads), "batch": str(batch)}
    make = partial(_measure, source, ways, threads, batch, device)
    with stored("fastest", source.name, identity, make, f"timing {', '.join(map(str, ways))}") as folder:
        seconds = msgspec.json.decode((folder / _RESULT).read_bytes(), type=_Result).seconds
    return {way: seconds[str(way)] * 1e3 for way in ways}


def way_identity(source: SessionSource, ways: Sequence[Way], device: str) -> dict[str, str] | None:
    """Return what a comparison of ways depends on; None if that is unknown."""
    identity = source.identified("compoundnet", *sorted({way.backend.package for way in ways}))
    if identity is None:
        return None
    for way in ways:
        other = source.in_precision(way.precision)
        if other is not source:
            identity |= {f"{way.precision} {key}": value for key, value in (other.identity or {}).items()}
    names = ", ".join(map(str, ways))
    return identity | {"processor": f"{processor()} {instruction_sets()}", "device": device, "ways": names}


def _measure(source: SessionSource, ways: Sequence[Way], threads: int, batch: int, device: str, folder: Path) -> None:
    images = source.probe(batch)
    calls = {
        str(way): partial(open_session(source, way.backend, threads, device, way.precision), images) for way in ways
    }
    latencies = time_rounds(calls, runs=_ROUNDS, warm_up=_WARM_UP)
    result = _Result({name: latency.median / 1e3 for name, latency in latencies.items()})
    (folder / _RESULT).write_bytes(msgspec.json.encode(result))
