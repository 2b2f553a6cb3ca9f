"""Hugging Face transformers: EfficientNetForImageClassification, and its body EfficientNetModel.

Its padding depends on the configuration, not on the input: bottom and right only, but symmetric in the blocks listed in
`depthwise_padding`. At the resolution of the configuration, which must be even, this equals TensorFlow's SAME padding.
"""

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

_BODY = "efficientnet"


def _modules(network: Network) -> Iterator[Module]:
    body = _BODY
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


# Its configuration passes TensorFlow's momentum of 0.99 to torch, where the same momentum is 0.01, as in training.
LAYOUT = Layout(
    "transformers", "transformers", conventions("same", Norm(eps=1e-3, momentum=0.01)), _modules, body=f"{_BODY}."
)
