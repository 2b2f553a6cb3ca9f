"""`Session`: one small interface to all backends."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compoundnet.arch import inference_memory
from compoundnet.arch.spec import MIN_RESOLUTION
from compoundnet.base import CompoundNetError, format_bytes
from compoundnet.base.machine import free_memory
from compoundnet.models import ExportedModel, Model
from compoundnet.runtime.backends.precisions import FLOAT32, obstacle
from compoundnet.runtime.backends.registry import BACKENDS, Backend
from compoundnet.runtime.session_source import Run, SessionSource, blaming

if TYPE_CHECKING:
    from compoundnet.runtime.backends.choices import Choice

# Images at a time that a network runs by default, and for which the times of auto are kept.
USUAL_BATCH = 8
# What was opened before a fork: freed in the new process, it would wait for threads that do not run there.
_inherited: list[Run] = []


class Session:
    """A network that is ready to run. Input: images float32[N, C, H, W]; output: logits float32[N, classes].

    Created by `compoundnet.runtime.session`. Threads may share it; on most backends they wait for each other.

    Attributes:
        backend: The name of the backend that runs it.
        precision: The number type that it computes in: float32, bfloat16, float16 or int8.
        choice: How backend and precision were chosen; None if they were given, or are the defaults.
        threads: The number of threads that it uses.
        size: The only height and width that it accepts, in pixels; None for any size of at least 32.
    """

    def __init__(
        self,
        source: SessionSource,
        backend: Backend,
        threads: int,
        run: Run,
        device: str = "cpu",
        precision: str = FLOAT32,
        choice: Choice | None = None,
    ) -> None:
        self.backend = backend.name
        self.precision = precision
        self.choice = choice
        self.threads = threads
        self.size = None if backend.any_size and source.exported is None else source.size
        self._source, self._run, self._device = source, run, device
        self._takes_memory = takes_batch(backend, device)
        self._backend, self._process = backend, os.getpid()
        self._turn = nullcontext() if backend.shareable else threading.Lock()

    @property
    def identity(self) -> Mapping[str, str] | None:
        """What its results depend on besides the images; None if that is unknown."""
        return self._source.identity

    def __repr__(self) -> str:
        size = "any size" if self.size is None else f"{self.size} px"
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        where = threads if self._device == "cpu" else self._device
        return f"<Session of {self._source.name} on {self.backend} in {self.precision}, {size}, {where}>"

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run a batch.

        Args:
            images: float32[N, C, H, W], as returned by preprocessing.

        Returns:
            Logits float32[N, classes].

        Raises:
            CompoundNetError: The images have the wrong type or shape, or do not fit in memory; the logits are not
                finite; or the process was forked after the session was opened, on a backend that does not survive it.
        """
        self._check(images)
        if self._process != os.getpid():
            self._reopen()
        if self._takes_memory:
            check_memory(self._source, len(images))
        with blaming(self._source.exported, self.backend), self._turn:
            logits = self._run(np.require(images, requirements=["C", "W"]))
        exported = self._source.exported
        if exported is not None and logits.shape != (len(images), exported.network.num_classes):
            raise CompoundNetError(
                f"{exported.file} gives outputs {list(logits.shape)} where its metadata say"
                f" {[len(images), exported.network.num_classes]}; it is damaged, get it again"
            )
        if not np.isfinite(logits).all():
            raise CompoundNetError(
                f"{self._source.name} gives outputs that are not finite: its weights hold NaN or infinite values, or"
                " float16 is too narrow for them; get the model again, or run or export it in float32"
            )
        return logits

    def _reopen(self) -> None:
        """Open the network anew in a forked process, in which the threads of the session do not run."""
        if not self._backend.reopens:
            raise forked(self._source.name, self.backend)
        _inherited.append(self._run)
        self._run = self._backend.open(self._source, self.threads, self._device, self.precision)
        self._process = os.getpid()

    def _check(self, images: NDArray[np.float32]) -> None:
        side = "H, W" if self.size is None else f"{self.size}, {self.size}"
        channels = self._source.channels
        wanted = f"the images must be a NumPy array float32[N, {channels}, {side}] with N at least 1"
        if not isinstance(images, np.ndarray):
            raise CompoundNetError(f"{wanted}, got a {type(images).__name__}")
        shape = images.shape
        if images.dtype != np.float32 or len(shape) != 4 or shape[0] < 1 or shape[1] != channels:
            raise CompoundNetError(f"{wanted}, got {images.dtype}{list(shape)}")
        if self.size is not None and shape[2:] != (self.size, self.size):
            raise CompoundNetError(
                f"this session is for images of {self.size} x {self.size} px, got {shape[2]} x {shape[3]}; size="
                " makes one for others"
            )
        if min(shape[2:]) < MIN_RESOLUTION:
            raise CompoundNetError(f"images must be at least {MIN_RESOLUTION} px a side, got {shape[2]} x {shape[3]}")


def forked(name: str, backend: str) -> CompoundNetError:
    """The error for a session of the process that was forked, on a backend that waits forever in the new one."""
    return CompoundNetError(
        f"this session of {name} was opened before the process was forked, and {backend} does not run in a forked"
        " process; open it in the process that uses it, and start that with the method spawn"
        " (multiprocessing.get_context('spawn')), or take the backend onnxruntime"
    )


def open_session(
    source: SessionSource,
    backend: Backend,
    threads: int,
    device: str = "cpu",
    precision: str | None = None,
    choice: Choice | None = None,
) -> Session:
    """Open a session of a source on a backend that can run it.

    Args:
        source: The network.
        backend: The backend.
        threads: Threads of the network.
        device: The device of torch.
        precision: The precision; by default that of the source.
        choice: Why this backend and precision, if they were chosen by measurement.

    Raises:
        CompoundNetError: The backend is not installed or runs exported files only, or the precision does not run on it
            here; the message says what to do.
    """
    if source.exported is None and not backend.folders:
        raise CompoundNetError(f"{backend.name} runs exported files only, and {source.name} is none")
    backend.check_installed()
    precision = precision or source.precision
    if precision != source.precision and (reason := obstacle(backend, precision, device)) is not None:
        raise CompoundNetError(reason)
    source = source.in_precision(precision)
    with blaming(source.exported, backend.name):
        run = backend.open(source, threads, device, precision)
    return Session(source, backend, threads, run, device, precision, choice)


def backends_of(model: Model | None) -> tuple[Backend, ...]:
    """Return the backends that can run a model, the default first. For an exported file not all of them can."""
    if not isinstance(model, ExportedModel):
        return tuple(backend for backend in BACKENDS if backend.folders)
    return tuple(backend for backend in BACKENDS if model.file.suffix.lower() in backend.formats)


def takes_batch(backend: Backend, device: str = "cpu") -> bool:
    """Return whether the backend runs a batch as a whole, in the main memory of this machine."""
    return backend.whole_batch and device == "cpu"


def batch_for(backend: Backend, device: str, threads: int) -> int:
    """Return the default number of images at a time: more where each thread runs images alone, so that none waits."""
    alone = device == "cpu" and not backend.whole_batch
    return max(USUAL_BATCH, 2 * threads) if alone else USUAL_BATCH


def check_memory(source: SessionSource, batch: int) -> None:
    """Raise a CompoundNetError if a batch needs more memory than is free."""
    lacking = missing_memory(source, batch)
    if lacking is not None:
        raise CompoundNetError(f"{lacking}; give a smaller batch")


def missing_memory(source: SessionSource, batch: int) -> str | None:
    """Return a sentence with the memory that a batch needs and the free memory; None if there is enough."""
    if batch == 1 or source.network is None or source.size is None:
        return None
    needed, free = inference_memory(source.network.replace(resolution=source.size), batch), free_memory()
    if needed <= free:
        return None
    return f"a batch of {batch} images needs about {format_bytes(needed)} of memory, and {format_bytes(free)} are free"
