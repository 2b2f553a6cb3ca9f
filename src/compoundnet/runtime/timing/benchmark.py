"""Networks timed against one another, on several backends, beside the same networks of other libraries."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec
import numpy as np

from compoundnet.base import CompoundNetError, did_you_mean, first_line
from compoundnet.base.machine import check_threads
from compoundnet.runtime.sessions import BACKENDS, check_memory, open_session, takes_batch, usable
from compoundnet.runtime.timing.peers import WAYS, open_peer, peers_of
from compoundnet.runtime.timing.rounds import RUNS, WARM_UP, Latency, Setting, setting, time_rounds
from compoundnet.runtime.timing.subjects import FLOAT32, TimedSubject, subject

_LOG = logging.getLogger(__name__)


class Measurement(msgspec.Struct, frozen=True):
    """One network in one library on one backend. `size` in pixels, `macs` of one image, `weights` random or trained.

    label      the network's name, with what was given for it where several that were given have the same
    precision  an exported file's own, else float32
    """

    network: str
    label: str
    library: str
    backend: str
    weights: str
    precision: str
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
    subjects = _labelled({name: subject(name) for name in names})
    calls: dict[str, Callable[[], object]] = {}
    described: dict[str, Callable[[Latency], Measurement]] = {}
    left_out: list[str] = []

    def add(label: str, library: str, backend: str, run: Callable[..., object]) -> None:
        found = subjects[label]
        shape = (batch, found.source.channels, found.size, found.size)
        key = f"{label} {library} {backend}"
        calls[key] = partial(run, np.random.default_rng(0).standard_normal(shape, dtype=np.float32))
        ours = library == "compoundnet"
        weights, precision = (found.weights, found.precision) if ours else ("random", FLOAT32)
        described[key] = partial(
            Measurement, found.name, label, library, backend, weights, precision, found.size, found.params, found.macs
        )

    for label, found in subjects.items():
        if with_peers or any(takes_batch(backend) for backend in backends):
            check_memory(found.source, batch)
        known = usable(found.source.exported)
        for backend in backends:
            if backend in known:
                add(label, "compoundnet", backend, open_session(found.source, backend, threads))
            else:
                left_out.append(f"{label} does not run on {backend}, only on {' or '.join(known)}")
        if with_peers:
            left_out += _add_peers(found, threads, batch, partial(add, label))
    if not calls:
        raise CompoundNetError(f"there is nothing to time: {'; '.join(left_out)}")
    state = setting(threads=threads, batch=batch, runs=runs)
    latencies = time_rounds(calls, runs=runs, warm_up=WARM_UP)
    measurements = tuple(describe(latencies[key]) for key, describe in described.items())
    return Benchmark(state, measurements, tuple(dict.fromkeys(left_out)))


def check_backend(backend: str) -> None:
    """Raise a CompoundNetError where there is no such backend; opening a session says where it is not installed."""
    if backend not in BACKENDS:
        raise CompoundNetError(f"there is no backend named {backend!r}{did_you_mean(backend, BACKENDS)}")


def _labelled(subjects: Mapping[str, TimedSubject]) -> dict[str, TimedSubject]:
    """By a name for people, from by what was given: the float32 and int8 exports of one model have one name."""
    times = Counter(found.name for found in subjects.values())
    return {
        found.name if times[found.name] == 1 else f"{found.name} ({given})": found for given, found in subjects.items()
    }


def _add_peers(found: TimedSubject, threads: int, batch: int, add: Callable[..., None]) -> list[str]:
    """Add every peer in every way; what had to be left out."""
    known = peers_of(found.name)
    if not known:
        return [f"no peer is listed for {found.name}"]
    left_out = []
    for peer in known:
        if not peer.is_installed:
            left_out.append(f"{peer.package} is not installed; `pip install 'compoundnet[peers]'` installs it")
            continue
        for way in WAYS:
            _LOG.info("%s of %s (%s): opening", found.name, peer.library, way)
            try:
                run = open_peer(peer.build(found.name), way, size=found.size, batch=batch, threads=threads)
            except Exception as error:  # another library's network may fail anywhere in torch's exporter
                left_out.append(f"{found.name} of {peer.library} ({way}): {first_line(error)}")
                continue
            add(peer.library, way, run)
    return left_out
