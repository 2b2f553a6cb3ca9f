"""timm: layout `timm` for its `tf_` models, which compute as the authors' models do, `timm-native` for the others."""

from __future__ import annotations

import re
from collections.abc import Iterator

from compoundnet.arch import UIB, ConvBlock, FusedMBConv, MBConv, Network, Norm, SeparableConv
from compoundnet.models.layouts.base import (
    Layout,
    Module,
    Position,
    conv_norm,
    conventions,
    positions,
    squeeze_excite,
    unsupported,
)
from compoundnet.models.layouts.torchvision import is_resnet, resnet_modules

# timm's names that are not ours with other punctuation, without `tf_`; "": timm has no such model.
_NAMES = {
    "efficientnet-edgetpu-s": "efficientnet_es",
    "efficientnet-edgetpu-m": "efficientnet_em",
    "efficientnet-edgetpu-l": "efficientnet_el",
    "mnasnet-a1": "semnasnet_100",
    "mnasnet-b1": "mnasnet_100",
    "mobilenet-v1": "mobilenetv1_100",
    "mobilenet-v2": "mobilenetv2_100",
    "mobilenet-v4-conv-small": "mobilenetv4_conv_small",
    "mobilenet-v4-conv-medium": "mobilenetv4_conv_medium",
    "mobilenet-v4-conv-large": "mobilenetv4_conv_large",
    "resnext-50-64x4d": "",
}


def timm_name(network: str, layout: str) -> str:
    """Return timm's name of a network of the catalogue in one of its two layouts; "" if timm has no such model."""
    plain = re.sub(r"(resnet|resnext)-(\d+)", r"\1\2", network).replace("-", "_")
    name = _NAMES.get(network, plain)
    if layout == TIMM.name:
        return f"tf_{name}" if network.startswith("efficientnet") else ""
    return "" if network.startswith("efficientnetv2-b") else name


def _modules(network: Network) -> Iterator[Module]:
    if is_resnet(network):
        yield from resnet_modules("timm", network)
        return
    yield from conv_norm("stem", "conv_stem", "bn1")
    for at in positions(network):
        yield from _block(network, at)
    head = network.head
    if head.hidden and head.channels:  # in timm the convolution before the pool is a last block
        yield from conv_norm("head", f"blocks.{len(network.groups)}.0.conv", f"blocks.{len(network.groups)}.0.bn1")
    elif head.channels:
        yield from conv_norm("head", "conv_head", "bn2")
    if head.hidden:
        yield from conv_norm("hidden", "conv_head", "norm_head")
    if network.num_classes:
        yield Module("classifier", "classifier", "dense")


def _block(network: Network, at: Position) -> Iterator[Module]:
    ours, theirs = at.ours, f"blocks.{at.group}.{at.place}"
    match at.block:
        case MBConv(expansion=1):  # timm's DepthwiseSeparableConv
            yield from conv_norm(f"{ours}.depthwise", f"{theirs}.conv_dw", f"{theirs}.bn1", "depthwise")
            yield from conv_norm(f"{ours}.project", f"{theirs}.conv_pw", f"{theirs}.bn2")
        case MBConv():
            yield from conv_norm(f"{ours}.expand", f"{theirs}.conv_pw", f"{theirs}.bn1")
            yield from conv_norm(f"{ours}.depthwise", f"{theirs}.conv_dw", f"{theirs}.bn2", "depthwise")
            yield from conv_norm(f"{ours}.project", f"{theirs}.conv_pwl", f"{theirs}.bn3")
        case FusedMBConv(expansion=1):
            yield from conv_norm(f"{ours}.expand", f"{theirs}.conv", f"{theirs}.bn1")
        case FusedMBConv():
            yield from conv_norm(f"{ours}.expand", f"{theirs}.conv_exp", f"{theirs}.bn1")
            yield from conv_norm(f"{ours}.project", f"{theirs}.conv_pwl", f"{theirs}.bn2")
        case UIB():
            if at.block.start:
                yield from conv_norm(f"{ours}.start", f"{theirs}.dw_start.conv", f"{theirs}.dw_start.bn", "depthwise")
            yield from conv_norm(f"{ours}.expand", f"{theirs}.pw_exp.conv", f"{theirs}.pw_exp.bn")
            if at.block.middle:
                yield from conv_norm(f"{ours}.middle", f"{theirs}.dw_mid.conv", f"{theirs}.dw_mid.bn", "depthwise")
            yield from conv_norm(f"{ours}.project", f"{theirs}.pw_proj.conv", f"{theirs}.pw_proj.bn")
        case SeparableConv():
            yield from conv_norm(f"{ours}.depthwise", f"{theirs}.conv_dw", f"{theirs}.bn1", "depthwise")
            yield from conv_norm(f"{ours}.pointwise", f"{theirs}.conv_pw", f"{theirs}.bn2")
        case ConvBlock(se=0):
            yield from conv_norm(f"{ours}.conv", f"{theirs}.conv", f"{theirs}.bn1")
        case block:
            outside = "with squeeze-excitation" if isinstance(block, ConvBlock) else "outside a ResNet"
            raise unsupported("timm", network, f"{type(block).__name__} {outside}")
    if isinstance(at.block, MBConv | FusedMBConv | SeparableConv) and at.block.se > 0:
        yield from squeeze_excite(f"{ours}.se", f"{theirs}.se.conv_reduce", f"{theirs}.se.conv_expand")


def _tensorflow(network: Network) -> Network:
    """timm leaves torch's momentum 0.1 in its `tf_` models; these weights were trained with the authors' 0.01."""
    if is_resnet(network):
        raise unsupported("timm (tf_ models)", network, "ResNet; use the layout timm-native")
    return network.replace(padding="same", norm=Norm(eps=1e-3, momentum=0.01))


TIMM = Layout("timm", "timm (tf_ models)", _tensorflow, _modules, hidden_head=True)
TIMM_NATIVE = Layout(
    "timm-native", "timm", conventions("symmetric", Norm(eps=1e-5, momentum=0.1)), _modules, hidden_head=True
)
