"""Calls of torch modules on images that are on the GPU already: eager, as one CUDA graph, or compiled with graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# The first calls of a compiled network record its graphs.
_WARM_UP = 3


def resident_call(
    module: nn.Module, mode: str, precision: str, device: str, shape: tuple[int, ...]
) -> Callable[[], object]:
    """Return a call that runs a batch to its end.

    Args:
        module: A network in eval mode.
        mode: torch; torch, CUDA graphs; or compile.
        precision: float32, bfloat16 or float16: of weights, images and arithmetic.
        device: The GPU.
        shape: Of the batch, [N, C, H, W].
    """
    net = on_device(module, precision, device)
    images = random_images(shape, precision, device)
    run = forward(net, images, compiled=mode == "compile")
    for _ in range(_WARM_UP):
        run()
    call = recorded(run, device) if mode == "torch, CUDA graphs" else run

    def whole() -> None:
        call()
        torch.accelerator.synchronize(device)

    return whole


def on_device(module: nn.Module, precision: str, device: str | torch.device) -> nn.Module:
    """Return a module on a device, in a precision and in channels_last."""
    placed: nn.Module = module.to(device, _TYPES[precision]).to(memory_format=torch.channels_last)
    return placed


def random_images(shape: tuple[int, ...], precision: str, device: str | torch.device) -> Tensor:
    """Return normal noise on a device, in channels_last."""
    noise = torch.randn(shape, device=device, dtype=_TYPES[precision])
    return noise.to(memory_format=torch.channels_last)


def forward(net: nn.Module, images: Tensor, *, compiled: bool) -> Callable[[], object]:
    """Return a call of a network on a batch without gradients, compiled with CUDA graphs or eager."""
    function: Any = torch.compile(net, mode="reduce-overhead", dynamic=False) if compiled else net

    @torch.inference_mode()
    def run() -> object:
        return function(images)

    return run


def recorded(run: Callable[[], object], device: str | torch.device = "cuda") -> Callable[[], object]:
    """Record a call that runs on a GPU as one CUDA graph, and return what replays it."""
    graph = torch.cuda.CUDAGraph()
    # A stream belongs to a GPU, and torch's own for graphs to the one that recorded first.
    with torch.cuda.device(device), torch.cuda.graph(graph, stream=torch.cuda.Stream(device)):
        run()
    return graph.replay
