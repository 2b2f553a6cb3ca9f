"""Torch: a network in eager mode or compiled by torch.compile, on a CPU or a GPU."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compoundnet.base import CompoundNetError, first_line
from compoundnet.base.machine import torch_threads
from compoundnet.models import ExportedModel
from compoundnet.models.archive_weights import read_archive_weights
from compoundnet.models.checkpoints import check_values
from compoundnet.nn import ConvNet
from compoundnet.runtime.session_source import Run, SessionSource

_LOG = logging.getLogger(__name__)
_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def open_torch(
    source: SessionSource, threads: int, device: str = "cpu", precision: str = "float32", *, compiled: bool = False
) -> Run:
    """Open a network on torch. On a CPU the number of threads is set for each call and restored after it."""
    where = find_device(device)
    # A file in float16 converts its inputs and outputs itself.
    kind = _TYPES[precision] if source.precision == "float32" else torch.float32
    net: Any = _module(source).to(memory_format=torch.channels_last)
    net = net.to(where) if kind == torch.float32 else net.to(where, kind)
    if compiled:
        net = torch.compile(net)

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            with torch_threads(threads), torch.inference_mode():
                batch = torch.from_numpy(images).to(where, kind, memory_format=torch.channels_last)
                logits: NDArray[np.float32] = net(batch).float().cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise CompoundNetError(
                f"a batch of {len(images)} does not fit the memory of {device}; give a smaller one"
            ) from error
        return logits

    return _with_compiler_errors(run) if compiled else run


def open_compiled(source: SessionSource, threads: int, device: str = "cpu", precision: str = "float32") -> Run:
    """Open a network on torch.compile, which generates code in the first call for each batch size: about a minute.

    Inductor stores compiled code in a separate cache, from which a later process can load most of it:
    TORCHINDUCTOR_CACHE_DIR, or torchinductor_USER in the folder for temporary files.
    """
    _LOG.info("%s: torch.compile generates code in the first call, for up to a minute", source.name)
    return open_torch(source, threads, device, precision, compiled=True)


def _module(source: SessionSource) -> nn.Module:
    if source.module is not None:
        return source.module()
    assert source.exported is not None
    return load_archive(source.exported)


def load_archive(model: ExportedModel) -> nn.Module:
    """Build the network of a .pt2 file, in eval mode with folded norms, with the weights that the file holds.

    Its graph is not run: reading a graph runs code that it holds (`compoundnet.models.archive_weights`).
    """
    with torch.device("meta"):  # every tensor comes from the file
        net: nn.Module = ConvNet(model.network).fuse()
        if model.precision == "float16":
            from compoundnet.runtime.onnx_graph import Half  # noqa: PLC0415  imports the libraries of ONNX

            net = Half(net)
    expected = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    state = read_archive_weights(model.file, expected)
    check_values(state, str(model.file))
    net.load_state_dict(state, assign=True)
    return net.eval().requires_grad_(False)


def find_device(name: str) -> torch.device:
    """Return a device of torch. Raises CompoundNetError if torch cannot use it on this machine."""
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
