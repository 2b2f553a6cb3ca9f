"""transformers' networks for image classification and ours compute the same with each other's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from layout_parity import check_parity, randomise
from torch import nn
from transformers import (
    EfficientNetConfig,
    EfficientNetForImageClassification,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
)

from compoundnet import arch
from compoundnet.arch import Network
from compoundnet.base import CompoundNetError
from compoundnet.models.foreign import read_foreign
from compoundnet.models.layouts import layout
from compoundnet.nn import build

slow = pytest.mark.slow

LAYOUT = layout("transformers")
MODELS = [0, *(pytest.param(number, marks=slow) for number in range(1, 8))]


def their_model(network: Network, size: int) -> nn.Module:
    """Its model of a network for square images of `size` px, as its published configurations have it."""
    scaling = network.scaling or arch.Scaling(network.name)
    inputs = [
        layer.in_size for layer in arch.unroll(network.replace(resolution=size)) if ".depthwise.conv" in layer.name
    ]
    config = EfficientNetConfig(
        num_channels=network.in_channels,
        num_labels=network.num_classes,
        width_coefficient=scaling.width,
        depth_coefficient=scaling.depth,
        hidden_dim=network.features,
        depthwise_padding=[index for index, side in enumerate(inputs) if side % 2 == 1],
    )
    model: nn.Module = EfficientNetForImageClassification(config)
    return model


@pytest.mark.parametrize("size", [64, 76])
@pytest.mark.parametrize("number", MODELS)
def test_models_agree_at_the_size_they_are_made_for(number: int, size: int) -> None:
    network = arch.network(f"efficientnet-b{number}")
    model = their_model(network, size)
    converted = check_parity(model, network, LAYOUT, height=size, width=size, logits="logits")
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {converted.norm.eps} == {1e-3}


def test_other_classes_and_input_channels_come_with_the_weights() -> None:
    network = arch.network("efficientnet-b0")
    model = their_model(network.replace(num_classes=7, in_channels=1), 64)
    converted = check_parity(model, network, LAYOUT, height=64, width=64, logits="logits")
    assert (converted.num_classes, converted.in_channels) == (7, 1)


@pytest.mark.parametrize("prefix", ["", pytest.param("backbone.", marks=slow), "model.encoder_model."])
def test_its_model_without_a_classifier_is_recognised(prefix: str, tmp_path: Path) -> None:
    network = arch.network("efficientnet-b0")
    theirs = cast(Any, their_model(network, 64)).efficientnet.double().eval()
    randomise(theirs, seed=1, gain=1.5)
    state = {prefix + name: tensor for name, tensor in theirs.state_dict().items()}
    torch.save(state, tmp_path / "body.pt")
    found = read_foreign(tmp_path / "body.pt")
    assert (found.layout, found.network.name, found.network.num_classes) == ("transformers", "efficientnet-b0", 0)
    assert any("put efficientnet. before the names" in note for note in found.notes)
    ours = build(found.network).double().eval()
    ours.load_state_dict(found.state)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images).pooler_output, rtol=1e-9, atol=1e-9)


def test_a_classifier_of_ones_own_on_its_model_is_found(tmp_path: Path) -> None:
    body = cast(Any, their_model(arch.network("efficientnet-b0"), 64)).efficientnet
    head = nn.Linear(1280, 5)
    state = {f"backbone.{name}": tensor for name, tensor in body.state_dict().items()}
    torch.save(state | {f"head.{name}": tensor for name, tensor in head.state_dict().items()}, tmp_path / "own.pt")
    found = read_foreign(tmp_path / "own.pt")
    assert found.network.num_classes == 5
    assert torch.equal(found.state["classifier.weight"], head.weight)


def their_resnet(name: str) -> Any:
    small = name in ("resnet-18", "resnet-34")
    config = ResNetConfig(
        num_labels=7,
        depths=[stage.repeats for stage in arch.network(name).stages],
        layer_type="basic" if small else "bottleneck",
        hidden_sizes=[64, 128, 256, 512] if small else [256, 512, 1024, 2048],
    )
    return ResNetForImageClassification(config)


@pytest.mark.parametrize("name", ["resnet-18", *(pytest.param(f"resnet-{depth}", marks=slow) for depth in (34, 50))])
def test_its_resnets_agree(name: str) -> None:
    converted = check_parity(their_resnet(name), arch.network(name), LAYOUT, logits="logits")
    assert (converted.num_classes, converted.norm.eps, converted.padding) == (7, 1e-5, "symmetric")


def test_its_resnet_without_a_classifier_is_recognised(tmp_path: Path) -> None:
    torch.save(their_resnet("resnet-18").resnet.state_dict(), tmp_path / "body.pt")
    found = read_foreign(tmp_path / "body.pt")
    assert (found.layout, found.network.name, found.network.num_classes) == ("transformers", "resnet-18", 0)


@pytest.mark.parametrize("width", [1.0, 0.35, *(pytest.param(width, marks=slow) for width in (0.75, 1.4))])
def test_its_mobilenet_v2_agrees_at_every_size_and_width(width: float, tmp_path: Path) -> None:
    """The published ones are of width 0.35, 0.75, 1 and 1.4 (google/mobilenet_v2_1.0_224)."""
    model = MobileNetV2ForImageClassification(MobileNetV2Config(num_labels=11, depth_multiplier=width))
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    found = read_foreign(tmp_path / "weights.pt")
    assert (found.layout, found.network.name) == ("transformers", "mobilenet-v2") or width != 1
    for height, side in ((64, 64), (75, 97)):
        converted = check_parity(model, found.network, LAYOUT, height=height, width=side, logits="logits")
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {converted.norm.eps}
    assert (converted.num_classes, converted.padding) == (11, "same")


def test_its_mobilenet_v2_without_a_classifier_is_recognised(tmp_path: Path) -> None:
    body = MobileNetV2ForImageClassification(MobileNetV2Config()).mobilenet_v2
    torch.save(body.state_dict(), tmp_path / "body.pt")
    found = read_foreign(tmp_path / "body.pt")
    assert (found.layout, found.network.name, found.network.num_classes) == ("transformers", "mobilenet-v2", 0)


@pytest.mark.parametrize(
    ("name", "theirs"), [("efficientnet-lite0", "EfficientNet"), ("wide-resnet-50-2", "ResNet"), ("mobilenet-v1", "E")]
)
def test_networks_it_lacks_are_refused(name: str, theirs: str) -> None:
    with pytest.raises(CompoundNetError, match=f"{name} cannot be laid out as transformers' {theirs}"):
        LAYOUT.pairs(LAYOUT.adapt(arch.network(name)))
