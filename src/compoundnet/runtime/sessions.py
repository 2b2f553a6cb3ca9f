"""Sessions: one small interface over what can run a network."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compoundnet.arch import inference_memory
from compoundnet.arch.spec import MIN_RESOLUTION
from compoundnet.base import CompoundNetError, did_you_mean, format_bytes
from compoundnet.base.machine import check_threads, free_memory
from compoundnet.models import ExportedModel, Model
from compoundnet.runtime.session_source import SessionSource, find_source

if TYPE_CHECKING:
    from torch import nn

# Ending -> the backends that run such a file, the usual one first.
FILE_BACKENDS = {".onnx": ("onnxruntime", "openvino"), ".xml": ("openvino",), ".pt2": ("torch", "compile")}
Run: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Session:
    """A network that is ready to run: float32[N, C, H, W] in, logits float32[N, classes] out.

    backend  what runs it
    threads  how many it uses
    size     the only height and width it takes; None: any, at least 32
    """

    def __init__(self, source: SessionSource, backend: str, threads: int, run: Run, device: str = "cpu") -> None:
        self.backend = backend
        self.threads = threads
        self.size = None if backend in _ANY_SIZE and source.exported is None else source.size
        self._source, self._run = source, run
        self._takes_memory = takes_batch(backend, device)

    def __call__(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raises CompoundNetError where the pictures are of another type or shape, or do not fit memory."""
        self._check(pictures)
        if self._takes_memory:
            check_memory(self._source, len(pictures))
        return self._run(np.require(pictures, requirements=["C", "W"]))

    def _check(self, pictures: NDArray[np.float32]) -> None:
        side = "H, W" if self.size is None else f"{self.size}, {self.size}"
        channels = self._source.channels
        wanted = f"the pictures must be a NumPy array float32[N, {channels}, {side}] with N at least 1"
        if not isinstance(pictures, np.ndarray):
            raise CompoundNetError(f"{wanted}, got a {type(pictures).__name__}")
        shape = pictures.shape
        if pictures.dtype != np.float32 or len(shape) != 4 or shape[0] < 1 or shape[1] != channels:
            raise CompoundNetError(f"{wanted}, got {pictures.dtype}{list(shape)}")
        if self.size is not None and shape[2:] != (self.size, self.size):
            raise CompoundNetError(
                f"this session is for pictures of {self.size} x {self.size} px, got {shape[2]} x {shape[3]}; size="
                " makes one for others"
            )
        if min(shape[2:]) < MIN_RESOLUTION:
            raise CompoundNetError(f"pictures must be at least {MIN_RESOLUTION} px a side, got {shape[2]} x {shape[3]}")


def session(
    model: str | os.PathLike[str] | Model | nn.Module,
    *,
    backend: str | None = None,
    threads: int | None = None,
    batch: int = 1,
    size: int | None = None,
    device: str = "cpu",
) -> Session:
    """A session of a model (name, folder, exported file, or opened) or of a torch module in memory.

    backend  onnxruntime, torch, compile (torch.compile), openvino, or auto: the fastest here, measured once for each
             model, number of threads and batch; not compile, which takes up to a minute in every process. Unless
             given onnxruntime, or what an exported file is for
    threads  of the network; all cores unless given
    batch    how many pictures it will be given at a time: what auto measures, and what must fit memory
    size     side of the pictures in pixels; the model's own unless given, needed for a module that is not ours
    device   of torch: cpu, cuda, cuda:1, mps. Another than cpu means the backend torch

    The first session of a model on onnxruntime or openvino exports and compiles it, which takes some seconds and
    torch; it is kept in the cache, and later ones start at once and without torch. A module that is not ours is
    compiled anew every time. What compile makes is kept by torch, in a cache of its own (`run_torch.open_compiled`).

    Raises CompoundNetError where there is no such model or backend, a backend is not installed, there are not so many
    cores, or the batch does not fit memory.
    """
    backend = backend or ("torch" if device != "cpu" else None)
    if backend is not None and backend not in (*BACKENDS, "auto"):
        raise CompoundNetError(f"there is no backend named {backend!r}{did_you_mean(backend, (*BACKENDS, 'auto'))}")
    if device != "cpu" and backend not in _ANY_SIZE:
        raise CompoundNetError(f"the backend {backend} runs on the CPU here; --backend torch goes with device {device}")
    if batch < 1:
        raise CompoundNetError(f"batch must be at least 1, got {batch}")
    threads = check_threads(threads)
    source = find_source(model, size)
    known = usable(source.exported)
    backend = backend or known[0]
    if backend == "auto":
        from compoundnet.runtime.timing.fastest import fastest

        able = [name for name in known if name != "compile"]
        if _lacking(source, batch) is not None:
            able = [name for name in able if not takes_batch(name, device)] or able
        backend = fastest(source, able, threads, batch)
    if backend not in known:
        assert source.exported is not None
        raise CompoundNetError(f"{source.exported.file} runs on {' or '.join(known)}, not on {backend}")
    if takes_batch(backend, device):
        check_memory(source, batch)
    return open_session(source, backend, threads, device)


def open_session(source: SessionSource, backend: str, threads: int, device: str = "cpu") -> Session:
    """A session of a source on a backend that is known to be able to run it."""
    missing = _missing(backend)
    if missing is not None:
        raise CompoundNetError(missing)
    module = importlib.import_module(f"compoundnet.runtime.{BACKENDS[backend].module}")
    opened = getattr(module, BACKENDS[backend].opener)
    arguments = (source, threads, device) if backend in _ANY_SIZE else (source, threads)
    return Session(source, backend, threads, opened(*arguments), device)


def usable(exported: ExportedModel | None) -> tuple[str, ...]:
    """The backends that can run an exported file, or a network that is none, the usual one first."""
    return tuple(BACKENDS) if exported is None else FILE_BACKENDS[exported.file.suffix.lower()]


def is_installed(backend: str) -> bool:
    return _missing(backend) is None


def takes_batch(backend: str, device: str = "cpu") -> bool:
    """Whether a batch goes through the backend in one piece, in this machine's own memory."""
    return backend in _WHOLE_BATCH and device == "cpu"


def check_memory(source: SessionSource, batch: int) -> None:
    """Raise a CompoundNetError where a batch needs more memory than is free."""
    lacking = _lacking(source, batch)
    if lacking is not None:
        raise CompoundNetError(f"{lacking}; give a smaller batch")


def _lacking(source: SessionSource, batch: int) -> str | None:
    """How much memory a batch needs and there is, where that is too little."""
    free = free_memory()
    if batch == 1 or source.network is None or source.size is None or free is None:
        return None
    needed = inference_memory(source.network.replace(resolution=source.size), batch)
    if needed <= free:
        return None
    needs, has = format_bytes(needed), format_bytes(free)
    return f"a batch of {batch} pictures needs about {needs} of memory, and {has} are free"


class _Backend(NamedTuple):
    package: str
    module: str
    opener: str
    extra: str | None = None


# The usual one first.
BACKENDS: Mapping[str, _Backend] = {
    "onnxruntime": _Backend("onnxruntime", "backends.onnxruntime", "open_onnxruntime"),
    "torch": _Backend("torch", "backends.torch", "open_torch"),
    "compile": _Backend("torch", "backends.torch", "open_compiled"),
    "openvino": _Backend("openvino", "backends.openvino", "open_openvino", extra="openvino"),
}
_ANY_SIZE = _WHOLE_BATCH = ("torch", "compile")


def _missing(backend: str) -> str | None:
    """What to do where a backend is not installed; None where it is."""
    needed = BACKENDS[backend]
    if importlib.util.find_spec(needed.package) is not None:
        return None
    what = f"'compoundnet[{needed.extra}]'" if needed.extra else needed.package
    return f"the backend {backend} is not installed; `pip install {what}` installs it"
