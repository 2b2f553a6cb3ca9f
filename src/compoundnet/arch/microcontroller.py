"""What a network takes on a microcontroller as int8: SRAM for its activations and flash for its weights.

Counted as TensorFlow Lite for Microcontrollers plans its arena: norms are folded, ReLU and ReLU6 are part of the layer
before, every other operation writes a tensor of its own, and a tensor lives from the operation that writes it to the
last one that reads it. SiLU is two operations there (LOGISTIC, MUL), so that at its end three tensors live. A depthwise
convolution does not work in place. Convolutions and pools have TensorFlow's padding alone there, so that symmetric
padding, where it is another, is a copy first (PAD), as in ResNet's strided layers. The runtime's own structures and the
code are not included. It is the head of the arena that the package tflite-micro reports for exported int8 files
(tests/runtime/test_export_microcontroller.py).
"""

from __future__ import annotations

from functools import lru_cache

from compoundnet.arch.layers import Group, Layer, same_padding
from compoundnet.arch.segments import segments
from compoundnet.arch.spec import Network

# Bytes for each output channel of a convolution or fully connected layer: its int32 bias and float32 scale.
_BIAS, _SCALE = 4, 4


def sram(network: Network) -> int:
    """Return the bytes of the int8 tensors that live at the worst operation, for one image."""
    split, symmetric = network.activation == "silu", network.padding == "symmetric"
    return max(_peak(run.group, split, symmetric) for run in segments(network))


def flash(network: Network) -> int:
    """Return the bytes of int8 weights, int32 biases and float32 scales for each output channel, norms folded."""
    return sum(run.repeats * _stored(run.group) for run in segments(network))


@lru_cache(maxsize=8192)
def _peak(group: Group, split: bool, symmetric: bool) -> int:
    """Live bytes at the worst operation of a group; `split`: the activation is two operations; `symmetric`: padding
    is."""
    first = group.layers[0]
    sizes = {-1: first.in_channels * first.in_size**2}
    held = {-1: -1}  # the tensor that holds the output of a layer: its own, or that of the layer it is folded into
    operations: list[tuple[tuple[int, ...], int]] = []  # the tensors that are read, and the one that is written
    for index, layer in enumerate(group.layers):
        inputs = tuple(held[source] for source in layer.inputs)
        folded = layer.kind == "norm" or (layer.kind == "activation" and not split)
        if folded:
            held[index] = inputs[0]
            continue
        held[index] = index
        sizes[index] = layer.outputs
        if layer.kind == "activation":
            gate = -2 - index  # the output of LOGISTIC
            sizes[gate] = layer.outputs
            operations += [(inputs, gate), ((*inputs, gate), index)]
            continue
        copy = _padded(layer) if symmetric else 0
        if copy:
            padded = -2 - index
            sizes[padded] = copy
            operations.append((inputs, padded))
            inputs = (padded,)
        operations.append((inputs, index))
    last_read = {tensor: step for step, (read, _) in enumerate(operations) for tensor in read}
    written = {-1: -1} | {tensor: step for step, (_, tensor) in enumerate(operations)}
    return max(
        sum(size for tensor, size in sizes.items() if written[tensor] <= step <= last_read.get(tensor, written[tensor]))
        for step in range(len(operations))
    )


def _padded(layer: Layer) -> int:
    """Elements of the copy with symmetric padding; 0 where TensorFlow's is the same."""
    half = layer.kernel // 2
    if layer.kind not in ("conv", "maxpool") or same_padding(layer.in_size, layer.kernel, layer.stride) == (half, half):
        return 0
    return layer.in_channels * (layer.in_size + 2 * half) ** 2


@lru_cache(maxsize=8192)
def _stored(group: Group) -> int:
    layers = [layer for layer in group.layers if layer.kind in ("conv", "linear")]
    channels = sum(layer.out_channels for layer in layers)
    weights = sum(layer.params - (layer.out_channels if layer.bias else 0) for layer in layers)
    return weights + (_BIAS + _SCALE) * channels
