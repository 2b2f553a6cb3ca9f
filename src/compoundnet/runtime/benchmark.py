"""Networks timed against one another, on several backends, beside the same networks of other libraries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import numpy as np

from compoundnet.arch import CompoundNetError, did_you_mean
from compoundnet.runtime.latency import RUNS, WARM_UP, Latency, Setting, setting, time_rounds
from compoundnet.runtime.machine import check_threads
from compoundnet.runtime.peers import WAYS, open_peer, peers_of
from compoundnet.runtime.sessions import BACKENDS, check_memory, open_session, usable
from compoundnet.runtime.subjects import Subject, subject


class Measurement(msgspec.Struct, frozen=True):
    """One network in one library on one backend. `size` in pixels, `macs` of one image, `weights` random or trained."""

    network: str
    library: str
    backend: str
    weights: str
    size: int
    params: int
    macs: int
    latency: Latency


class Benchmark(msgspec.Struct, frozen=True):
    """Everything that was timed in the same rounds, what it was timed on, and what was left out and why."""

    setting: Setting
    measurements: tuple[Measurement, ...]
    left_out: tuple[str, ...]


def benchmark(
    names: Sequence[str],
    *,
    backends: Sequence[str] = ("onnxruntime",),
    threads: int = 1,
    batch: int = 1,
    runs: int = RUNS,
    with_peers: bool = False,
) -> Benchmark:
    """Time a batch through every network (see `subject`) on every backend, in interleaved rounds.

    Raises CompoundNetError before anything is timed where a name or backend is not known or not installed, or a
    number is out of range.
    """
    if runs < 1:
        raise CompoundNetError(f"runs must be at least 1, got {runs}")
    if batch < 1:
        raise CompoundNetError(f"batch must be at least 1, got {batch}")
    threads = check_threads(threads)
    for backend in backends:
        check_backend(backend)
    subjects = {found.name: found for found in map(subject, names)}
    calls: dict[str, Callable[[], object]] = {}
    described: dict[str, tuple[Subject, str, str]] = {}
    left_out: list[str] = []

    def add(found: Subject, library: str, backend: str, run: Callable[..., object]) -> None:
        shape = (batch, found.source.channels, found.size, found.size)
        key = f"{found.name} {library} {backend}"
        calls[key] = partial(run, np.random.default_rng(0).standard_normal(shape, dtype=np.float32))
        described[key] = found, library, backend

    for found in subjects.values():
        check_memory(found.source, batch)
        for backend in backends:
            if backend in usable(found.source):
                add(found, "compoundnet", backend, open_session(found.source, backend, threads))
            else:
                left_out.append(f"{found.name} does not run on {backend}, only on {' or '.join(usable(found.source))}")
        if with_peers:
            left_out += _add_peers(found, threads, batch, add)
    if not calls:
        raise CompoundNetError(f"there is nothing to time: {'; '.join(left_out)}")
    state = setting(threads=threads, batch=batch, runs=runs)
    latencies = time_rounds(calls, runs=runs, warm_up=WARM_UP)
    measurements = tuple(
        Measurement(
            found.name,
            library,
            backend,
            found.weights if library == "compoundnet" else "random",
            found.size,
            found.params,
            found.macs,
            latencies[key],
        )
        for key, (found, library, backend) in described.items()
    )
    return Benchmark(state, measurements, tuple(left_out))


def check_backend(backend: str) -> None:
    """Raise a CompoundNetError where there is no such backend; opening a session says where it is not installed."""
    if backend not in BACKENDS:
        raise CompoundNetError(f"there is no backend named {backend!r}{did_you_mean(backend, BACKENDS)}")


def _add_peers(found: Subject, threads: int, batch: int, add: Callable[..., None]) -> list[str]:
    """Add every peer in every way; what had to be left out."""
    known = peers_of(found.name)
    if not known:
        return [f"{found.name} is not known in other libraries"]
    left_out = []
    for peer in known:
        if not peer.is_installed:
            left_out.append(f"{peer.library} is not installed; `pip install 'compoundnet[peers]'` installs it")
            continue
        for way in WAYS:
            try:
                run = open_peer(peer.build(found.name), way, size=found.size, batch=batch, threads=threads)
            except Exception as error:  # another library's network may fail anywhere in torch's exporter
                left_out.append(f"{found.name} of {peer.library} ({way}): {str(error).splitlines()[0]}")
                continue
            add(found, peer.library, way, run)
    return left_out
