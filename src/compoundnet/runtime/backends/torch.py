"""Torch: a network in eager mode or compiled by torch.compile, on a CPU or a GPU."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.export.passes import move_to_device_pass

from compoundnet.base import CompoundNetError, first_line
from compoundnet.base.machine import torch_threads
from compoundnet.runtime.session_source import Run, SessionSource

_LOG = logging.getLogger(__name__)


def open_torch(source: SessionSource, threads: int, device: str = "cpu", *, compiled: bool = False) -> Run:
    """Open a network on torch. On a CPU the number of threads is set for each call and restored after it."""
    where = _device(device)
    one_by_one = source.exported is not None and not source.exported.dynamic_batch
    net: Any = _module(source, where).to(memory_format=torch.channels_last).to(where)
    if compiled:
        net = torch.compile(net)

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            with torch_threads(threads), torch.inference_mode():
                batch = torch.from_numpy(images).to(where, memory_format=torch.channels_last)
                found = torch.cat([net(one) for one in batch.split(1)]) if one_by_one else net(batch)
                logits: NDArray[np.float32] = found.float().cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise CompoundNetError(
                f"a batch of {len(images)} does not fit the memory of {device}; give a smaller one"
            ) from error
        return logits

    return _with_compiler_errors(run) if compiled else run


def open_compiled(source: SessionSource, threads: int, device: str = "cpu") -> Run:
    """Open a network on torch.compile, which generates code in the first call for each batch size: about a minute.

    Inductor stores compiled code in a separate cache, from which a later process can load most of it:
    TORCHINDUCTOR_CACHE_DIR, or torchinductor_USER in the folder for temporary files.
    """
    _LOG.info("%s: torch.compile generates code in the first call, for up to a minute", source.name)
    return open_torch(source, threads, device, compiled=True)


def _module(source: SessionSource, device: torch.device) -> nn.Module:
    if source.module is not None:
        return source.module()
    assert source.exported is not None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a warning of torch.export about its archive format
            program = torch.export.load(source.exported.file)
            # The graph names devices, those of constants too, which `to` does not change.
            return (program if device.type == "cpu" else move_to_device_pass(program, device)).module()
    except Exception as error:  # a damaged archive fails anywhere inside torch
        raise CompoundNetError(f"{source.exported.file} cannot be loaded, it is damaged: {error}") from error


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise CompoundNetError(f"torch cannot use the device {name!r} on this machine: {first_line(error)}") from error
    return device


def _with_compiler_errors(run: Run) -> Run:
    """Report what is missing if torch.compile finds no compiler."""

    def explained(images: NDArray[np.float32]) -> NDArray[np.float32]:
        from torch._inductor.exc import InvalidCxxCompiler  # noqa: PLC0415  starts Inductor

        try:
            return run(images)
        except InvalidCxxCompiler as error:
            raise CompoundNetError(
                "torch.compile needs a C++ compiler, and there is none; install g++, or take another backend"
            ) from error

    return explained
