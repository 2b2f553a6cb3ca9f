"""ResNet, WideResNet and ResNeXt: timm kept torchvision's names, so one function serves both."""

from __future__ import annotations

from collections.abc import Iterator

from compoundnet.arch import BasicBlock, Bottleneck, Network
from compoundnet.models.layouts.base import Module, conv_norm, positions, unsupported

_UNITS = {BasicBlock: ("first", "second"), Bottleneck: ("reduce", "spatial", "expand")}


def is_resnet(network: Network) -> bool:
    return isinstance(network.stages[0].block, BasicBlock | Bottleneck)


def resnet_modules(library: str, network: Network) -> Iterator[Module]:
    """`conv1`, `layer1.0.conv1`, `layer1.0.downsample.0`, `fc`."""
    if network.head.channels:
        raise unsupported(library, network, "convolution after a ResNet's stages")
    yield from conv_norm("stem", "conv1", "bn1")
    for at in positions(network):
        theirs = f"layer{at.stage + 1}.{at.repeat}"
        units = _UNITS.get(type(at.block))
        if units is None:
            raise unsupported(library, network, f"{type(at.block).__name__} in a ResNet")
        if at.has_shortcut:
            yield from conv_norm(f"{at.ours}.shortcut", f"{theirs}.downsample.0", f"{theirs}.downsample.1")
        for number, unit in enumerate(units, start=1):
            yield from conv_norm(f"{at.ours}.{unit}", f"{theirs}.conv{number}", f"{theirs}.bn{number}")
    if network.num_classes:
        yield Module("classifier", "fc", "dense")
