"""Hugging Face transformers: EfficientNet, MobileNetV2 and ResNet for image classification, and their bodies.

EfficientNet's padding depends on the configuration, not on the input: bottom and right only, but symmetric in the
blocks listed in `depthwise_padding`. At the resolution of the configuration, which must be even, this equals
TensorFlow's SAME padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from compoundnet.arch import Bottleneck, MBConv, Network, Norm
from compoundnet.models.layouts.base import (
    Layout,
    Module,
    conv_norm,
    positions,
    squeeze_excite,
    unsupported,
)
from compoundnet.models.layouts.torchvision import TORCH_NORM, UNITS, is_resnet

_EFFICIENTNET, _MOBILENET_V2, _RESNET = "efficientnet", "mobilenet_v2", "resnet"


def _modules(network: Network) -> Iterator[Module]:
    if is_resnet(network):
        return _resnet(network)
    return _mobilenet_v2(network) if _is_mobilenet_v2(network) else _efficientnet(network)


def _is_mobilenet_v2(network: Network) -> bool:
    """Whether a network is made of MobileNetV2's blocks, of which the first is its stem's."""
    blocks = [stage.block for stage in network.stages if isinstance(stage.block, MBConv)]
    if network.activation != "relu6" or len(blocks) < len(network.stages) or network.stages[0].repeats != 1:
        return False
    expansions = [block.expansion for block in blocks]
    plain = all((block.kernel, block.se) == (3, 0) for block in blocks)
    return plain and expansions[0] == 1 and min(expansions[1:], default=2) > 1


def _mobilenet_v2(network: Network) -> Iterator[Module]:
    """The first block, which does not expand, belongs to the stem."""
    body = _MOBILENET_V2
    stem = f"{body}.conv_stem"
    yield from _unit("stem", f"{stem}.first_conv")
    for at in positions(network):
        theirs = stem if at.index == 0 else f"{body}.layer.{at.index - 1}"
        if at.index:
            yield from _unit(f"{at.ours}.expand", f"{theirs}.expand_1x1")
        yield from _unit(f"{at.ours}.depthwise", f"{theirs}.conv_3x3", "depthwise")
        yield from _unit(f"{at.ours}.project", f"{theirs}.reduce_1x1")
    if not network.head.channels:
        raise unsupported("transformers' MobileNetV2", network, "network without a head convolution")
    yield from _unit("head", f"{body}.conv_1x1")
    if network.num_classes:
        yield Module("classifier", "classifier", "dense")


def _unit(ours: str, theirs: str, kind: Literal["conv", "depthwise"] = "conv") -> tuple[Module, Module]:
    return conv_norm(ours, f"{theirs}.convolution", f"{theirs}.normalization", kind)


def _resnet(network: Network) -> Iterator[Module]:
    library, stem = "transformers' ResNet", f"{_RESNET}.embedder.embedder"
    if network.head.channels:
        raise unsupported(library, network, "convolution after the stages")
    yield from _unit("stem", stem)
    for at in positions(network):
        units = UNITS.get(type(at.block))
        if units is None or (isinstance(at.block, Bottleneck) and (at.block.groups, at.block.ratio) != (1, 0.25)):
            raise unsupported(library, network, f"{at.block}")
        theirs = f"{_RESNET}.encoder.stages.{at.stage}.layers.{at.repeat}"
        named = [(unit, f"{theirs}.layer.{number}") for number, unit in enumerate(units)]
        for unit, name in [*named, ("shortcut", f"{theirs}.shortcut")] if at.has_shortcut else named:
            yield from _unit(f"{at.ours}.{unit}", name)
    if network.num_classes:
        yield Module("classifier", "classifier.1", "dense")


def _efficientnet(network: Network) -> Iterator[Module]:
    body = _EFFICIENTNET
    yield from conv_norm("stem", f"{body}.embeddings.convolution", f"{body}.embeddings.batchnorm")
    for at in positions(network):
        ours, theirs = at.ours, f"{body}.encoder.blocks.{at.index}"
        if not isinstance(at.block, MBConv):
            raise unsupported("transformers' EfficientNet", network, type(at.block).__name__)
        if at.block.se == 0:
            raise unsupported("transformers' EfficientNet", network, "MBConv without squeeze-excitation")
        if at.block.expansion > 1:
            names = f"{theirs}.expansion.expand_conv", f"{theirs}.expansion.expand_bn"
            yield from conv_norm(f"{ours}.expand", *names)
        names = f"{theirs}.depthwise_conv.depthwise_conv", f"{theirs}.depthwise_conv.depthwise_norm"
        yield from conv_norm(f"{ours}.depthwise", *names, "depthwise")
        names = f"{theirs}.squeeze_excite.reduce", f"{theirs}.squeeze_excite.expand"
        yield from squeeze_excite(f"{ours}.se", *names)
        names = f"{theirs}.projection.project_conv", f"{theirs}.projection.project_bn"
        yield from conv_norm(f"{ours}.project", *names)
    if not network.head.channels:
        raise unsupported("transformers' EfficientNet", network, "network without a head convolution")
    yield from conv_norm("head", f"{body}.encoder.top_conv", f"{body}.encoder.top_bn")
    if network.num_classes:
        yield Module("classifier", "classifier", "dense")


def _adapt(network: Network) -> Network:
    if is_resnet(network):
        return network.replace(padding="symmetric", norm=TORCH_NORM)
    if _is_mobilenet_v2(network):  # TensorFlow's momentum of 0.997, which transformers gives torch unchanged
        return network.replace(padding="same", norm=Norm(eps=1e-3, momentum=0.003))
    # EfficientNet's configuration passes TensorFlow's momentum of 0.99 to torch, where the same momentum is 0.01.
    return network.replace(padding="same", norm=Norm(eps=1e-3, momentum=0.01))


LAYOUT = Layout(
    "transformers", "transformers", _adapt, _modules, bodies=(f"{_EFFICIENTNET}.", f"{_MOBILENET_V2}.", f"{_RESNET}.")
)
