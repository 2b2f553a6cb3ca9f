"""PolyNet: size against the paper, and what 2-way and poly-3 modules compute."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from compoundnet import zoo
from compoundnet.zoo.polynet import PolyThree, TwoWay, design


def test_size_and_cost_are_near_the_printed_ones() -> None:
    # The network of the authors' published weights has 95.4M parameters. The printed 92M is within 1.1 % of the weights
    # of its convolutions alone, without norms and the classifier.
    with torch.device("meta"):
        model = zoo.network("polynet").build()
    convolutions = sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, nn.Conv2d))
    assert convolutions == 92_956_512
    assert convolutions == pytest.approx(92e6, rel=0.02)
    assert zoo.network("polynet").params == pytest.approx(92e6, rel=0.04)
    assert zoo.network("polynet").macs == pytest.approx(35e9, rel=0.02)


def test_modules_are_10_20_10_and_their_scale_falls_linearly() -> None:
    with torch.device("meta"):
        model = zoo.network("polynet").build()
    modules = [module for module in model.modules() if isinstance(module, TwoWay | PolyThree)]
    kinds = [type(module).__name__ for module in modules]
    assert kinds == ["TwoWay"] * 10 + ["PolyThree", "TwoWay"] * 15
    assert [module.scale for module in modules] == pytest.approx([1 - number / 130 for number in range(40)])


def test_a_2_way_module_adds_two_blocks() -> None:
    module = TwoWay(8, design().stages[0], design().norm, scale=0.5).eval()
    x = torch.randn(1, 8, 6, 6)
    first, second = module.blocks
    torch.testing.assert_close(module(x), (x + 0.5 * first(x) + 0.5 * second(x)).relu())


def test_a_poly_3_module_adds_three_powers_of_one_block() -> None:
    module = PolyThree(8, design().stages[1], design().norm, scale=0.5).eval()
    x = torch.randn(1, 8, 6, 6)
    one = module.block(x, 0)
    two = module.block(one.relu(), 1)
    three = module.block(two.relu(), 2)
    torch.testing.assert_close(module(x), (x + 0.5 * (one + two + three)).relu())
    # Its inner convolutions are there once, norms and last convolutions once an order.
    layers = [type(layer) for layer in module.modules()]
    assert layers.count(nn.Conv2d) == 4 + 3
    assert layers.count(nn.BatchNorm2d) == 3 * (4 + 1)
