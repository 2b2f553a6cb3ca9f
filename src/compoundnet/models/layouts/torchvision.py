"""torchvision: EfficientNet (V1, V2), MobileNetV2, MNASNet and ResNet, with four different naming schemes.

Each of its three mobile classes has one type of block, so block and activation determine the class of a network.
"""

from __future__ import annotations

from collections.abc import Iterator

from compoundnet import arch
from compoundnet.arch import BasicBlock, Bottleneck, FusedMBConv, MBConv, Network, Norm
from compoundnet.models.layouts.base import (
    Layout,
    Module,
    conv_norm,
    positions,
    squeeze_excite,
    unsupported,
)

_LIBRARY = "torchvision"
UNITS = {BasicBlock: ("first", "second"), Bottleneck: ("reduce", "spatial", "expand")}


def _modules(network: Network) -> Iterator[Module]:
    if is_resnet(network):
        yield from resnet_modules(_LIBRARY, network)
        return
    if not network.head.channels:
        raise unsupported(_LIBRARY, network, "such network without a head convolution")
    yield from {"silu": _efficientnet, "relu6": _mobilenet_v2, "relu": _mnasnet}[network.activation](network)
    if network.num_classes:
        yield Module("classifier", "classifier.1", "dense")


def _efficientnet(network: Network) -> Iterator[Module]:
    """`features` holds stem, stages and head; the units of a block are numbered in execution order."""
    yield from conv_norm("stem", "features.0.0", "features.0.1")
    for at in positions(network):
        theirs = f"features.{at.stage + 1}.{at.repeat}.block"
        match at.block:
            case MBConv() if at.block.se > 0:
                units = ["expand", "depthwise", "se", "project"][0 if at.block.expansion > 1 else 1 :]
            case FusedMBConv(se=0, expands="input"):
                units = ["expand", "project"][: 2 if at.block.expansion > 1 else 1]
            case block:
                raise unsupported(_LIBRARY, network, f"{block}")
        for unit, name in enumerate(units):
            ours = f"{at.ours}.{name}"
            if name == "se":
                yield from squeeze_excite(ours, f"{theirs}.{unit}.fc1", f"{theirs}.{unit}.fc2")
            else:
                names = f"{theirs}.{unit}.0", f"{theirs}.{unit}.1"
                yield from conv_norm(ours, *names, "depthwise" if name == "depthwise" else "conv")
    last = f"features.{len(network.stages) + 1}"
    yield from conv_norm("head", f"{last}.0", f"{last}.1")


def _mobilenet_v2(network: Network) -> Iterator[Module]:
    """`features` holds all blocks in one sequence; the projection and its norm stand beside the other units."""
    yield from conv_norm("stem", "features.0.0", "features.0.1")
    for at in positions(network):
        theirs = f"features.{at.index + 1}.conv"
        if not (isinstance(at.block, MBConv) and at.block.se == 0 and at.block.kernel == 3):
            raise unsupported(_LIBRARY, network, f"ReLU6 network with {at.block}")
        unit = 1 if at.block.expansion > 1 else 0
        if unit:
            yield from conv_norm(f"{at.ours}.expand", f"{theirs}.0.0", f"{theirs}.0.1")
        yield from conv_norm(f"{at.ours}.depthwise", f"{theirs}.{unit}.0", f"{theirs}.{unit}.1", "depthwise")
        yield from conv_norm(f"{at.ours}.project", f"{theirs}.{unit + 1}", f"{theirs}.{unit + 2}")
    last = f"features.{network.blocks + 1}"
    yield from conv_norm("head", f"{last}.0", f"{last}.1")


def _mnasnet(network: Network) -> Iterator[Module]:
    """One sequence of layers and activations: stem 0-2, the block without expansion 3-7, one item per stage, head."""
    first, *others = network.stages
    if first.repeats != 1 or not isinstance(first.block, MBConv) or first.block.expansion != 1:
        raise unsupported(_LIBRARY, network, "ReLU network whose first stage is not one MBConv with expansion 1")
    yield from conv_norm("stem", "layers.0", "layers.1")
    for at in positions(network):
        if not (isinstance(at.block, MBConv) and at.block.se == 0 and (at.block.expansion > 1) == (at.stage > 0)):
            raise unsupported(_LIBRARY, network, f"ReLU network with {at.block} in stage {at.stage + 1}")
        if at.stage == 0:
            yield from conv_norm(f"{at.ours}.depthwise", "layers.3", "layers.4", "depthwise")
            yield from conv_norm(f"{at.ours}.project", "layers.6", "layers.7")
        else:
            theirs = f"layers.{at.stage + 7}.{at.repeat}.layers"
            yield from conv_norm(f"{at.ours}.expand", f"{theirs}.0", f"{theirs}.1")
            yield from conv_norm(f"{at.ours}.depthwise", f"{theirs}.3", f"{theirs}.4", "depthwise")
            yield from conv_norm(f"{at.ours}.project", f"{theirs}.6", f"{theirs}.7")
    last = len(others) + 8
    yield from conv_norm("head", f"layers.{last}", f"layers.{last + 1}")


def is_resnet(network: Network) -> bool:
    """Return whether a network is made of ResNet's blocks."""
    return isinstance(network.stages[0].block, BasicBlock | Bottleneck)


def resnet_modules(library: str, network: Network) -> Iterator[Module]:
    """`conv1`, `layer1.0.conv1`, `layer1.0.downsample.0`, `fc`; ResNet, WideResNet and ResNeXt. timm uses the same
    names."""
    if network.head.channels:
        raise unsupported(library, network, "convolution after a ResNet's stages")
    yield from conv_norm("stem", "conv1", "bn1")
    for at in positions(network):
        theirs = f"layer{at.stage + 1}.{at.repeat}"
        units = UNITS.get(type(at.block))
        if units is None:
            raise unsupported(library, network, f"{type(at.block).__name__} in a ResNet")
        if at.has_shortcut:
            yield from conv_norm(f"{at.ours}.shortcut", f"{theirs}.downsample.0", f"{theirs}.downsample.1")
        for number, unit in enumerate(units, start=1):
            yield from conv_norm(f"{at.ours}.{unit}", f"{theirs}.conv{number}", f"{theirs}.bn{number}")
    if network.num_classes:
        yield Module("classifier", "fc", "dense")


TORCH_NORM = Norm(eps=1e-5, momentum=0.1)
_AUTHORS_NORM = Norm(eps=1e-3, momentum=0.01)  # efficientnet_b5 to _b7, whose weights come from Luke Melas-Kyriazi
_V2_NORM = Norm(eps=1e-3, momentum=0.1)  # efficientnet_v2_s to _l
_MNASNET_NORM = Norm(eps=1e-5, momentum=1 - 0.9997)  # models/mnasnet.py: _BN_MOMENTUM
_WITH_AUTHORS_NORM = ("efficientnet-b5", "efficientnet-b6", "efficientnet-b7")


def _adapt(network: Network) -> Network:
    return network.replace(padding="symmetric", norm=_norm(network))


def _norm(network: Network) -> Norm:
    """The norm is chosen by shape and not by name, so that a renamed B5 keeps its eps."""
    if any(isinstance(stage.block, FusedMBConv) for stage in network.stages):
        return _V2_NORM
    if any(network.stages == arch.network(name).stages for name in _WITH_AUTHORS_NORM):
        return _AUTHORS_NORM
    return _MNASNET_NORM if network.activation == "relu" and not is_resnet(network) else TORCH_NORM


LAYOUT = Layout("torchvision", _LIBRARY, _adapt, _modules, version=2)  # that of MNASNet; the other classes accept any
