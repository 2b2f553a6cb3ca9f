"""The units blocks are made of: convolution with norm and activation, squeeze-excitation, stochastic depth."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, activation (`act` None leaves it out).

    TensorFlow padding (`same`) is computed from the input at hand, so any size works; only where it is uneven, at
    stride 2, is the input padded by a copy, bottom and right first (OFFICIAL: total // 2 before, the rest after).

    In eval mode with gradients off the norm is folded into the convolution's weight on the fly: equal up to rounding,
    one pass over the feature map less and half the memory. A hook on `conv` or `norm` turns that off.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        *,
        eps: float,
        momentum: float,
        same: bool,
        act: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(out_channels, eps=eps, momentum=momentum)
        self.act = act
        self.pad_same = same and stride > 1 and kernel > 1

    def forward(self, x: Tensor) -> Tensor:
        padding: tuple[int, int] | None = None
        if self.pad_same:
            x, padding = pad_same(x, self.conv.kernel_size[0], self.conv.stride[0])
        if self._foldable():
            weight, bias = folded(self.conv, self.norm)  # type: ignore[arg-type]  # _foldable saw a BatchNorm2d
            x = self._convolve(x, weight, bias, padding)
        else:
            x = self.conv(x) if padding is None else self._convolve(x, self.conv.weight, self.conv.bias, padding)
            x = self.norm(x)
        return x if self.act is None else self.act(x)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int] | None) -> Tensor:
        conv = self.conv
        at = conv.padding if padding is None else padding
        return F.conv2d(x, weight, bias, conv.stride, at, conv.dilation, conv.groups)

    def _foldable(self) -> bool:
        return (
            type(self.norm) is nn.BatchNorm2d
            and not self.norm.training
            and not torch.is_grad_enabled()
            and not torch.compiler.is_compiling()
            and not (self.conv._forward_hooks or self.conv._forward_pre_hooks)
            and not (self.norm._forward_hooks or self.norm._forward_pre_hooks)
        )

    def fuse(self) -> None:
        """Fold the norm into the convolution for good (in place)."""
        if isinstance(self.norm, nn.BatchNorm2d):
            weight, bias = folded(self.conv, self.norm)
            self.conv.weight = nn.Parameter(weight.detach())
            self.conv.bias = nn.Parameter(bias.detach())
            self.norm = nn.Identity()


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that does what `conv` and then `norm` in eval mode do."""
    assert norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return conv.weight * scale[:, None, None, None], torch.addcmul(norm.bias, norm.running_mean, scale, value=-1)


def pad_same(x: Tensor, kernel: int, stride: int) -> tuple[Tensor, tuple[int, int]]:
    """TensorFlow's SAME padding: (the input, copied with it where it is uneven, what is left to the conv)."""
    height = max((-(-x.shape[-2] // stride) - 1) * stride + kernel - x.shape[-2], 0)
    width = max((-(-x.shape[-1] // stride) - 1) * stride + kernel - x.shape[-1], 0)
    if height % 2 == 0 and width % 2 == 0:
        return x, (height // 2, width // 2)
    return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2)), (0, 0)


class Activation(nn.Module):
    """SiLU, ReLU or ReLU6; works in place where that costs autograd nothing.

    ReLU needs only its output for backward. SiLU and torch's ReLU6 need their input: in place with gradients off.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        if self.name == "relu":
            return F.relu(x, inplace=True)
        inplace = not torch.is_grad_enabled()
        return F.silu(x, inplace) if self.name == "silu" else F.relu6(x, inplace)

    def extra_repr(self) -> str:
        return self.name


class SqueezeExcite(nn.Module):
    """Channel attention: global mean, `squeezed` channels, back, sigmoid, product (Hu et al. 2018)."""

    def __init__(self, channels: int, squeezed: int, activation: str) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = Activation(activation)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.expand(self.act(self.reduce(x.mean((2, 3), keepdim=True)))).sigmoid()
        return x * gate if torch.is_grad_enabled() else x.mul_(gate)


class StochasticDepth(nn.Module):
    """Drops a block's branch, image by image, in training (Huang et al. 2016); kept ones are divided by `survival`."""

    def __init__(self, survival: float) -> None:
        super().__init__()
        self.survival = survival

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.survival == 1:
            return x
        keep = x.new_empty((x.shape[0], 1, 1, 1)).bernoulli_(self.survival)
        return x * keep.div_(self.survival)

    def extra_repr(self) -> str:
        return f"survival={self.survival:.4g}"


def add(x: Tensor, shortcut: Tensor) -> Tensor:
    """x + shortcut; into x's own memory where autograd is not looking. Both callers' x is a fresh tensor."""
    return x + shortcut if torch.is_grad_enabled() else x.add_(shortcut)
