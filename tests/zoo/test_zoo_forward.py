"""Every comparison network runs on a small image, from fresh weights."""

from __future__ import annotations

import pytest
import torch

from compoundnet import zoo

# Small inputs that each architecture still has a pixel for at its end.
SIDES = {
    "densenet-169": 64,
    "densenet-264": 64,
    "inception-v3": 96,
    "xception": 96,
    "inception-v4": 96,
    "inception-resnet-v2": 96,
    "resnext-101": 64,
    "polynet": 75,
    "senet-154": 64,
    "nasnet-a": 96,
    "amoebanet-a": 64,
    "pnasnet-5": 96,
    "amoebanet-c": 64,
}

SLOW = ("resnext-101", "senet-154")


def forward(name: str, side: int) -> None:
    torch.manual_seed(0)
    model = zoo.network(name).build().eval()
    with torch.inference_mode():
        logits = model(torch.randn(1, 3, side, side))
    assert logits.shape == (1, 1000)
    assert logits.isfinite().all()
    assert 1e-4 < float(logits.std()) < 1e3


def test_every_network_is_tried() -> None:
    assert {*SIDES, "amoebanet-b"} == set(zoo.entries())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in SIDES]
)
def test_logits_of_one_image(name: str) -> None:
    forward(name, SIDES[name])


@pytest.mark.slow  # 557M parameters: 2.2 GB
def test_logits_of_one_image_from_gpipes_network() -> None:
    forward("amoebanet-b", 480)


@pytest.mark.parametrize(
    "name",
    ["densenet-264", "xception", *(pytest.param(name, marks=pytest.mark.slow) for name in ("polynet", "amoebanet-a"))],
)
def test_classes_other_than_imagenets(name: str) -> None:
    with torch.device("meta"):
        model = zoo.network(name).build(num_classes=7).eval()
        assert model(torch.empty(2, 3, 96, 96)).shape == (2, 7)
