"""efficientnet_pytorch's models and ours compute the same with each other's weights."""

from __future__ import annotations

import pytest
from efficientnet_pytorch import EfficientNet
from layout_parity import check_parity
from torch import nn

from compoundnet import arch
from compoundnet.base import CompoundNetError
from compoundnet.models.layouts import layout

LAYOUT = layout("lukemelas")
MODELS = [0, *(pytest.param(number, marks=pytest.mark.slow) for number in range(1, 8))]


@pytest.mark.parametrize("number", MODELS)
def test_models_agree_at_odd_and_even_sides(number: int) -> None:
    name = f"efficientnet-b{number}"
    # Without an image size it pads by the input at hand; with one, by that size.
    model = EfficientNet.from_name(name, image_size=None)
    converted = check_parity(model, arch.network(name), LAYOUT)
    assert converted.padding == "same"
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {converted.norm.eps} == {1e-3}


def test_other_classes_and_input_channels_come_with_the_weights() -> None:
    theirs = EfficientNet.from_name("efficientnet-b0", in_channels=1, num_classes=7, image_size=None)
    converted = check_parity(theirs, arch.network("efficientnet-b0"), LAYOUT)
    assert (converted.num_classes, converted.in_channels) == (7, 1)


@pytest.mark.parametrize("name", ["resnet-18", "mobilenet-v1"])
def test_networks_it_lacks_are_refused(name: str) -> None:
    with pytest.raises(CompoundNetError, match=f"{name} cannot be laid out as efficientnet_pytorch does"):
        LAYOUT.pairs(LAYOUT.adapt(arch.network(name)))
