"""Which backend runs a network fastest on this machine: measured once, then remembered."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from compoundnet.base.machine import instruction_sets, processor
from compoundnet.runtime.cache import stored
from compoundnet.runtime.session_source import SessionSource
from compoundnet.runtime.sessions import BACKENDS, Session, is_installed, open_session

_ROUNDS, _WARM_UP = 7, 2
_RESULT = "result.json"


class _Result(msgspec.Struct, frozen=True):
    """Seconds a call, the median, by backend."""

    seconds: dict[str, float]


def fastest(source: SessionSource, backends: Sequence[str], threads: int, batch: int) -> str:
    """The fastest of those that are installed. Their rounds are interleaved, so that a busy machine slows all alike."""
    installed = [backend for backend in backends if is_installed(backend)]
    if len(installed) < 2:
        return [*installed, *backends][0]  # opening one that is not installed says what to do
    identity = source.identified("compoundnet", *sorted({BACKENDS[backend].package for backend in installed}))
    if identity is not None:
        identity |= {"processor": f"{processor()} {instruction_sets()}", "threads": str(threads), "batch": str(batch)}
    make = partial(_measure, source, installed, threads, batch)
    with stored("fastest", source.name, identity, make, f"timing {', '.join(installed)}") as folder:
        seconds = msgspec.json.decode((folder / _RESULT).read_bytes(), type=_Result).seconds
    return min(seconds, key=lambda backend: seconds[backend])


def _measure(source: SessionSource, backends: Sequence[str], threads: int, batch: int, folder: Path) -> None:
    sessions = {backend: open_session(source, backend, threads) for backend in backends}
    size = source.input_size
    pictures = np.random.default_rng(0).standard_normal((batch, source.channels, size, size), dtype=np.float32)
    taken: dict[str, list[float]] = {backend: [] for backend in backends}
    for round_ in range(-_WARM_UP, _ROUNDS):
        for backend, run in sessions.items():
            seconds = _timed(run, pictures)
            if round_ >= 0:
                taken[backend].append(seconds)
    result = _Result({backend: statistics.median(values) for backend, values in taken.items()})
    (folder / _RESULT).write_bytes(msgspec.json.encode(result))


def _timed(run: Session, pictures: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> float:
    start = time.perf_counter()
    run(pictures)
    return time.perf_counter() - start
