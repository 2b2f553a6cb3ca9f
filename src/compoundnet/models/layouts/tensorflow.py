"""The layout of the authors: variables of tensorflow/tpu, models/official/efficientnet, without the scope of the whole
model."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

from compoundnet.arch import MBConv, Network, Norm
from compoundnet.models.layouts.base import (
    Kind,
    Layout,
    Leaf,
    Leaves,
    Module,
    Position,
    conv_norm,
    conventions,
    positions,
    squeeze_excite,
    unsupported,
)

_LIBRARY = "the authors' code"

AUTHORS = conventions("same", Norm(eps=1e-3, momentum=0.01))

# Kernels are height, width, in, out; of a depthwise convolution height, width, channels, 1.
_KERNEL, _BIAS = Leaf(".weight", "/kernel", (3, 2, 0, 1)), Leaf(".bias", "/bias")
LEAVES: Leaves = MappingProxyType[Kind, tuple[Leaf, ...]](
    {
        "conv": (_KERNEL,),
        "depthwise": (Leaf(".weight", "/depthwise_kernel", (2, 3, 0, 1)),),
        "norm": (
            Leaf(".weight", "/gamma"),
            Leaf(".bias", "/beta"),
            Leaf(".running_mean", "/moving_mean"),
            Leaf(".running_var", "/moving_variance"),
        ),
        "squeeze": (_KERNEL, _BIAS),
        "dense": (Leaf(".weight", "/kernel", (1, 0)), _BIAS),
    }
)


def _modules(network: Network) -> Iterator[Module]:
    """`stem/conv2d`, `blocks_0/depthwise_conv2d`, `head/dense`; blocks are counted over the whole network."""
    yield from conv_norm("stem", "stem/conv2d", "stem/tpu_batch_normalization")
    for at in positions(network):
        yield from _block(network, at)
    if not network.head.channels:
        raise unsupported(_LIBRARY, network, "network without a head convolution")
    yield from conv_norm("head", "head/conv2d", "head/tpu_batch_normalization")
    if network.num_classes:
        yield Module("classifier", "head/dense", "dense")


def _block(network: Network, at: Position) -> Iterator[Module]:
    """TensorFlow numbers the layers of a scope in order of creation, so the names depend on the expansion."""
    ours, theirs = at.ours, f"blocks_{at.index}"
    if not isinstance(at.block, MBConv):
        raise unsupported(_LIBRARY, network, type(at.block).__name__)
    convs = iter([f"{theirs}/conv2d", f"{theirs}/conv2d_1"])
    norms = iter([f"{theirs}/tpu_batch_normalization{number}" for number in ("", "_1", "_2")])
    if at.block.expansion > 1:
        yield from conv_norm(f"{ours}.expand", next(convs), next(norms))
    yield from conv_norm(f"{ours}.depthwise", f"{theirs}/depthwise_conv2d", next(norms), "depthwise")
    if at.block.se > 0:
        yield from squeeze_excite(f"{ours}.se", f"{theirs}/se/conv2d", f"{theirs}/se/conv2d_1")
    yield from conv_norm(f"{ours}.project", next(convs), next(norms))


LAYOUT = Layout("tensorflow", _LIBRARY, AUTHORS, _modules, LEAVES)
