"""Benchmarks: networks timed against one another on several backends, next to the same networks of other libraries."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec

from compoundnet.base import CompoundNetError, first_line
from compoundnet.base.machine import check_threads
from compoundnet.runtime.backends.registry import find_backend, names_of
from compoundnet.runtime.backends.session import backends_of, check_memory, open_session, takes_batch
from compoundnet.runtime.timing.peers import WAYS, open_peer, peers_of
from compoundnet.runtime.timing.rounds import RUNS, WARM_UP, Latency, Setting, setting, time_rounds
from compoundnet.runtime.timing.subjects import FLOAT32, TimedSubject, subject

_LOG = logging.getLogger(__name__)
# The name of this package in results, next to the names of other libraries.
OWN = "compoundnet"


class Measurement(msgspec.Struct, frozen=True):
    """One network in one library on one backend.

    Attributes:
        network: The name of the network.
        label: The name, followed by the given path or name if several given networks have the same name.
        library: This package or another.
        backend: The backend that ran it.
        weights: "random" or "trained".
        precision: That of an exported file, otherwise float32.
        size: Side of the images, pixels.
        params: Parameters.
        macs: Multiply-adds of one image.
        latency: The latency of one batch.
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
    """The results of networks that were timed in the same rounds.

    Attributes:
        setting: The machine and the conditions of the timing.
        measurements: One for each network, library and backend.
        left_out: The networks that were not timed, with the reason.
    """

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
    """Time one batch on every network and every backend, in interleaved rounds.

    Args:
        names: Networks, models or exported files. A name that is both a network and a model is taken as the network.
        backends: Names of the backends.
        threads: Threads of each network.
        batch: Images at a time.
        runs: Rounds that count.
        with_peers: Whether to time the same networks of timm, torchvision and efficientnet_pytorch as well.

    Raises:
        CompoundNetError: A name or backend is not known or not installed, or a number is out of range. It is raised
            before anything is timed.
    """
    if runs < 1:
        raise CompoundNetError(f"runs must be at least 1, got {runs}")
    if batch < 1:
        raise CompoundNetError(f"batch must be at least 1, got {batch}")
    threads = check_threads(threads)
    chosen = [find_backend(backend) for backend in backends]
    subjects = _labelled({name: subject(name) for name in names})
    calls: dict[str, Callable[[], object]] = {}
    described: dict[str, Callable[[Latency], Measurement]] = {}
    left_out: list[str] = []

    def add(label: str, library: str, backend: str, run: Callable[..., object]) -> None:
        found = subjects[label]
        key = f"{label} {library} {backend}"
        calls[key] = partial(run, found.source.probe(batch))
        ours = library == OWN
        weights, precision = (found.weights, found.precision) if ours else ("random", FLOAT32)
        described[key] = partial(
            Measurement, found.name, label, library, backend, weights, precision, found.size, found.params, found.macs
        )

    for label, found in subjects.items():
        if with_peers or any(takes_batch(backend) for backend in chosen):
            check_memory(found.source, batch)
        able = backends_of(found.source.exported)
        for backend in chosen:
            if backend in able:
                add(label, OWN, backend.name, open_session(found.source, backend, threads))
            else:
                left_out.append(f"{label} does not run on {backend.name}, only on {names_of(able)}")
        if with_peers:
            left_out += _add_peers(found, threads, batch, partial(add, label))
    if not calls:
        raise CompoundNetError(f"there is nothing to time: {'; '.join(left_out)}")
    state = setting(threads=threads, batch=batch, runs=runs)
    latencies = time_rounds(calls, runs=runs, warm_up=WARM_UP)
    measurements = tuple(describe(latencies[key]) for key, describe in described.items())
    return Benchmark(state, measurements, tuple(dict.fromkeys(left_out)))


def _labelled(subjects: Mapping[str, TimedSubject]) -> dict[str, TimedSubject]:
    """Map labels to subjects, from a mapping by given name: float32 and int8 exports of a model share a name."""
    times = Counter(found.name for found in subjects.values())
    return {
        found.name if times[found.name] == 1 else f"{found.name} ({given})": found for given, found in subjects.items()
    }


def _add_peers(found: TimedSubject, threads: int, batch: int, add: Callable[..., None]) -> list[str]:
    """Add every peer in every way; return those that had to be left out."""
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
            except Exception as error:  # a network of another library may fail anywhere in torch's exporter
                left_out.append(f"{found.name} of {peer.library} ({way}): {first_line(error)}")
                continue
            add(peer.library, way, run)
    return left_out
