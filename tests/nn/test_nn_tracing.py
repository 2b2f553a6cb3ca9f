"""Graphs that torch records of a network: torch.fx and torchvision's feature extraction, torch.jit, torch.export."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.export import Dim
from torchvision.models.feature_extraction import create_feature_extractor

import compoundnet as cn
from compoundnet import arch
from compoundnet.base import CompoundNetError

SMALL = arch.scale(arch.network("efficientnet-b0"), width=0.25, depth=0.5, resolution=64).replace(num_classes=7)
# Even, odd and mixed sides: TensorFlow's padding differs with each.
SIZES = [(2, 3, 64, 96), (1, 3, 75, 131), (3, 3, 33, 64)]


@pytest.fixture(scope="module")
def net() -> cn.nn.ConvNet:
    torch.manual_seed(0)
    return cn.build(SMALL).eval()


def images() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(*size) for size in SIZES]


def test_torchvision_extracts_the_pyramids_maps(net: cn.nn.ConvNet) -> None:
    names = net.feature_info.module_name()
    extract = create_feature_extractor(net, {name: name for name in names})
    pyramid = cn.build(SMALL, features_only=True).eval()
    pyramid.load_state_dict(net.state_dict(), strict=False)
    for image in images():
        for found, expected in zip(extract(image).values(), pyramid(image), strict=True):
            assert torch.equal(found, expected)
    with pytest.raises(CompoundNetError, match=r"float\[N, 3, H, W\], got shape \[1, 4, 64, 64\]"):
        extract(torch.zeros(1, 4, 64, 64))


def test_a_graph_recorded_without_gradients_trains() -> None:
    net = cn.build(SMALL)
    with torch.no_grad():
        graph = torch.fx.symbolic_trace(net)
    graph(torch.randn(4, 3, 64, 64)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning")
@pytest.mark.parametrize("gradients", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_trace_is_checked_and_runs_at_any_size(net: cn.nn.ConvNet, gradients: bool) -> None:
    with torch.set_grad_enabled(gradients):
        traced = torch.jit.trace(net, torch.randn(2, 3, 75, 96))
        for image in images():
            torch.testing.assert_close(traced(image), net(image), rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_an_exported_graph_has_dynamic_batch_height_and_width(net: cn.nn.ConvNet) -> None:
    # torch.export keeps sizes of 1 apart, so the least side is the one whose last map is 2 px wide.
    dynamic = {0: Dim("batch"), 2: Dim("height", min=33), 3: Dim("width", min=33)}
    exported = torch.export.export(net, (torch.randn(2, 3, 128, 128),), dynamic_shapes=(dynamic,)).module()
    for image in images():
        torch.testing.assert_close(exported(image), net(image), rtol=1e-5, atol=1e-7)
