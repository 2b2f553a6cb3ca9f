"""keras.applications: the layers of its EfficientNet, as `LAYER/WEIGHT` (`block2a_dwconv/kernel`).

A Keras file stores the weights in one of three forms; `keras_files` maps all of them to these names.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

from compoundnet.arch import MBConv, Network
from compoundnet.models.layouts.base import (
    Kind,
    Layout,
    Leaf,
    Leaves,
    Module,
    conv_norm,
    positions,
    squeeze_excite,
    unsupported,
)
from compoundnet.models.layouts.tensorflow import AUTHORS
from compoundnet.models.layouts.tensorflow import LEAVES as _TENSORFLOW_LEAVES

_LIBRARY = "keras.applications"
_LEAVES: Leaves = MappingProxyType[Kind, tuple[Leaf, ...]](
    {**_TENSORFLOW_LEAVES, "depthwise": (Leaf(".weight", "/kernel", (2, 3, 0, 1)),)}
)


def _modules(network: Network) -> Iterator[Module]:
    """`stem_conv`, `block1a_dwconv`, `top_conv`, `predictions`: a number for each stage, a letter for each repeat."""
    if (network.stem.kernel, network.stem.stride, network.stem.pool) != (3, 2, "none"):
        raise unsupported(_LIBRARY, network, "stem other than a 3x3 convolution with stride 2")
    yield from conv_norm("stem", "stem_conv", "stem_bn")
    for at in positions(network):
        ours, theirs = at.ours, f"block{at.stage + 1}{chr(ord('a') + at.repeat)}_"
        if not isinstance(at.block, MBConv):
            raise unsupported(_LIBRARY, network, type(at.block).__name__)
        if at.block.expansion > 1:
            yield from conv_norm(f"{ours}.expand", f"{theirs}expand_conv", f"{theirs}expand_bn")
        yield from conv_norm(f"{ours}.depthwise", f"{theirs}dwconv", f"{theirs}bn", "depthwise")
        if at.block.se > 0:
            yield from squeeze_excite(f"{ours}.se", f"{theirs}se_reduce", f"{theirs}se_expand")
        yield from conv_norm(f"{ours}.project", f"{theirs}project_conv", f"{theirs}project_bn")
    if not network.head.channels:
        raise unsupported(_LIBRARY, network, "network without a head convolution")
    yield from conv_norm("head", "top_conv", "top_bn")
    if network.num_classes:
        yield Module("classifier", "predictions", "dense")


# Its ZeroPadding2D before each convolution with stride 2 equals TensorFlow's SAME padding at the size of the model, odd
# or even (imagenet_utils.correct_pad); a model built for any size pads as for even ones.
LAYOUT = Layout("keras", _LIBRARY, AUTHORS, _modules, _LEAVES)
