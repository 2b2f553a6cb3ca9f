"""Depthwise convolution of maps that are smaller than its kernel, whose training oneDNN makes slow on a CPU.

oneDNN's fast kernel for the gradient of a depthwise weight needs a map as large as the weight; smaller ones go through
its reference code. At 64 px the last layers of EfficientNet-Lite0, 5x5 on maps of 4 and 2 px, were more than half of a
training step by that.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

Sides = tuple[int, int]  # of height and width


def is_slow_to_train(conv: nn.Conv2d, x: Tensor) -> bool:
    """Return whether the gradient of the weight of `conv` on x float[N, C, H, W] is better computed here."""
    return (
        type(x) is Tensor
        and x.device.type == "cpu"
        and x.dtype == conv.weight.dtype == torch.float32
        and conv.weight.requires_grad
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and conv.groups == conv.in_channels == conv.out_channels
        and conv.dilation == (1, 1)
        and (x.shape[2] < conv.kernel_size[0] or x.shape[3] < conv.kernel_size[1])
    )


def convolve_small(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Return `conv(x)` of a depthwise convolution without bias, with a gradient of the weight that is fast."""
    found: Tensor = _SmallMapConvolution.apply(x, conv.weight, conv.stride, conv.padding)
    return found


class _SmallMapConvolution(torch.autograd.Function):
    """Depthwise convolution of x float[N, C, H, W] with a weight float[C, 1, K, L].

    The backward pass consists of differentiable operations, so that gradients of gradients exist.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, stride: Sides, padding: Sides) -> Tensor:
        return F.conv2d(x, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Sides, Sides], _: Tensor) -> None:
        x, weight, ctx.stride, ctx.padding = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            to_x = conv2d_input(x.shape, weight, grad, ctx.stride, ctx.padding, groups=len(weight))
        if ctx.needs_input_grad[1]:
            to_weight = _weight_gradient(x, grad, weight.shape[2:], ctx.stride, ctx.padding)
        return to_x, to_weight, None, None


def _weight_gradient(x: Tensor, grad: Tensor, kernel: torch.Size, stride: Sides, padding: Sides) -> Tensor:
    """Return float[C, 1, K, L]: for each place in the kernel, the products of what it has met, summed."""
    columns = [_met(place, x.shape[3], grad.shape[3], stride[1], padding[1]) for place in range(kernel[1])]
    nothing = x.new_zeros(x.shape[1])
    found = []
    for place in range(kernel[0]):
        rows = _met(place, x.shape[2], grad.shape[2], stride[0], padding[0])
        for column in columns:
            if rows is None or column is None:
                found.append(nothing)
            else:
                found.append((x[:, :, rows[0], column[0]] * grad[:, :, rows[1], column[1]]).sum((0, 2, 3)))
    return torch.stack(found, 1).reshape(x.shape[1], 1, *kernel)


def _met(place: int, size: int, outputs: int, stride: int, padding: int) -> tuple[slice, slice] | None:
    """The rows (or columns) that a row of the kernel is multiplied with, and those of the output that the products go
    to; None if it only ever meets padding."""
    first = max(0, -(-(padding - place) // stride))
    last = min(outputs - 1, (size - 1 + padding - place) // stride)
    if first > last:
        return None
    start = first * stride + place - padding
    return slice(start, (last * stride + place - padding) + 1, stride), slice(first, last + 1)
