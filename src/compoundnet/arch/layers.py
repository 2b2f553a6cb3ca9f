"""Primitive layers, and the recorder of a block's layers; also TensorFlow's SAME padding, in integers.

`compoundnet.nn` builds the same layers under the same names; a property test holds the two together.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["conv", "linear", "norm", "activation", "gate", "multiply", "add", "maxpool", "mean", "globalmax"]


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return TensorFlow's SAME padding along one axis, for an output of ceil(size / stride).

    The total is max((ceil(size / stride) - 1) * stride + kernel - size, 0), of which half, rounded down, is added
    before. A strided convolution of an even input therefore pads one more pixel at the bottom and at the right
    (tensorflow/python/ops/nn_ops.py, "Notes on padding"). `symmetric` padding is (kernel // 2, kernel // 2).

    Args:
        size: Pixels of the input along the axis.
        kernel: Pixels that the kernel spans; a dilated one spans dilation * (kernel - 1) + 1.
        stride: Pixels between two windows.

    Returns:
        Pixels to add before and after.
    """
    total = (-(-size // stride) - 1) * stride + kernel - size
    # The total can be negative only if the stride exceeds the kernel. Testing that first avoids a comparison of a size
    # that is only a symbol in torch, so that an exported graph accepts any size.
    if kernel < stride:
        total = max(total, 0)
    return total // 2, total - total // 2


class Layer(NamedTuple):
    """One primitive operation.

    Sizes are sides in pixels. `inputs` are indices of its input layers; -1 is the image.
    """

    name: str
    kind: Kind
    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    groups: int
    bias: bool
    in_size: int
    out_size: int
    inputs: tuple[int, ...]

    @property
    def params(self) -> int:
        """Trainable parameters: weights, biases, batch norm's scale and shift."""
        if self.kind in ("conv", "linear"):
            weights = self.out_channels * (self.in_channels // self.groups) * self.kernel**2
            return weights + (self.out_channels if self.bias else 0)
        return 2 * self.out_channels if self.kind == "norm" else 0

    @property
    def macs(self) -> int:
        """Multiply-adds for one image; only convolutions and fully connected layers have any (the paper's FLOPS)."""
        if self.kind not in ("conv", "linear"):
            return 0
        return self.out_size**2 * self.out_channels * (self.in_channels // self.groups) * self.kernel**2

    @property
    def outputs(self) -> int:
        """Elements of the output for one image."""
        return self.out_channels * self.out_size**2


class Group:
    """The layers of a stem, a block or a head, with names and indices relative to it; -1 is the group's input.

    Equal groups are one object (`compoundnet.arch.segments` caches them), so figures derived from one can be cached
    by object identity.
    """

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = tuple(layers)
        self.params = sum(layer.params for layer in layers)
        self.macs = sum(layer.macs for layer in layers)
        self.activations = sum(layer.outputs for layer in layers if layer.kind in ("conv", "linear"))


class Trace:
    """Records layers in execution order.

    Each method adds the layers in its name, and returns the index of the last one, which is the input of the next
    layers. The index -1 is the input of the block.
    """

    def __init__(self, channels: int, size: int) -> None:
        self.layers: list[Layer] = []
        self._shapes: dict[int, tuple[int, int]] = {-1: (channels, size)}

    def conv_norm(
        self,
        name: str,
        source: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
    ) -> int:
        """Add a convolution without bias, batch norm, and the network's activation."""
        index = self._add(f"{name}.conv", "conv", (source,), out_channels, kernel, stride, groups)
        index = self._add(f"{name}.norm", "norm", (index,))
        return self.activation(f"{name}.act", index) if activation else index

    def squeeze_excite(self, name: str, source: int, squeezed: int) -> int:
        """Add a global mean, two 1x1 convolutions with bias, sigmoid and product; nothing if `squeezed` is 0."""
        if squeezed == 0:
            return source
        channels, _ = self._shapes[source]
        index = self.mean(f"{name}.mean", source)
        index = self._add(f"{name}.reduce", "conv", (index,), squeezed, bias=True)
        index = self.activation(f"{name}.act", index)
        index = self._add(f"{name}.expand", "conv", (index,), channels, bias=True)
        index = self._add(f"{name}.gate", "gate", (index,))
        return self._add(f"{name}.scale", "multiply", (source, index))

    def activation(self, name: str, source: int) -> int:
        return self._add(name, "activation", (source,))

    def add(self, name: str, source: int, shortcut: int) -> int:
        return self._add(name, "add", (source, shortcut))

    def maxpool(self, name: str, source: int, kernel: int, stride: int) -> int:
        return self._add(name, "maxpool", (source,), kernel=kernel, stride=stride)

    def mean(self, name: str, source: int) -> int:
        return self._add(name, "mean", (source,), out_size=1)

    def globalmax(self, name: str, source: int) -> int:
        return self._add(name, "globalmax", (source,), out_size=1)

    def linear(self, name: str, source: int, out_channels: int) -> int:
        return self._add(name, "linear", (source,), out_channels, bias=True)

    def _add(
        self,
        name: str,
        kind: Kind,
        inputs: tuple[int, ...],
        out_channels: int | None = None,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        out_size: int | None = None,
    ) -> int:
        channels, size = self._shapes[inputs[0]]
        out_channels = channels if out_channels is None else out_channels
        out_size = -(-size // stride) if out_size is None else out_size  # odd kernels: both paddings give the ceiling
        index = len(self.layers)
        self.layers.append(
            Layer(name, kind, channels, out_channels, kernel, stride, groups, bias, size, out_size, inputs)
        )
        self._shapes[index] = (out_channels, out_size)
        return index
