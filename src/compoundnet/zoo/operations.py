"""The operations of AmoebaNet's cells as torch modules, with TensorFlow's SAME padding at any input size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compoundnet.arch import Norm
from compoundnet.arch.layers import same_padding
from compoundnet.nn.units import convolve_same
from compoundnet.zoo.genotype import Operation

Pair = tuple[int, int]


class SameConv2d(nn.Conv2d):
    """A convolution without bias; output side ceil(input side / stride), and uneven padding adds its odd pixel at the
    end."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Pair = (1, 1),
        stride: Pair = (1, 1),
        *,
        groups: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, dilation=dilation, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return convolve_same(x, self.weight, None, self.kernel_size, self.stride, self.dilation, self.groups)


class SamePool2d(nn.Module):
    """A max or average pool over `kernel` x `kernel` pixels; the average counts only pixels inside the image."""

    def __init__(self, kind: str, kernel: int, stride: int) -> None:
        super().__init__()
        self.kind, self.kernel, self.stride = kind, kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel % 2 == 0:
            # Padded by one at the end for every stride: if a stride needs no padding, its windows do not reach it.
            return F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), self.kernel, self.stride)
        # ceil_mode adds the missing pixel at the end, and neither pool counts pixels outside the image.
        padding = tuple(same_padding(side, self.kernel, self.stride)[0] for side in x.shape[-2:])
        if self.kind == "max":
            return F.max_pool2d(x, self.kernel, self.stride, padding, ceil_mode=True)
        return F.avg_pool2d(x, self.kernel, self.stride, padding, ceil_mode=True, count_include_pad=False)

    def extra_repr(self) -> str:
        return f"{self.kind}, kernel_size={self.kernel}, stride={self.stride}"


class FactorisedReduction(nn.Module):
    """Halves the resolution without losing odd pixels: two 1x1 convolutions, the second shifted by one pixel."""

    def __init__(self, in_channels: int, out_channels: int, norm: Norm) -> None:
        super().__init__()
        self.even = nn.Conv2d(in_channels, out_channels // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(in_channels, out_channels - out_channels // 2, 1, stride=2, bias=False)
        self.norm = batch_norm(out_channels, norm)

    def forward(self, x: Tensor) -> Tensor:
        halved: Tensor = self.norm(torch.cat([self.even(x), self.odd(F.pad(x, (-1, 1, -1, 1)))], dim=1))
        return halved


def batch_norm(channels: int, norm: Norm) -> nn.BatchNorm2d:
    """Return a batch norm with these values."""
    return nn.BatchNorm2d(channels, eps=norm.eps, momentum=norm.momentum)


def conv(
    in_channels: int, out_channels: int, norm: Norm, kernel: Pair = (1, 1), stride: Pair = (1, 1)
) -> nn.Sequential:
    """Return ReLU, convolution and batch norm, the order of every convolution in a cell."""
    return nn.Sequential(
        nn.ReLU(), SameConv2d(in_channels, out_channels, kernel, stride), batch_norm(out_channels, norm)
    )


def separable(
    in_channels: int, out_channels: int, norm: Norm, kernel: int, stride: int, dilation: int = 1
) -> nn.Module:
    """Return two times ReLU, depthwise and pointwise convolution, batch norm; the first depthwise one has the
    stride."""
    layers: list[nn.Module] = []
    for channels, step in ((in_channels, stride), (out_channels, 1)):
        layers += [
            nn.ReLU(),
            SameConv2d(channels, channels, (kernel, kernel), (step, step), groups=channels, dilation=dilation),
            SameConv2d(channels, out_channels),
            batch_norm(out_channels, norm),
        ]
    return nn.Sequential(*layers)


def operation(op: Operation, in_channels: int, out_channels: int, stride: int, norm: Norm) -> nn.Module:
    """Return the module of one operation.

    It maps float[N, in_channels, H, W] to float[N, out_channels, ceil(H / stride), ceil(W / stride)].
    """
    narrow = out_channels // 4  # the bottleneck of the wide convolutions
    match op:
        case "identity":
            if stride == 1 and in_channels == out_channels:
                return nn.Identity()
            return conv(in_channels, out_channels, norm, stride=(stride, stride))
        case "conv-1x1":
            return conv(in_channels, out_channels, norm, stride=(stride, stride))
        case "conv-3x3":
            return nn.Sequential(
                *conv(in_channels, narrow, norm),
                *conv(narrow, narrow, norm, (3, 3), (stride, stride)),
                *conv(narrow, out_channels, norm),
            )
        case "conv-1x7-7x1":
            return nn.Sequential(
                *conv(in_channels, narrow, norm),
                *conv(narrow, narrow, norm, (1, 7), (1, stride)),
                *conv(narrow, narrow, norm, (7, 1), (stride, 1)),
                *conv(narrow, out_channels, norm),
            )
        case "separable-3x3":
            return separable(in_channels, out_channels, norm, 3, stride)
        case "separable-5x5":
            return separable(in_channels, out_channels, norm, 5, stride)
        case "separable-7x7":
            return separable(in_channels, out_channels, norm, 7, stride)
        case "dilated-separable-5x5":
            return separable(in_channels, out_channels, norm, 5, stride, dilation=2)
        case "avg-pool-3x3":
            return _pool(SamePool2d("avg", 3, stride), in_channels, out_channels, norm)
        case "max-pool-3x3":
            return _pool(SamePool2d("max", 3, stride), in_channels, out_channels, norm)
        case "max-pool-2x2":
            return _pool(SamePool2d("max", 2, stride), in_channels, out_channels, norm)


def _pool(pool: SamePool2d, in_channels: int, out_channels: int, norm: Norm) -> nn.Module:
    if in_channels == out_channels:
        return pool
    return nn.Sequential(pool, SameConv2d(in_channels, out_channels), batch_norm(out_channels, norm))
