"""The torch module of a Network: `build`, and what users of timm and torchvision expect of a classifier."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from compoundnet.arch import Head, Network, Stage
from compoundnet.base import CompoundNetError
from compoundnet.nn.blocks import Shape, Units, build_block
from compoundnet.nn.init import initialise, initialise_classifier
from compoundnet.nn.units import ConvNorm


class ConvNet(nn.Module):
    """stem, stages, head, classifier, as `spec` says. Input float[N, in_channels, H, W], at least 32 px a side.

    `forward` gives logits float[N, num_classes], or pooled features float[N, num_features] where num_classes is 0.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.spec = network
        self.checkpointing = False
        units = Units(network)
        stem = network.stem
        self.stem = units.conv(network.in_channels, stem.channels, stem.kernel, stem.stride)
        self.pool = nn.MaxPool2d(3, 2, 1) if stem.pool == "max" else None
        self.stages = nn.ModuleList()
        channels, position = stem.channels, 0
        for stage in network.stages:
            blocks = nn.Sequential()
            for repeat in range(stage.repeats):
                # Falls linearly over all blocks, from 1 (authors' code: block index over block count).
                survival = 1 - (1 - network.survival) * position / network.blocks
                stride = stage.stride if repeat == 0 else 1
                shape = Shape(stage.block, channels, stage.channels, stride, stage.skip, survival)
                blocks.append(build_block(units, stage.block, shape))
                channels, position = stage.channels, position + 1
            self.stages.append(blocks)
        self.head = units.conv(channels, network.head.channels) if network.head.channels else None
        self.dropout = nn.Dropout(network.dropout)
        self.classifier: nn.Module = _classifier(network.features, network.num_classes)
        initialise(self)

    @property
    def num_classes(self) -> int:
        return self.spec.num_classes

    @property
    def num_features(self) -> int:
        """Channels of `forward_features` and inputs of the classifier."""
        return self.spec.features

    def forward_features(self, x: Tensor) -> Tensor:
        """The last feature map, float[N, num_features, h, w]: what the global pool reads, and what CAM draws."""
        x = self._stem(x)
        if self.pool is not None:
            x = self.pool(x)
        for block in self._blocks():
            x = block(x)
        return x if self.head is None else self.head(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits of a feature map, or with `pre_logits` the pooled features that the classifier reads."""
        x = self.dropout(x.mean((2, 3)))
        return x if pre_logits else self.classifier(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def _stem(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.spec.in_channels:
            raise CompoundNetError(
                f"the input must be float[N, {self.spec.in_channels}, H, W], got shape {list(x.shape)}"
            )
        y: Tensor = self.stem(x)
        return y

    def _blocks(self) -> Iterator[Callable[[Tensor], Tensor]]:
        remember = self.checkpointing and self.training and torch.is_grad_enabled()
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]  # a Sequential
                yield partial(_checkpointed, block) if remember else block

    def get_classifier(self) -> nn.Module:
        return self.classifier

    def reset_classifier(self, num_classes: int) -> None:
        """A new classifier with fresh weights, on the same device; 0 leaves it out. `spec` follows."""
        self.spec = self.spec.replace(num_classes=num_classes)
        example = self.stem.conv.weight
        self.classifier = _classifier(self.num_features, num_classes).to(example.device, example.dtype)
        initialise_classifier(self.classifier)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only block inputs in training and compute the rest again in backward: less memory, same gradients."""
        self.checkpointing = enable

    @torch.no_grad()
    def fuse(self) -> ConvNet:
        """A copy for inference: eval mode, batch norms folded into the convolutions."""
        fused = copy.deepcopy(self).eval()
        for module in fused.modules():
            if isinstance(module, ConvNorm):
                module.fuse()
        return fused


class FeaturePyramid(ConvNet):
    """The feature maps before each change of resolution, finest first.

    `forward` gives a list of float[N, channels[i], ceil(H / strides[i]), ceil(W / strides[i])]. `out_indices` picks
    some of the levels, negative ones from the end; stages after the last one asked for are not built. Parameters have
    the names they have in the classifier, so its weights load with `strict=False`.
    """

    def __init__(self, network: Network, out_indices: Sequence[int] | None = None) -> None:
        levels = _levels(network)
        chosen = [levels[index] for index in _chosen(len(levels), out_indices)]
        deepest = max(level.map for level in chosen)
        super().__init__(_trunk(network, deepest))
        self.channels = [level.channels for level in chosen]
        self.strides = [level.stride for level in chosen]
        self._maps_kept = [level.map for level in chosen]

    def forward(self, x: Tensor) -> list[Tensor]:  # type: ignore[override]  # a list is what a pyramid is for
        x = self._stem(x)
        maps = {0: x}
        if self.pool is not None:
            x = self.pool(x)
        for index, block in enumerate(self._blocks(), start=1):
            x = block(x)
            if index in self._maps_kept:
                maps[index] = x
        return [maps[index] for index in self._maps_kept]


def build(
    network: Network,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
) -> ConvNet:
    """The torch module of a network, in training mode, with the authors' initial weights.

    num_classes    other than the network's; 0 leaves the classifier out
    in_chans       input channels other than the network's
    features_only  a FeaturePyramid of the levels `out_indices` (all of them by default)
    """
    if num_classes is not None:
        network = network.replace(num_classes=num_classes)
    if in_chans is not None:
        network = network.replace(in_channels=in_chans)
    if features_only:
        return FeaturePyramid(network, out_indices)
    if out_indices is not None:
        raise CompoundNetError("out_indices picks levels of a feature pyramid; give features_only=True with it")
    return ConvNet(network)


class _Level(NamedTuple):
    map: int  # 0 is the stem's output, then one a block
    channels: int
    stride: int


def _levels(network: Network) -> list[_Level]:
    """The last map of each resolution."""
    maps = [(network.stem.channels, network.stem.stride)]
    for stage in network.stages:
        maps += [(stage.channels, stage.stride if repeat == 0 else 1) for repeat in range(stage.repeats)]
    levels, stride = [], 1
    for index, (channels, step) in enumerate(maps):
        stride *= step
        if index == 0 and network.stem.pool == "max":
            levels.append(_Level(index, channels, stride))
            stride *= 2
        elif index + 1 == len(maps) or maps[index + 1][1] > 1:
            levels.append(_Level(index, channels, stride))
    return levels


def _chosen(count: int, out_indices: Sequence[int] | None) -> list[int]:
    wanted = list(range(count)) if out_indices is None else list(out_indices)
    if not wanted or any(not -count <= index < count for index in wanted):
        raise CompoundNetError(f"out_indices must be one or more of 0 to {count - 1}, got {wanted}")
    return [index % count for index in wanted]


def _trunk(network: Network, deepest: int) -> Network:
    """Stem and stages up to the one that makes map `deepest`, without head and classifier."""
    stages: list[Stage] = []
    made = 0
    for stage in network.stages:
        if made >= deepest and stages:
            break
        stages.append(stage)
        made += stage.repeats
    # Survival falls over all blocks of the whole network, also where the deeper ones are left out.
    blocks = sum(stage.repeats for stage in stages)
    survival = 1 - (1 - network.survival) * blocks / network.blocks
    return network.replace(stages=tuple(stages), head=Head(), num_classes=0, survival=survival)


def _classifier(features: int, num_classes: int) -> nn.Module:
    return nn.Linear(features, num_classes) if num_classes else nn.Identity()


def _checkpointed(block: nn.Module, x: Tensor) -> Tensor:
    def contexts() -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
        return contextlib.nullcontext(), _statistics_kept(block)

    result: Tensor = checkpoint(block, x, use_reentrant=False, context_fn=contexts)
    return result


@contextlib.contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """While a block runs for the second time its batch norms must not count the same batch again."""
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
