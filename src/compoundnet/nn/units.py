"""The units of blocks: convolution with norm and activation, squeeze-excitation, stochastic depth."""

from __future__ import annotations

import math

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from compoundnet.arch.layers import same_padding
from compoundnet.nn.small_maps import convolve_small, is_slow_to_train

Sides = tuple[int, ...]  # height and width


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, activation (omitted if `act` is None).

    TensorFlow padding (`same`) is computed from the current input, so any size works (`convolve_same`).

    In eval mode with gradients off the norm is folded into the convolution's weight on the fly: equal up to
    rounding, with one pass less over the feature map and half the memory. A hook on `conv` or `norm` disables this, and
    so does a `conv` of another class, which may compute its weight; but TensorFlow padding uses the stored weight.
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
        self.pad_same = same and stride > 1 and kernel > 1  # at stride 1, and for a 1x1 kernel, both paddings are equal

    def forward(self, x: Tensor) -> Tensor:
        if self._foldable(x):
            x = self._convolve(x, *folded(self.conv, self.norm))  # type: ignore[arg-type]  # a BatchNorm2d: foldable
        else:
            x = self.norm(self._convolve_apart(x))
        return x if self.act is None else self.act(x)

    def _convolve_apart(self, x: Tensor) -> Tensor:
        """The convolution with its own weight, which the norm is not folded into."""
        if self.pad_same:
            return self._convolve(x, self.conv.weight, self.conv.bias)
        plain = self.conv.bias is None and not _is_hooked(self.conv) and not is_tracing()
        if plain and is_slow_to_train(self.conv, x):
            return convolve_small(self.conv, x)
        found: Tensor = self.conv(x)
        return found

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        conv = self.conv
        if self.pad_same:
            return convolve_same(x, weight, bias, conv.kernel_size, conv.stride, conv.dilation, conv.groups)
        return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)

    def _foldable(self, x: Tensor) -> bool:
        return (
            type(self.norm) is nn.BatchNorm2d
            and type(self.conv) is nn.Conv2d
            and not self.norm.training
            and may_overwrite(x)
            and not torch.compiler.is_compiling()
            and not _is_hooked(self.conv)
            and not _is_hooked(self.norm)
        )

    def fuse(self) -> None:
        """Fold the norm into the convolution permanently (in place), if both are torch's own."""
        if type(self.norm) is nn.BatchNorm2d and type(self.conv) is nn.Conv2d:
            weight, bias = folded(self.conv, self.norm)
            self.conv.weight = nn.Parameter(weight.detach())
            self.conv.bias = nn.Parameter(bias.detach())
            self.norm = nn.Identity()


def _is_hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the convolution equivalent to `conv` followed by `norm` in eval mode."""
    assert norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return conv.weight * scale[:, None, None, None], torch.addcmul(norm.bias, norm.running_mean, scale, value=-1)


@torch.fx.wrap  # one node of a torch.fx graph: the paddings depend on the size of the input
def convolve_same(
    x: Tensor, weight: Tensor, bias: Tensor | None, kernel: Sides, stride: Sides, dilation: Sides, groups: int
) -> Tensor:
    """Convolve with TensorFlow's SAME padding, float[N, C, H, W] to float[N, out, ceil(H / stride), ceil(W / stride)].

    The convolution itself adds even padding; the input is copied only for uneven padding. If a graph for any size is
    recorded (torch.export with dynamic sizes, torch.jit.trace), the input is always copied, because the kind of padding
    is then unknown.
    """
    height, width = x.shape[-2], x.shape[-1]
    top, bottom = same_padding(height, dilation[0] * (kernel[0] - 1) + 1, stride[0])
    left, right = same_padding(width, dilation[1] * (kernel[1] - 1) + 1, stride[1])
    if isinstance(height, int) and isinstance(width, int) and top == bottom and left == right:
        return F.conv2d(x, weight, bias, stride, (top, left), dilation, groups)
    return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, stride, 0, dilation, groups)


def may_overwrite(x: Tensor) -> bool:
    """Return whether a new tensor may be overwritten: gradients are off, and no permanent graph is being recorded.

    Graphs recorded by torch.jit.trace and torch.fx may later run with gradients on.
    """
    return not (torch.is_grad_enabled() or is_tracing() or isinstance(x, torch.fx.Proxy))


def is_tracing() -> bool:
    """Return whether torch.jit.trace is recording: sizes are then tensors, which Python must not compare."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return tracing


class Activation(nn.Module):
    """SiLU, ReLU or ReLU6; works in place if autograd permits it.

    ReLU needs only its output for backward. SiLU and torch's ReLU6 need their input, so they work in place only with
    gradients off.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        if self.name == "relu":
            return F.relu(x, inplace=True)
        inplace = may_overwrite(x)
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
        return x.mul_(gate) if may_overwrite(x) else x * gate


class StochasticDepth(nn.Module):
    """Drops the branch of a block for single images in training (Huang et al. 2016); others are divided by
    `survival`."""

    def __init__(self, survival: float) -> None:
        super().__init__()
        self.survival = survival

    def forward(self, x: Tensor) -> Tensor:
        return drop_branch(x, self.survival, self.training)

    def extra_repr(self) -> str:
        return f"survival={self.survival:.4g}"


@torch.fx.wrap  # one node of a torch.fx graph, in training and eval mode
def drop_branch(x: Tensor, survival: float, training: bool) -> Tensor:
    """Return a branch float[N, C, H, W] with some of its images set to 0, the others divided by `survival`."""
    if not training or survival == 1:
        return x
    keep = x.new_empty((x.shape[0], 1, 1, 1)).bernoulli_(survival)
    return x * keep.div_(survival)


def add(x: Tensor, shortcut: Tensor) -> Tensor:
    """Return x + shortcut; in place in x if autograd does not need x, which all callers have just created."""
    return x.add_(shortcut) if may_overwrite(x) else x + shortcut


def initialise(module: nn.Module) -> None:
    """Give every layer below `module` the authors' initial weights.

    As in efficientnet_model.py: conv_kernel_initializer, dense_kernel_initializer. Weights on the meta device hold no
    numbers, and are left as they are: to draw them there, torch would import its compiler, which takes seconds.
    """
    if any(weights.is_meta for weights in module.parameters()):
        return
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            # N(0, sqrt(2 / fan_out)); a depthwise kernel has one output per group, so its fan_out is kernel^2.
            fan_out = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / fan_out))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
        else:
            initialise_classifier(layer)


def initialise_classifier(layer: nn.Module) -> None:
    """Give a classifier weights of U(-1/sqrt(classes), 1/sqrt(classes)) and bias 0; leave other layers unchanged."""
    if isinstance(layer, nn.Linear):
        bound = 1.0 / math.sqrt(layer.out_features)
        nn.init.uniform_(layer.weight, -bound, bound)
        nn.init.zeros_(layer.bias)
