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

# A way that takes much longer than the fastest in the first rounds is not timed again.
_FIRST_ROUNDS, _ROUNDS, _WARM_UP, _FAR = 3, 15, 1, 1.3
# Images at a time: larger batches take no less for each image, and times for one decide the same.
_MOST_IMAGES = 16
_RESULT = "result.json"


class _Result(msgspec.Struct, frozen=True):
    """Seconds of the shortest call, by way: other work on the machine only adds to it."""

    seconds: dict[str, float]


def time_ways(
    source: SessionSource, ways: Sequence[Way], threads: int, batch: int, device: str = "cpu"
) -> dict[Way, float]:
    """Return the milliseconds of a batch in each way, the least of interleaved rounds; measured once, then cached.

    A batch of more than 16 images is estimated from one of 16.
    """
    identity = way_identity(source, ways, device)
    scale = max(1.0, batch / _MOST_IMAGES)
    batch = min(batch, _MOST_IMAGES)
    if identity is not None:
        identity |= {"threads": str(threads), "batch": str(batch)}
    make = partial(_measure, source, ways, threads, batch, device)
    with stored("fastest", source.name, identity, make, f"timing {', '.join(map(str, ways))}") as folder:
        seconds = msgspec.json.decode((folder / _RESULT).read_bytes(), type=_Result).seconds
    return {way: seconds[str(way)] * 1e3 * scale for way in ways}


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
    latencies = time_rounds(calls, runs=_FIRST_ROUNDS, warm_up=_WARM_UP)
    least = min(latency.fastest for latency in latencies.values())
    near = {name: call for name, call in calls.items() if latencies[name].fastest <= _FAR * least}
    if len(near) > 1:
        latencies |= time_rounds(near, runs=_ROUNDS, warm_up=0)
    result = _Result({name: latency.fastest / 1e3 for name, latency in latencies.items()})
    (folder / _RESULT).write_bytes(msgspec.json.encode(result))
