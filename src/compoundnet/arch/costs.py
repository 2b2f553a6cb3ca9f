"""The cost of a network: parameters, multiply-adds, activations, memory, receptive field. Closed form, without
torch."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from compoundnet.arch.layers import Group
from compoundnet.arch.memory import Precision, inference_memory, training_memory
from compoundnet.arch.microcontroller import flash, sram
from compoundnet.arch.segments import segments
from compoundnet.arch.spec import Network
from compoundnet.base.errors import CompoundNetError


class Cost(msgspec.Struct, frozen=True):
    """The cost of one network at one batch size.

    Attributes:
        params: Trainable parameters.
        macs: Multiply-adds for one image, of convolutions and fully connected layers: the paper's FLOPS.
        activations: Outputs of those layers for one image, elements.
        memory_bytes: Peak of an inference pass over the batch, weights included.
        training_memory_bytes: Peak of a training step over the batch, gradients and optimiser state included.
        sram_bytes: Peak of the int8 activations of one image on a microcontroller.
        flash_bytes: Weights, biases and scales of the network as int8.
        receptive_field: Side in pixels of the input region on which one element of the last feature map depends, not
            counting squeeze-excitation, which depends on the whole input.
    """

    params: int
    macs: int
    activations: int
    memory_bytes: int
    training_memory_bytes: int
    sram_bytes: int
    flash_bytes: int
    receptive_field: int


class StageCost(msgspec.Struct, frozen=True):
    """One row of the stage table, as in the paper's Table 1.

    Attributes:
        stage: Number of the row, from 1.
        operator: The block's title.
        resolution: Side of the row's input, pixels.
        channels: Channels of its output.
        layers: Number of repeats of the block.
        stride: Stride of the first of them.
        params: Trainable parameters.
        macs: Multiply-adds for one image.
        activations: Outputs of convolutions and fully connected layers for one image, elements.
    """

    stage: int
    operator: str
    resolution: int
    channels: int
    layers: int
    stride: int
    params: int
    macs: int
    activations: int


def cost(network: Network, *, batch: int = 1, precision: Precision = "float32") -> Cost:
    """Compute the cost of a network, in closed form.

    Args:
        network: The network.
        batch: Batch size; affects only the memory figures.
        precision: "float32" or "bfloat16"; affects only the memory figures.

    Raises:
        CompoundNetError: `batch` is below 1.
    """
    if batch < 1:
        raise CompoundNetError(f"batch must be at least 1, got {batch}")
    runs = segments(network)
    return Cost(
        params=sum(run.repeats * run.group.params for run in runs),
        macs=sum(run.repeats * run.group.macs for run in runs),
        activations=sum(run.repeats * run.group.activations for run in runs),
        memory_bytes=inference_memory(network, batch, precision),
        training_memory_bytes=training_memory(network, batch, precision),
        sram_bytes=sram(network),
        flash_bytes=flash(network),
        receptive_field=receptive_field(network),
    )


def receptive_field(network: Network) -> int:
    """Return the side, in pixels, of the input region on which one element of the last feature map depends."""
    field, jump = 1, 1
    for run in segments(network):
        reach, stride = _reach(run.group)
        field += jump * reach * run.repeats  # only runs of one block have a stride
        jump *= stride
    return field


def stage_costs(network: Network) -> tuple[StageCost, ...]:
    """Return the stage table: stem, stages and head, each with its part of the cost."""
    rows: list[StageCost] = []
    for run in segments(network):
        group = run.group
        params, macs, activations = (run.repeats * value for value in (group.params, group.macs, group.activations))
        if run.first:  # the rest of a stage whose first block is already included
            last = rows.pop()
            rows.append(
                msgspec.structs.replace(
                    last,
                    layers=last.layers + run.repeats,
                    params=last.params + params,
                    macs=last.macs + macs,
                    activations=last.activations + activations,
                )
            )
            continue
        operator, channels, stride = _describe(network, run.stage)
        rows.append(
            StageCost(
                stage=len(rows) + 1,
                operator=operator,
                resolution=group.layers[0].in_size,
                channels=channels,
                layers=run.repeats,
                stride=stride,
                params=params,
                macs=macs,
                activations=activations,
            )
        )
    return tuple(rows)


@lru_cache(maxsize=8192)
def _reach(group: Group) -> tuple[int, int]:
    """Return by how many input steps of the group the receptive field grows on the longest path, and the stride."""
    reach = {-1: (0, 1)}
    for index, layer in enumerate(group.layers):
        # Layers after a global pool (squeeze-excitation, the classifier) depend on the whole input and are not counted.
        known = [reach[source] for source in layer.inputs if source in reach]
        if layer.kind not in ("mean", "globalmax") and known:
            grow, jump = max(known)
            reach[index] = (grow + jump * (layer.kernel - 1), jump * layer.stride)
    return reach[max(reach)]


def _describe(network: Network, stage: int) -> tuple[str, int, int]:
    """Return operator, channels and stride of a row of the stage table."""
    if stage < 0:
        stem = network.stem
        pool = " & MaxPool" if stem.pool == "max" else ""
        return f"Conv{stem.kernel}x{stem.kernel}{pool}", stem.channels, stem.stride
    if stage == len(network.stages):
        pooled = network.head.pool != "none"
        head = network.head
        parts = (
            ("Conv1x1", head.channels), ("Pooling", pooled), ("Conv1x1", head.hidden), ("FC", network.num_classes),
        )  # fmt: skip
        return " & ".join(name for name, there in parts if there), network.classifier_features, 1
    row = network.stages[stage]
    return row.block.title, row.channels, row.stride
