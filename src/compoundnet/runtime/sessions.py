"""`session`: a model or a torch module, ready to run on any backend."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from compoundnet.base import CompoundNetError
from compoundnet.base.machine import check_threads
from compoundnet.models import Model
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


def session(
    model: str | os.PathLike[str] | Model | nn.Module,
    *,
    backend: str | None = None,
    threads: int | None = None,
    batch: int = 1,
    size: int | None = None,
    device: str = "cpu",
) -> Session:
    """Open a session of a model or of a torch module in memory.

    The first session of a model on onnxruntime or openvino exports and compiles it, which needs torch and some seconds;
    the result is kept in the cache, and later sessions start at once and without torch. A module that is not a network
    of this package is compiled every time. The code compiled by the backend compile is kept by torch in a separate
    cache (`backends.torch.open_compiled`).

    Args:
        model: A name of `compoundnet models list`, a model folder, an exported file, an opened model, or a module.
        backend: onnxruntime, torch, compile (torch.compile), openvino, or auto: the fastest on this machine, measured
            once for each model, number of threads and batch size; compile is not tried, as it takes up to a minute in
            every process. By default onnxruntime, or the first that runs an exported file.
        threads: Threads of the network; all cores by default.
        batch: Number of images in a batch, used for the measurements of auto and for the memory check.
        size: Side of the images in pixels; by default that of the model. Required for a module of another package.
        device: The device of torch: cpu, cuda, cuda:1, mps. A device other than cpu implies the backend torch.

    Raises:
        CompoundNetError: There is no such model or backend, a backend is not installed, there are fewer cores than
            threads, or the batch does not fit in memory.
    """
    backend = backend or ("torch" if device != "cpu" else None)
    chosen = None if backend in (None, AUTO) else find_backend(backend, AUTO)
    if device != "cpu" and (chosen is None or not chosen.devices):
        raise CompoundNetError(f"the backend {backend} runs on the CPU here; --backend torch goes with device {device}")
    if batch < 1:
        raise CompoundNetError(f"batch must be at least 1, got {batch}")
    threads = check_threads(threads)
    source = find_source(model, size)
    able = backends_of(source.exported)
    if backend == AUTO:
        chosen = _fastest(source, able, threads, batch)
    chosen = chosen or able[0]
    if chosen not in able:
        assert source.exported is not None
        raise CompoundNetError(f"{source.exported.file} runs on {names_of(able)}, not on {chosen.name}")
    if takes_batch(chosen, device):
        check_memory(source, batch)
    return open_session(source, chosen, threads, device)


def _fastest(source: SessionSource, able: tuple[Backend, ...], threads: int, batch: int) -> Backend:
    from compoundnet.runtime.timing.fastest import fastest  # noqa: PLC0415  only auto takes measurements

    tried = [backend for backend in able if backend.in_auto]
    if missing_memory(source, batch) is not None:
        tried = [backend for backend in tried if not takes_batch(backend)] or tried
    return fastest(source, tried, threads, batch)
