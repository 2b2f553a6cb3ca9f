"""The choice of the fastest backend for a network on this machine: measured once, then cached."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec

from compoundnet.base.machine import instruction_sets, processor
from compoundnet.runtime.backends.registry import Backend
from compoundnet.runtime.backends.session import open_session
from compoundnet.runtime.cache import stored
from compoundnet.runtime.session_source import SessionSource
from compoundnet.runtime.timing.rounds import time_rounds

_ROUNDS, _WARM_UP = 7, 2
_RESULT = "result.json"


class _Result(msgspec.Struct, frozen=True):
    """Seconds of a call, the median, by backend."""

    seconds: dict[str, float]


def fastest(source: SessionSource, backends: Sequence[Backend], threads: int, batch: int) -> Backend:
    """Return the fastest installed backend; if none is installed, the first, whose error says what to install."""
    installed = [backend for backend in backends if backend.is_installed]
    if len(installed) < 2:
        return [*installed, *backends][0]
    identity = source.identified("compoundnet", *sorted({backend.package for backend in installed}))
    if identity is not None:
        identity |= {"processor": f"{processor()} {instruction_sets()}", "threads": str(threads), "batch": str(batch)}
    make = partial(_measure, source, installed, threads, batch)
    doing = f"timing {', '.join(backend.name for backend in installed)}"
    with stored("fastest", source.name, identity, make, doing) as folder:
        seconds = msgspec.json.decode((folder / _RESULT).read_bytes(), type=_Result).seconds
    return min(installed, key=lambda backend: seconds[backend.name])


def _measure(source: SessionSource, backends: Sequence[Backend], threads: int, batch: int, folder: Path) -> None:
    images = source.probe(batch)
    calls = {backend.name: partial(open_session(source, backend, threads), images) for backend in backends}
    latencies = time_rounds(calls, runs=_ROUNDS, warm_up=_WARM_UP)
    result = _Result({name: latency.median / 1e3 for name, latency in latencies.items()})
    (folder / _RESULT).write_bytes(msgspec.json.encode(result))
