"""Throughput: images a second with all cores, or on a GPU, next to the same networks of timm and other libraries."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from compoundnet.base import CompoundNetError, first_line
from compoundnet.base.machine import check_threads
from compoundnet.runtime.backends.precisions import BFLOAT16, Way, check_device, check_precision, obstacle
from compoundnet.runtime.backends.registry import AUTO, find_backend
from compoundnet.runtime.timing.benchmark import OWN, Benchmark, TimedCalls, benchmark, labelled
from compoundnet.runtime.timing.peers import installed_peers
from compoundnet.runtime.timing.rounds import setting
from compoundnet.runtime.timing.subjects import TimedSubject, subject

if TYPE_CHECKING:
    from torch import nn

_LOG = logging.getLogger(__name__)
RUNS = 10
# Images at a time, of each core and of a GPU.
_CPU_BATCH, _GPU_BATCH = 8, 256
# The ways to run a network on a GPU, by the backend that they belong to.
_GPU_WAYS = {"torch": ("torch", "torch, CUDA graphs"), "compile": ("compile",)}


def throughput(
    names: Sequence[str],
    *,
    backends: Sequence[str] | None = None,
    precisions: Sequence[str] = (),
    check_on: Sequence[str | os.PathLike[str]] = (),
    threads: int | None = None,
    batch: int | None = None,
    runs: int = RUNS,
    with_peers: bool = False,
    device: str = "cpu",
) -> Benchmark:
    """Time batches of networks in interleaved rounds: `Measurement.images_per_second` is what counts.

    On a CPU sessions run as `predict` runs them. On a GPU the networks run in channels_last on images that are on it
    already, eagerly, in CUDA graphs, or compiled (`torch.compile` with CUDA graphs, which takes minutes); timm and the
    other libraries run in the same ways and the same precision.

    Args:
        names: As for `benchmark`.
        backends: As for `benchmark`; on a GPU torch, and compile if named.
        precisions: As for `benchmark`; on a GPU bfloat16 by default.
        check_on: As for `benchmark`.
        threads: Threads of each network; by default all cores, and one beside a GPU.
        batch: Images at a time; by default 8 for each thread, 256 on a GPU.
        runs: Rounds that count.
        with_peers: Whether to time the same networks of timm, torchvision and efficientnet_pytorch as well.
        device: The device of torch.

    Raises:
        CompoundNetError: As for `benchmark`; or the precision auto is asked for on a GPU.
    """
    if batch is not None and batch < 1:
        raise CompoundNetError(f"batch must be at least 1, got {batch}")
    threads = 1 if threads is None and device != "cpu" else check_threads(threads)
    if device == "cpu":
        return benchmark(
            names, backends=backends, precisions=precisions, check_on=check_on, threads=threads,
            batch=_CPU_BATCH * threads if batch is None else batch, runs=runs, with_peers=with_peers,
        )  # fmt: skip
    if AUTO in precisions:
        raise CompoundNetError("throughput on a GPU is measured in precisions by name, such as bfloat16, not in auto")
    check_device(device)
    chosen = [find_backend(name) for name in backends or ("torch",)]
    for precision in precisions:
        check_precision(precision)
    ways = [Way(backend, precision) for backend in chosen for precision in precisions or (BFLOAT16,)]
    reasons = [reason for way in ways if (reason := obstacle(way.backend, way.precision, device)) is not None]
    if reasons:
        raise CompoundNetError(reasons[0])
    calls = TimedCalls(_GPU_BATCH if batch is None else batch)
    for label, found in labelled({name: subject(name) for name in names}).items():
        if found.source.module is None:
            calls.left_out.append(f"{label} is an exported file, which runs on a CPU here")
            continue
        _add(calls, label, found, OWN, found.source.module, ways, device)
        if with_peers:
            for peer, build in installed_peers(found.name, calls.left_out.append):
                _add(calls, label, found, peer.library, build, ways, device)
    return calls.timed(setting(threads=threads, batch=calls.batch, runs=runs, device=device))


def _add(
    calls: TimedCalls,
    label: str,
    found: TimedSubject,
    library: str,
    build: Callable[[], nn.Module],
    ways: Sequence[Way],
    device: str,
) -> None:
    """Add a network in each way; one that does not fit the memory or the compiler is left out with the reason."""
    from compoundnet.runtime.timing.resident import resident_call  # noqa: PLC0415  imports torch

    for way in ways:
        for mode in _GPU_WAYS[way.backend.name]:
            _LOG.info("%s of %s (%s, %s): opening", found.name, library, mode, way.precision)
            try:
                run = resident_call(
                    build(), mode, way.precision, device, (calls.batch, found.source.channels, found.size, found.size)
                )
            except Exception as error:  # anything in torch's compiler, or too little memory
                calls.left_out.append(f"{label} of {library} ({mode}, {way.precision}): {first_line(error)}")
                continue
            calls.add(label, found, library, mode, way.precision, partial(run))
