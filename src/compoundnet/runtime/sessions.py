"""`session`: a model or a torch module, ready to run on any backend."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from compoundnet.base import CompoundNetError
from compoundnet.base.machine import check_threads
from compoundnet.models import Model
from compoundnet.runtime.backends.precisions import check_precision, first_backend, ways_of
from compoundnet.runtime.backends.registry import AUTO, Backend, find_backend, names_of
from compoundnet.runtime.backends.session import (
    Session,
    backends_of,
    check_memory,
    missing_memory,
    open_session,
    takes_batch,
)
from compoundnet.runtime.session_source import SessionSource, find_source

if TYPE_CHECKING:
    from torch import nn

    from compoundnet.runtime.backends.choices import Choice
    from compoundnet.runtime.timing.agreement import ProbeImages


def session(
    model: str | os.PathLike[str] | Model | nn.Module,
    *,
    backend: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    batch: int = 1,
    size: int | None = None,
    device: str = "cpu",
    images: ProbeImages | None = None,
) -> Session:
    """Open a session of a model or of a torch module in memory.

    The first session of a model on onnxruntime or openvino exports and compiles it, which needs torch and some seconds;
    the result is kept in the cache, and later sessions start at once and without torch. A module that is not a network
    of this package is compiled every time. The code compiled by the backend compile is kept by torch in a separate
    cache (`backends.torch.open_compiled`).

    Args:
        model: A name of `compoundnet models list`, a model folder, an exported file, an opened model, or a module.
        backend: onnxruntime, torch, compile (torch.compile), openvino, litert (.tflite files), or auto: the fastest on
            this machine, measured once for each model, number of threads and batch size; compile is not tried, as it
            takes up to a minute in every process. By default onnxruntime, or the first that runs an exported file and
            the precision.
        precision: float32; bfloat16, on OpenVINO with a processor that has AMX or AVX512-BF16, and on torch with a GPU;
            float16, on torch with a GPU; int8, of a model that `compoundnet models tune` has calibrated; or auto: the
            fastest that predicts what float32 predicts on 99 % of `images`, of all backends if none is given. By
            default that of an exported file; of a model folder that was tuned the fastest that was found to agree;
            otherwise float32.
        threads: Threads of the network; all cores by default.
        batch: Number of images in a batch, used for the measurements of auto and for the memory check.
        size: Side of the images in pixels; by default that of the model. Required for a module of another package.
        device: The device of torch: cpu, cuda, cuda:1, mps. A device other than cpu implies the backend torch.
        images: For the precision auto: returns images float32[N, C, H, W], at least 20, on which precisions are
            compared with float32. It is called only if the cache lacks the comparison. Without images, auto takes
            float32.

    Raises:
        CompoundNetError: There is no such model, backend, precision or device, a backend is not installed or does not
            run the precision here, there are fewer cores than threads, or the batch does not fit in memory.
    """
    backend = backend or ("torch" if device != "cpu" else None)
    chosen = None if backend in (None, AUTO) else find_backend(backend, AUTO)
    if precision is not None:
        check_precision(precision)
    if device != "cpu" and (chosen is None or not chosen.devices):
        raise CompoundNetError(f"the backend {backend} runs on the CPU here; --backend torch goes with device {device}")
    if batch < 1:
        raise CompoundNetError(f"batch must be at least 1, got {batch}")
    threads = check_threads(threads)
    source = find_source(model, size)
    able = backends_of(source.exported)
    if chosen is not None and chosen not in able:
        name = source.name if source.exported is None else source.exported.file
        raise CompoundNetError(f"{name} runs on {names_of(able)}, not on {chosen.name}")
    choice = None
    if precision == AUTO or (precision is None and source.tuning is not None):
        choice = _choose(source, (chosen,) if chosen is not None else able, threads, batch, device, images)
        chosen, precision = find_backend(choice.backend), choice.precision
    elif backend == AUTO:
        chosen = _fastest(source, able, precision or source.precision, threads, batch)
    elif chosen is None:
        converts = precision not in (None, source.precision)
        chosen = first_backend(able, precision, device) if precision is not None and converts else able[0]
    if takes_batch(chosen, device):
        check_memory(source, batch)
    return open_session(source, chosen, threads, device, precision, choice)


def _choose(
    source: SessionSource,
    able: tuple[Backend, ...],
    threads: int,
    batch: int,
    device: str,
    images: ProbeImages | None,
) -> Choice:
    from compoundnet.runtime.timing.choice import choose  # noqa: PLC0415  only auto takes measurements

    ways = ways_of(source, _fitting(source, able, batch, device), device)
    return choose(source, ways, threads=threads, batch=batch, device=device, images=images, tuning=source.tuning)


def _fastest(source: SessionSource, able: tuple[Backend, ...], precision: str, threads: int, batch: int) -> Backend:
    from compoundnet.runtime.timing.fastest import time_ways  # noqa: PLC0415  as above

    fitting = _fitting(source, able, batch, "cpu")
    ways = [way for way in ways_of(source, fitting) if way.precision == precision]
    if len(ways) < 2:
        return ways[0].backend if ways else able[0]
    times = time_ways(source, ways, threads, batch)
    return min(times, key=times.__getitem__).backend


def _fitting(source: SessionSource, able: tuple[Backend, ...], batch: int, device: str) -> tuple[Backend, ...]:
    """Without the backends for which a batch needs more memory than is free, unless that leaves none."""
    if missing_memory(source, batch) is None:
        return able
    return tuple(backend for backend in able if not takes_batch(backend, device)) or able
