"""What the layouts' parity tests share: random weights and statistics, and the comparison there and back again."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from compoundnet.arch import Network
from compoundnet.models.layouts import Layout, from_layout, to_layout
from compoundnet.nn import build

TOLERANCE = 1e-9  # of the largest logit. float64 throughout, so that nothing but rounding hides below it


@torch.no_grad()
def randomise(model: nn.Module, seed: int, gain: float) -> None:
    """Random weights and batch norm statistics.

    gain  variance of a convolution's output over that of its input. Where the signal grows from block to block, so
          does rounding: 1.5 neither loses EfficientNet-B0's images nor amplifies EfficientNet-B7's noise
    """
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            assert module.num_batches_tracked is not None
            module.weight.uniform_(0.6, 1.4)
            module.bias.normal_(0, 0.3)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
            module.num_batches_tracked.fill_(seed)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.normal_(0, math.sqrt(gain / module.weight[0].numel()))
            if module.bias is not None:
                module.bias.normal_(0, 0.3)


def check_parity(
    theirs: nn.Module,
    network: Network,
    layout: Layout,
    *,
    height: int = 75,
    width: int = 64,
    logits: str = "",
    gain: float = 1.5,
) -> Network:
    """Their weights in our network and our weights in theirs give equal logits; returns the network as converted.

    logits  the attribute of their output that holds them, where it is not the output itself
    """
    theirs = theirs.double().eval()
    stem = next(module for module in theirs.modules() if isinstance(module, nn.Conv2d))
    seeded = torch.Generator().manual_seed(0)
    images = torch.randn(2, stem.in_channels, height, width, dtype=torch.float64, generator=seeded)
    randomise(theirs, seed=1, gain=gain)
    converted, state = from_layout(theirs.state_dict(), network, layout)
    ours = build(converted).double().eval()
    ours.load_state_dict(state, strict=True)
    _check_equal(theirs, ours, images, logits)

    randomise(ours, seed=2, gain=gain)
    theirs.load_state_dict(to_layout(ours.state_dict(), converted, layout), strict=True)
    _check_equal(theirs, ours, images, logits)
    return converted


@torch.no_grad()
def _check_equal(theirs: Any, ours: nn.Module, images: Tensor, logits: str) -> None:
    expected = theirs(images)
    expected = getattr(expected, logits) if logits else expected
    largest, apart = expected.abs().max(), (expected[0] - expected[1]).abs().max()
    assert apart > 1e-3 * largest, "the images must matter, or equality says nothing"
    difference = (ours(images) - expected).abs().max()
    assert difference <= TOLERANCE * largest, f"logits differ by {difference / largest:.1e} of the largest"
