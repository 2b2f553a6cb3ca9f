"""The machine this process runs on: its cores, processor and free memory, and its cache folder."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import logging
import math
import os
import platform
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import platformdirs
import psutil

from compoundnet.base.container import cpu_quota, memory_left
from compoundnet.base.errors import CompoundNetError

# Parameters of glibc's mallopt: no M_MMAP_MAX, no M_TRIM_THRESHOLD, and M_TOP_PAD bytes more at each growth.
_MALLOC = ((-4, 0), (-1, 2**31 - 1), (-2, 2**28))
_LOG = logging.getLogger(__name__)


def cores() -> int:
    """Return the number of processor cores that this process may use, by its affinity and its container."""
    visible = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return visible if quota is None else min(visible, max(1, math.ceil(quota)))


def check_threads(threads: int | None) -> int:
    """Return `threads`, or all cores if it is None. Raises CompoundNetError if there are fewer cores."""
    if threads is not None and not 1 <= threads <= cores():
        raise CompoundNetError(f"threads must be 1 to {cores()}, the cores that this process may use, got {threads}")
    return threads or cores()


def default_threads() -> int:
    """Return the threads that torch computes on by itself, but no more than there are cores for.

    torch looks at OMP_NUM_THREADS, by which launchers of several processes divide the cores, and at the process's
    affinity, not at the limit of a container.
    """
    import torch  # noqa: PLC0415  base is imported where torch need not be installed

    return min(torch.get_num_threads(), cores())


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch compute on `count` threads inside the block. The setting applies to the whole process.

    With one thread, sums are added in one order on every machine.
    """
    import torch  # noqa: PLC0415  base is imported where torch need not be installed

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees for its next allocations, and use pages of 2 MB for large ones.

    glibc returns a freed tensor of several megabytes to the system at once, and the system clears the pages of the next
    one: a fifth of the processor time of a training step on a CPU (docs/laboratory.md). Memory grows to its peak as
    without this, and stays there until the process ends, so this is for commands that train. To be called before
    torch makes its first large tensor. Has no effect without glibc.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch's, read at its first large allocation
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in _MALLOC:
            mallopt(parameter, value)


@cache
def processor() -> str:
    """Return the processor's name, such as `AMD EPYC 7763 64-Core Processor`."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


@cache
def instruction_sets() -> str:
    """Return the processor's instruction sets on one line; machines with equal sets run the same compiled code."""
    found = _cpuinfo()
    return f"{platform.machine()} {found.get('flags') or found.get('Features') or processor()}"


@cache
def has_bfloat16() -> bool:
    """Return whether the processor multiplies bfloat16 in hardware: with AMX or AVX512-BF16."""
    return not {"amx_bf16", "avx512_bf16"}.isdisjoint(instruction_sets().split())


def free_memory() -> int:
    """Return the memory in bytes that can be used without swapping, within the limit of a container."""
    available, left = int(psutil.virtual_memory().available), memory_left()
    return available if left is None else min(available, left)


def cache_folder() -> Path:
    """Return the cache folder: $COMPOUNDNET_CACHE, or the default of the platform (~/.cache/compoundnet on Linux).

    It may not exist yet.
    """
    own = os.environ.get("COMPOUNDNET_CACHE")
    return Path(own).expanduser() if own else platformdirs.user_cache_path("compoundnet", appauthor=False)


def cached_model_folder(*parts: str) -> Path:
    """Return the folder of a model in the cache, existing or not.

    If it does not exist and the cache cannot be written, it is in a temporary folder that is removed when this process
    ends.
    """
    kept = cache_folder().joinpath("models", *parts)
    return kept if kept.exists() else _writable(cache_folder()).joinpath("models", *parts)


@cache
def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        _LOG.warning(
            "the cache %s cannot be written (%s), so models are kept in a temporary folder until this command ends;"
            " COMPOUNDNET_CACHE names another cache",
            folder,
            error.strerror or error,
        )
    made = tempfile.TemporaryDirectory(prefix="compoundnet-", ignore_cleanup_errors=True)
    _temporary.append(made)
    return Path(made.name)


_temporary: list[tempfile.TemporaryDirectory[str]] = []  # removed when the interpreter ends


def remove_temporary_folders() -> None:
    """Remove the temporary folders of models, before a process ends without its interpreter (`os._exit`)."""
    for made in _temporary:
        made.cleanup()


def installed_version(package: str) -> str | None:
    """Return the version of a package, by its import name; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        # Installed under another name, such as onnxruntime-gpu, or run from a source folder; or not at all.
        if importlib.util.find_spec(package) is None:
            return None
        return str(importlib.import_module(package).__version__)


@cache
def _cpuinfo() -> dict[str, str]:
    """Return Linux's description of the first core, which psutil does not give; empty on other systems."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
