"""Peak memory of inference and of a training step, from the tensors that eager torch keeps while it runs the module.

Inference (eval mode, gradients off): weights, the images, and at the worst layer the block's input, the layer's input,
its output, the padded copy that uneven TensorFlow padding needs, and the folded weight; activations, gates and
additions work in place there. Training: weights, gradients, optimiser state and every tensor that a backward formula
needs. Temporary work space inside a convolution library is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from compoundnet.arch.layers import Group, Layer, same_padding
from compoundnet.arch.segments import Segment, segments
from compoundnet.arch.spec import Network

Precision = Literal["float32", "bfloat16"]
BYTES: dict[Precision, int] = {"float32": 4, "bfloat16": 2}
# TF RMSProp, the paper's optimiser: a running square and a momentum buffer for every parameter.
OPTIMIZER_SLOTS = 2


def inference_memory(network: Network, batch: int = 1, precision: Precision = "float32") -> int:
    """Return the peak bytes of one forward pass over `batch` images, weights and images included."""
    runs = segments(network)
    same = network.padding == "same"
    weights = sum(run.repeats * _weights(run.group) for run in runs)
    image = network.in_channels * network.resolution**2
    # The input of the stem is the images; the input of every later block is kept in addition to them.
    peak = max(
        batch * (live + (image if run.stage >= 0 else 0)) + folded
        for run in runs
        for live, folded in _forward(run.group, same)
    )
    return (weights + peak) * BYTES[precision]


def training_memory(network: Network, batch: int = 1, precision: Precision = "float32") -> int:
    """Return the peak bytes of a training step over `batch` images with the paper's optimiser (two slots per
    parameter).

    bfloat16 is mixed precision: weights, gradients and optimiser state stay float32, activations and a working copy
    of the weights are bfloat16.
    """
    runs = segments(network)
    same, in_place = network.padding == "same", network.activation == "relu"
    size = BYTES[precision]
    params = sum(run.repeats * run.group.params for run in runs)
    weights = sum(run.repeats * _weights(run.group) for run in runs)
    saved = [batch * size * value for value in _saved_by(runs, same, in_place)]
    held = sum(run.repeats * value for run, value in zip(runs, saved, strict=True))
    held += batch * size * network.in_channels * network.resolution**2
    gradients = peak = 0
    # Backward starts at the last block: saved tensors are released while gradients of weights accumulate. Within a run
    # of equal blocks both change evenly, so the peak is at the first or last block of the run.
    for run, block_saved in zip(reversed(runs), reversed(saved), strict=True):
        block_gradients = 4 * run.group.params
        working = batch * size * _backward(run.group) + block_gradients
        change = (run.repeats - 1) * (block_gradients - block_saved)
        peak = max(peak, held + gradients + working + max(0, change))
        held -= run.repeats * block_saved
        gradients += run.repeats * block_gradients
    working_copy = 2 * params if precision == "bfloat16" else 0
    return 4 * weights + 4 * OPTIMIZER_SLOTS * params + working_copy + max(peak, gradients)


def _weights(group: Group) -> int:
    """Parameters and batch norm's running statistics."""
    return group.params + sum(layer.params for layer in group.layers if layer.kind == "norm")


@lru_cache(maxsize=8192)
def _forward(group: Group, same: bool) -> tuple[tuple[int, int], ...]:
    """For each layer that creates a new tensor: (live elements for one image, elements of its folded weight)."""
    layers = group.layers
    block_input = layers[0].in_channels * layers[0].in_size ** 2
    found = []
    for index, layer in enumerate(layers):
        if layer.kind not in ("conv", "linear", "maxpool", "mean", "globalmax"):
            continue  # works in place
        live = block_input + layer.outputs + _padded(layer, same) + _waiting_shortcut(layers, index)
        if layer.inputs[0] >= 0:
            live += layers[layer.inputs[0]].outputs
        if layer.kind == "maxpool":  # the positions of the maxima, eight bytes each
            live += 2 * layer.outputs
        found.append((live, layer.params if layer.kind == "conv" and not layer.bias else 0))
    return tuple(found)


def _waiting_shortcut(layers: Sequence[Layer], running: int) -> int:
    """Elements of a projected shortcut that is kept for the addition while layer `running` is computed."""
    for layer in layers[-2:]:
        if layer.kind == "add" and 0 <= layer.inputs[1] < running:
            return layers[layer.inputs[1]].outputs
    return 0


def _padded(layer: Layer, same: bool) -> int:
    """Elements of the padded copy for an uneven TensorFlow padding."""
    if not same or layer.kind != "conv":
        return 0
    before, after = same_padding(layer.in_size, layer.kernel, layer.stride)
    return layer.in_channels * (before + layer.in_size + after) ** 2 if before != after else 0


def _saved_by(runs: Sequence[Segment], same: bool, in_place: bool) -> list[int]:
    """Elements that autograd keeps from one block of each run, for one image."""
    found = []
    input_kept = True  # the image is counted separately
    for run in runs:
        found.append(_saved(run.group, same, in_place, input_kept))
        input_kept = in_place and run.group.layers[-1].kind == "activation"
    return found


@lru_cache(maxsize=8192)
def _saved(group: Group, same: bool, in_place: bool, input_kept: bool) -> int:
    """Elements that autograd keeps from these layers for backward; `input_kept`: the previous block keeps the input."""
    kept: set[int] = set()
    padded = 0
    for index, layer in enumerate(group.layers):
        match layer.kind:
            case "conv":
                copy = _padded(layer, same)
                padded += copy
                if not copy:
                    kept.update(layer.inputs)
            case "norm" | "linear" | "multiply":
                kept.update(layer.inputs)
            case "activation" if in_place:  # ReLU: its output is kept, not its input
                kept.discard(layer.inputs[0])
                kept.add(index)
            case "activation":  # SiLU and ReLU6 need their input
                kept.update(layer.inputs)
            case "gate":
                kept.add(index)
            case "globalmax":  # the positions of the maxima are recomputed from input and output
                kept.update((*layer.inputs, index))
            case "maxpool":  # its input, and the positions of the maxima, eight bytes each
                kept.update(layer.inputs)
                padded += 2 * layer.outputs
    first = group.layers[0]
    block_input = first.in_channels * first.in_size**2 if -1 in kept and not input_kept else 0
    return padded + block_input + sum(group.layers[index].outputs for index in kept if index >= 0)


@lru_cache(maxsize=8192)
def _backward(group: Group) -> int:
    """Live gradient elements at the worst layer of the backward pass: of its input, its output and a kept shortcut."""
    last = group.layers[-1]
    waiting = last.outputs if last.kind == "add" else 0
    return waiting + max(layer.outputs + layer.in_channels * layer.in_size**2 for layer in group.layers)
