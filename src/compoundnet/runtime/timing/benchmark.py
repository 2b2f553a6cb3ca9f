"""Benchmarks: networks timed against one another on several backends, next to the same networks of other libraries."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec

from compoundnet.base import CompoundNetError, MissingLibraryError, first_line
from compoundnet.base.machine import check_threads
from compoundnet.runtime.backends.choices import Choice
from compoundnet.runtime.backends.precisions import FLOAT32, Way, check_device, check_precision, ways_of
from compoundnet.runtime.backends.registry import AUTO, Backend, find_backend, names_of
from compoundnet.runtime.backends.session import backends_of, check_memory, open_session, takes_batch
from compoundnet.runtime.timing.agreement import read_probe
from compoundnet.runtime.timing.choice import choose
from compoundnet.runtime.timing.peers import WAYS, installed_peers, open_peer
from compoundnet.runtime.timing.rounds import RUNS, Latency, Setting, setting, time_rounds
from compoundnet.runtime.timing.subjects import TimedSubject, subject

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
        precision: The precision in which it ran.
        size: Side of the images, pixels.
        params: Parameters.
        macs: Multiply-adds of one image.
        latency: The latency of one batch.
        images_per_second: Images of a batch by its median latency.
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
    images_per_second: float


class Benchmark(msgspec.Struct, frozen=True):
    """The results of networks that were timed in the same rounds.

    Attributes:
        setting: The machine and the conditions of the timing.
        measurements: One for each network, library and backend.
        left_out: The networks that were not timed, with the reason.
        choices: What auto chose for each network, if it was asked for.
    """

    setting: Setting
    measurements: tuple[Measurement, ...]
    left_out: tuple[str, ...]
    choices: tuple[Choice, ...] = ()


def benchmark(
    names: Sequence[str],
    *,
    backends: Sequence[str] | None = None,
    precisions: Sequence[str] = (),
    check_on: Sequence[str | os.PathLike[str]] = (),
    threads: int = 1,
    batch: int = 1,
    runs: int = RUNS,
    with_peers: bool = False,
    device: str = "cpu",
) -> Benchmark:
    """Time one batch on every network and every backend, in interleaved rounds.

    Args:
        names: Networks, models or exported files. A name that is both a network and a model is taken as the network.
        backends: Names of the backends; by default the first that runs the network on the device, and with the
            precision auto all that are installed except compile.
        precisions: Names of the precisions; by default that of each network: float32, or that of an exported file.
            "auto" alone: every way among which auto chooses, and its choice.
        check_on: For auto: images on which precisions are compared with float32.
        threads: Threads of each network.
        batch: Images at a time.
        runs: Rounds that count.
        with_peers: Whether to time the same networks of timm, torchvision and efficientnet_pytorch as well.
        device: The device of torch. Times include the transfer of images and logits.

    Raises:
        CompoundNetError: A name, backend, precision or device is not known or not installed, or a number is out of
            range. It is raised before anything is timed.
    """
    if runs < 1:
        raise CompoundNetError(f"runs must be at least 1, got {runs}")
    if batch < 1:
        raise CompoundNetError(f"batch must be at least 1, got {batch}")
    check_device(device)
    if with_peers and device != "cpu":
        raise CompoundNetError("peers on a GPU are timed with --throughput")
    threads = check_threads(threads)
    automatic = AUTO in precisions
    if automatic and len(precisions) > 1:
        raise CompoundNetError("the precision auto stands alone: it includes all others")
    for precision in precisions:
        check_precision(precision)
    named = None if backends is None else tuple(dict.fromkeys(find_backend(backend) for backend in backends))
    for backend in named or ():
        backend.check_installed()
        if device != "cpu" and not backend.devices:
            raise CompoundNetError(f"{backend.name} runs on the CPU here, not on {device}")
    subjects = labelled({name: subject(name, trained=automatic) for name in names})
    rounds = TimedCalls(batch)
    for label, found in subjects.items():
        able = backends_of(found.source.exported)
        asked = _default(able, device, automatic=automatic) if named is None else named
        if with_peers or any(takes_batch(backend, device) for backend in asked):
            check_memory(found.source, batch)
        rounds.left_out += [
            f"{label} does not run on {backend.name}, only on {names_of(able)}"
            for backend in asked
            if backend not in able
        ]
        able = tuple(backend for backend in asked if backend in able)
        ways: Sequence[Way]
        if not able:
            ways = ()
        elif automatic:
            ways = ways_of(found.source, able, device)
            rounds.choose(found, ways, threads, device, check_on)
        else:
            ways = [Way(backend, one) for backend in able for one in precisions or (found.source.precision,)]
        for way in ways:
            rounds.add_ours(label, found, way, threads, device, given=bool(precisions))
        if with_peers:
            rounds.add_peers(label, found, threads)
    return rounds.timed(setting(threads=threads, batch=batch, runs=runs, device=device))


def _default(able: tuple[Backend, ...], device: str, *, automatic: bool) -> tuple[Backend, ...]:
    """The backends that are timed where none are named: all for auto, otherwise the first."""
    found = tuple(backend for backend in able if device == "cpu" or backend.devices)
    if not found:
        raise CompoundNetError(f"{names_of(able)} run on the CPU here, not on {device}")
    return found if automatic else found[:1]


class TimedCalls:
    """The calls that are timed together, and how each becomes a measurement."""

    def __init__(self, batch: int) -> None:
        self.left_out: list[str] = []
        self.batch = batch
        self._choices: list[Choice] = []
        self._calls: dict[str, Callable[[], object]] = {}
        self._described: dict[str, Callable[..., Measurement]] = {}

    def add(
        self, label: str, found: TimedSubject, library: str, backend: str, precision: str, run: Callable[[], object]
    ) -> None:
        """Add one call, of a network in a library."""
        key = f"{label} {library} {backend} {precision}"
        weights = found.weights if library == OWN else "random"
        self._calls[key] = run
        self._described[key] = partial(
            Measurement, found.name, label, library, backend, weights, precision, found.size, found.params, found.macs
        )

    def add_ours(self, label: str, found: TimedSubject, way: Way, threads: int, device: str, *, given: bool) -> None:
        """Add a session; what does not run is left out if the precision was `given`, with the reason."""
        try:
            run = open_session(found.source, way.backend, threads, device, way.precision)
        except CompoundNetError as error:
            if isinstance(error, MissingLibraryError) or not given:
                raise
            self.left_out.append(f"{label}: {error}")
            return
        self.add(label, found, OWN, way.backend.name, way.precision, partial(run, found.source.probe(self.batch)))

    def add_peers(self, label: str, found: TimedSubject, threads: int) -> None:
        """Add every peer in every way; those that have to be left out are named."""
        for peer, build in installed_peers(found.name, self.left_out.append):
            for way in WAYS:
                _LOG.info("%s of %s (%s): opening", found.name, peer.library, way)
                try:
                    run = open_peer(build(), way, size=found.size, batch=self.batch, threads=threads)
                except Exception as error:  # a network of another library may fail anywhere in torch's exporter
                    self.left_out.append(f"{found.name} of {peer.library} ({way}): {first_line(error)}")
                    continue
                self.add(label, found, peer.library, way, FLOAT32, partial(run, found.source.probe(self.batch)))

    def choose(
        self,
        found: TimedSubject,
        ways: Sequence[Way],
        threads: int,
        device: str,
        check_on: Sequence[str | os.PathLike[str]],
    ) -> None:
        """Choose among the ways as `auto` does."""
        source, preprocess = found.source, found.source.preprocess
        images = None if preprocess is None or not check_on else partial(read_probe, preprocess, check_on)
        self._choices.append(
            choose(source, ways, threads=threads, batch=self.batch, device=device, images=images, tuning=source.tuning)
        )

    def timed(self, state: Setting) -> Benchmark:
        """Time all calls."""
        if not self._calls:
            raise CompoundNetError(f"there is nothing to time: {'; '.join(self.left_out)}")
        latencies = time_rounds(self._calls, runs=state.runs, warm_up=state.warm_up)
        measurements = tuple(
            describe(latencies[key], self.batch / latencies[key].median * 1e3)
            for key, describe in self._described.items()
        )
        return Benchmark(state, measurements, tuple(dict.fromkeys(self.left_out)), tuple(self._choices))


def labelled(subjects: Mapping[str, TimedSubject]) -> dict[str, TimedSubject]:
    """Map labels to subjects, from a mapping by given name: float32 and int8 exports of a model share a name."""
    times = Counter(found.name for found in subjects.values())
    return {
        found.name if times[found.name] == 1 else f"{found.name} ({given})": found for given, found in subjects.items()
    }
