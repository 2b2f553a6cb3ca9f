"""Stem and stages as a torch module, the common part of classifiers and feature pyramids."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Self

import torch
import torch.fx
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from compoundnet.arch import Network
from compoundnet.arch.segments import block_shapes
from compoundnet.base import CompoundNetError
from compoundnet.nn.blocks import Units, build_block
from compoundnet.nn.units import ConvNorm, is_tracing


class Trunk(nn.Module):
    """The stem and the stages of a network, as described by `spec`, with the default initial weights of torch.

    Attributes:
        spec: The network.
        preprocess: The preprocessing of images, if `compoundnet.load` made the module; None otherwise.
        labels: The class names by index, likewise; None if the classes have no names.
    """

    preprocess: Callable[[Any], Tensor] | None = None
    labels: tuple[str, ...] | None = None

    def __init__(self, network: Network) -> None:
        super().__init__()
        network.check_size()
        self.spec = network
        self.checkpointing = False
        units = Units(network)
        stem = network.stem
        self.stem = units.conv(network.in_channels, stem.channels, stem.kernel, stem.stride)
        self.pool = nn.MaxPool2d(3, 2, 1) if stem.pool == "max" else None
        self.stages = nn.ModuleList()
        channels, position = stem.channels, 0
        for stage in network.stages:
            first, rest = block_shapes(stage, channels)
            blocks = nn.Sequential()
            for repeat in range(stage.repeats):
                # Falls linearly over all blocks, from 1 (authors' code: block index over block count).
                survival = 1 - (1 - network.survival) * position / network.blocks
                blocks.append(build_block(units, stage.block, rest if repeat else first, survival))
                position += 1
            self.stages.append(blocks)
            channels = stage.channels

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only block inputs in training and recompute the rest in backward: less memory, same gradients."""
        self.checkpointing = enable

    @torch.no_grad()
    def fuse(self) -> Self:
        """Return a copy for inference: in eval mode, with batch norms folded into the convolutions."""
        fused = copy.deepcopy(self).eval()
        for module in fused.modules():
            if isinstance(module, ConvNorm):
                module.fuse()
        return fused

    def _stem(self, x: Tensor) -> Tensor:
        y: Tensor = self.stem(checked(x, self.spec.in_channels))
        return y

    def _blocks(self) -> Iterator[Callable[[Tensor], Tensor]]:
        remember = self.checkpointing and self.training and torch.is_grad_enabled()
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]  # a Sequential
                yield partial(_checkpointed, block) if remember else block


@torch.fx.wrap  # one node of a torch.fx graph, which has no `if`
def checked(x: Tensor, in_channels: int) -> Tensor:
    """Return the images unchanged; raise CompoundNetError unless they are float[N, in_channels, H, W]."""
    if is_tracing():
        return x
    if x.ndim != 4 or x.shape[1] != in_channels:
        raise CompoundNetError(f"the input must be float[N, {in_channels}, H, W], got shape {list(x.shape)}")
    return x


def _checkpointed(block: nn.Module, x: Tensor) -> Tensor:
    def contexts() -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
        return contextlib.nullcontext(), _statistics_kept(block)

    result: Tensor = checkpoint(block, x, use_reentrant=False, context_fn=contexts)
    return result


@contextlib.contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Prevent batch norms from counting a batch twice when a block runs for the second time."""
    norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d | nn.SyncBatchNorm) and m.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.sub_(1)
