"""torchvision's models and ours compute the same with each other's weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from layout_parity import check_parity
from torch import nn

from compoundnet import arch
from compoundnet.base import CompoundNetError
from compoundnet.models.foreign import read_foreign
from compoundnet.models.layouts import layout

slow = pytest.mark.slow

MODELS = [
    ("efficientnet-b0", "efficientnet_b0"),
    ("mobilenet-v2", "mobilenet_v2"),
    ("mnasnet-b1", "mnasnet1_0"),
    ("resnet-18", "resnet18"),
    ("resnext-50-32x4d", "resnext50_32x4d"),
    # From B5 on with the authors' eps and momentum.
    *(pytest.param(f"efficientnet-b{number}", f"efficientnet_b{number}", marks=slow) for number in range(1, 8)),
    *(pytest.param(f"resnet-{depth}", f"resnet{depth}", marks=slow) for depth in (34, 50, 101, 152)),
    *(pytest.param(f"efficientnetv2-{name}", f"efficientnet_v2_{name}", marks=slow) for name in "sml"),
    pytest.param("wide-resnet-50-2", "wide_resnet50_2", marks=slow),
    pytest.param("resnext-101-64x4d", "resnext101_64x4d", marks=slow),
]


@pytest.mark.parametrize(("name", "theirs"), MODELS)
def test_models_agree_and_their_norm_comes_with_the_weights(name: str, theirs: str) -> None:
    model = torchvision.models.get_model(theirs)
    # The signal of a long network with large residuals grows, and rounding with it.
    gain = 1.0 if name.startswith("efficientnetv2") else 1.5
    converted = check_parity(model, arch.network(name), layout("torchvision"), gain=gain)
    assert converted.padding == "symmetric"
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(converted.norm.eps, converted.norm.momentum)}


def test_a_renamed_b5_keeps_its_eps() -> None:
    b5 = arch.scale(arch.network("efficientnet-b0"), depth=2.2, width=1.6, resolution=456, name="mine")
    assert layout("torchvision").adapt(b5).norm.eps == 1e-3


@pytest.mark.parametrize(
    "theirs", ["mnasnet0_5", *(pytest.param(f"mnasnet{one}", marks=slow) for one in ("0_75", "1_3"))]
)
def test_mnasnets_of_other_widths_are_read(theirs: str, tmp_path: Path) -> None:
    """Their names do not say how many blocks a stage has; the message said that torchvision has no such network."""
    model = torchvision.models.get_model(theirs, num_classes=5)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    found = read_foreign(tmp_path / "weights.pt")
    assert (found.layout, found.network.num_classes) == ("torchvision", 5)
    check_parity(model, found.network, layout("torchvision"))


def test_other_classes_come_with_the_weights() -> None:
    theirs = torchvision.models.efficientnet_b0(num_classes=7)
    assert check_parity(theirs, arch.network("efficientnet-b0"), layout("torchvision")).num_classes == 7


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-edgetpu-s", "mnasnet-a1", "mobilenet-v1"])
def test_networks_that_torchvision_lacks_are_refused(name: str) -> None:
    network = layout("torchvision").adapt(arch.network(name))
    with pytest.raises(CompoundNetError, match=f"{name} cannot be laid out as torchvision does"):
        layout("torchvision").pairs(network)
