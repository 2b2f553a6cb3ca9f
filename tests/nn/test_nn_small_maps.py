"""Depthwise convolution of maps smaller than the kernel: the same gradients as torch's, whatever the shapes."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compoundnet import arch
from compoundnet.nn import build, units
from compoundnet.nn.small_maps import convolve_small, is_slow_to_train

# Height, width, kernel, stride, padding.
SHAPES = [
    (2, 2, 5, 1, 2), (1, 3, 5, 1, 2), (1, 1, 3, 1, 1), (4, 9, 5, 1, 2),
    (4, 4, 5, 2, 2), (3, 4, 7, 2, 3), (2, 5, 3, 2, 1), (3, 3, 5, 3, 2),
]  # fmt: skip


def depthwise(kernel: int, stride: int, padding: int, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(8, 8, kernel, stride, padding, dilation, groups=8, bias=False)


def noise(height: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 8, height, width, generator=generator, dtype=dtype).requires_grad_()


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("height", "width", "kernel", "stride", "padding"), SHAPES)
def test_gradients_are_those_of_torch(
    height: int, width: int, kernel: int, stride: int, padding: int, order: torch.memory_format
) -> None:
    conv = depthwise(kernel, stride, padding).double()
    x = noise(height, width, torch.float64)
    laid = x.contiguous(memory_format=order)
    ours, theirs = convolve_small(conv, laid), F.conv2d(laid, conv.weight, None, stride, padding, groups=8)
    assert torch.equal(ours, theirs)
    grad = torch.randn_like(ours)
    for found, expected in zip(
        torch.autograd.grad(ours, (x, conv.weight), grad), torch.autograd.grad(theirs, (x, conv.weight), grad),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(found, expected)


def test_gradients_have_gradients() -> None:
    conv = depthwise(5, 1, 2).double()

    def convolve(x: Tensor) -> Tensor:
        return convolve_small(conv, x)

    assert torch.autograd.gradgradcheck(convolve, (noise(2, 3, torch.float64),))


def test_only_the_gradient_that_is_asked_for() -> None:
    conv = depthwise(5, 1, 2)
    convolve_small(conv, noise(2, 2).detach()).sum().backward()
    assert conv.weight.grad is not None
    conv.weight.requires_grad_(False)
    x = noise(2, 2)
    convolve_small(conv, x).sum().backward()
    assert x.grad is not None


def test_gradients_of_each_image() -> None:
    conv, x = depthwise(5, 1, 2), noise(2, 2).detach()

    def loss(weight: Tensor, image: Tensor) -> Tensor:
        found = torch.func.functional_call(_Convolve(conv), {"conv.weight": weight}, (image[None],))
        return torch.sin(found).sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(conv.weight, x)
    for image, found in zip(x, each, strict=True):
        (expected,) = torch.autograd.grad(torch.sin(conv(image[None])).sum(), conv.weight)
        torch.testing.assert_close(found, expected)


class _Convolve(nn.Module):
    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return convolve_small(self.conv, x)


def test_where_it_is_used() -> None:
    conv, small = depthwise(5, 1, 2), noise(4, 8).detach()
    assert is_slow_to_train(conv, small)
    assert not is_slow_to_train(conv, noise(5, 5))
    assert not is_slow_to_train(depthwise(3, 1, 1), small)
    assert not is_slow_to_train(nn.Conv2d(8, 8, 5, padding=2, bias=False), small)
    assert not is_slow_to_train(depthwise(5, 1, 4, dilation=2), small)
    assert not is_slow_to_train(conv, small.to("meta"))
    with torch.no_grad():
        assert not is_slow_to_train(conv, small)
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_slow_to_train(conv, small)
    conv.weight.requires_grad_(False)
    assert not is_slow_to_train(conv, small)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "mobilenet-v4-conv-small"])
def test_a_network_learns_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = build(arch.network(name).replace(num_classes=5)).eval()
    x = torch.randn(4, 3, 64, 64)
    used = []

    def spy(conv: nn.Conv2d, x: Tensor) -> Tensor:
        used.append(conv)
        return convolve_small(conv, x)

    monkeypatch.setattr(units, "convolve_small", spy)
    net(x).square().sum().backward()
    ours = {key: weight.grad for key, weight in net.named_parameters()}
    assert used
    net.zero_grad()
    monkeypatch.setattr(units, "is_slow_to_train", lambda *_: False)
    net(x).square().sum().backward()
    for key, weight in net.named_parameters():
        torch.testing.assert_close(ours[key], weight.grad, rtol=1e-3, atol=1e-3 * float(weight.grad.abs().max()))  # type: ignore[union-attr]


def test_a_hook_on_the_convolution_still_runs() -> None:
    net = build(arch.network("efficientnet-lite0").replace(num_classes=5)).eval()
    convolutions = [part.conv for part in net.modules() if isinstance(part, units.ConvNorm)]
    seen = []
    for conv in convolutions:
        if conv.stride == (1, 1):
            conv.register_forward_hook(lambda *_: seen.append(1))
    net(torch.randn(1, 3, 32, 32)).sum().backward()
    assert len(seen) == sum(conv.stride == (1, 1) for conv in convolutions)
