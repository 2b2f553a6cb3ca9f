"""The machine this process runs on: cores, processor, free memory."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from compoundnet.arch import CompoundNetError


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_threads(threads: int | None) -> int:
    """That many threads, all cores where it is None; a CompoundNetError where there are not so many cores."""
    if threads is not None and not 1 <= threads <= cores():
        raise CompoundNetError(f"threads must be 1 to {cores()}, the cores of this machine, got {threads}")
    return threads or cores()


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """torch computes on that many threads, which is a setting of the whole process, and then on as many as before.

    With one, sums are added in one order, whatever the machine has of cores.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def processor() -> str:
    """The processor's name, such as `AMD EPYC 7763 64-Core Processor`."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


@cache
def instruction_sets() -> str:
    """What the processor can do, in one line; two machines with the same run the same compiled code."""
    found = _cpuinfo()
    return f"{platform.machine()} {found.get('flags') or found.get('Features') or processor()}"


def free_memory() -> int | None:
    """Bytes that can be used without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


@cache
def _cpuinfo() -> dict[str, str]:
    """Linux's description of the first core; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
