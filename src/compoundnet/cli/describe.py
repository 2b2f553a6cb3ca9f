"""`describe`: one network in full."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from compoundnet import arch, zoo
from compoundnet.base import format_bytes, format_count
from compoundnet.cli.options import Batch, Json, NetworkName, NumClasses
from compoundnet.cli.output import print_json, show, table


def describe(
    network: NetworkName,
    num_classes: NumClasses = None,
    resolution: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Side of the input.", show_default="the network's")
    ] = None,
    batch: Batch = 1,
    json: Json = False,
) -> None:
    """Print one network: its stages as in the paper's Table 1, and what it costs."""
    value = zoo.find_scalable(network)
    changes = {"num_classes": num_classes, "resolution": resolution}
    report(value.replace(**{field: given for field, given in changes.items() if given is not None}), batch, json)


def report(network: arch.Network, batch: int = 1, json: bool = False) -> None:
    """Print a network's stage table and cost, or all of it as JSON."""
    if json:
        print_json(as_document(network, batch))
        return
    cost = arch.cost(network, batch=batch)
    stages = table(
        "stage", "operator", ">resolution", ">channels", ">layers", ">parameters", ">FLOPs", title=network.name
    )
    for row in arch.stage_costs(network):
        stages.add_row(
            str(row.stage),
            row.operator,
            f"{row.resolution} x {row.resolution}",
            str(row.channels),
            str(row.layers),
            f"{row.params:,}",
            format_count(row.macs),
        )
    figures = table("figure", ">value", "")
    precise = arch.cost(network, batch=batch, precision="bfloat16")
    figures.add_row("parameters", f"{cost.params:,}", format_count(cost.params))
    figures.add_row("FLOPs (multiply-adds)", f"{cost.macs:,}", format_count(cost.macs))
    figures.add_row("activations", f"{cost.activations:,}", format_count(cost.activations))
    for label, full, half in (
        ("memory, inference", cost.memory_bytes, precise.memory_bytes),
        ("memory, training step", cost.training_memory_bytes, precise.training_memory_bytes),
    ):
        figures.add_row(f"{label}, batch {batch}", format_bytes(full), f"float32; bfloat16 {format_bytes(half)}")
    figures.add_row("SRAM on a microcontroller", format_bytes(cost.sram_bytes), "int8 activations of one image")
    figures.add_row("flash on a microcontroller", format_bytes(cost.flash_bytes), "int8 weights")
    figures.add_row("receptive field", f"{cost.receptive_field:,} px", "")
    show(stages, figures)
    if network.scaling is not None:
        scaling = network.scaling
        show(
            f"scaled from {scaling.base}: depth {scaling.depth:.4g}, width {scaling.width:.4g},"
            f" resolution {scaling.resolution:.4g}"
        )


def as_document(network: arch.Network, batch: int) -> dict[str, Any]:
    """Return what `describe --json` and `scale --json` print."""
    cost: dict[str, Any] = msgspec.to_builtins(arch.cost(network, batch=batch))
    return {
        "name": network.name,
        "resolution": network.resolution,
        "num_classes": network.num_classes,
        "batch": batch,
        **cost,
        "stages": msgspec.to_builtins(arch.stage_costs(network)),
        "scaling": msgspec.to_builtins(network.scaling),
    }
