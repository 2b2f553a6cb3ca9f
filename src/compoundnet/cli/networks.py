"""`list` and `describe`: what is known by name, and one network in full."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from compoundnet import arch, base
from compoundnet.base import format_bytes, format_count
from compoundnet.cli.output import print_json, show, table

NetworkName = Annotated[
    str, typer.Argument(metavar="NETWORK", help="A name of `compoundnet list`, or a network's TOML file.")
]
Threads = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Threads of the network; all cores unless given.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


def list_networks(
    family: Annotated[str | None, typer.Option(help="Only this family.")] = None,
    json: Json = False,
) -> None:
    """The networks that are known by name, with their size and cost."""
    families = arch.families()
    if family is not None:
        wanted = arch.canonical(family)
        if wanted not in families:
            raise base.CompoundNetError(f"there is no family named {family!r}{base.did_you_mean(wanted, families)}")
        families = {wanted: families[wanted]}
    rows = [(name, network, arch.cost(network)) for name, members in families.items() for network in members.values()]
    if json:
        print_json(
            [
                {
                    "name": network.name,
                    "family": name,
                    "resolution": network.resolution,
                    "params": cost.params,
                    "macs": cost.macs,
                    "memory_bytes": cost.memory_bytes,
                }
                for name, network, cost in rows
            ]
        )
        return
    printed = table("network", "family", ">input", ">parameters", ">FLOPs (multiply-adds)", ">memory")
    for name, network, cost in rows:
        printed.add_row(
            network.name,
            name,
            f"{network.resolution} px",
            format_count(cost.params),
            format_count(cost.macs),
            format_bytes(cost.memory_bytes),
        )
    show(printed)


def describe(
    network: NetworkName,
    num_classes: Annotated[int | None, typer.Option(help="Classes other than the network's.")] = None,
    resolution: Annotated[int | None, typer.Option(help="Input side in pixels, other than the network's.")] = None,
    batch: Annotated[int, typer.Option(help="Images at a time, for the memory figures.")] = 1,
    json: Json = False,
) -> None:
    """One network: its stages in the form of the paper's Table 1, then what it costs."""
    value = arch.network(network)
    changes = {"num_classes": num_classes, "resolution": resolution}
    try:
        value = value.replace(**{field: given for field, given in changes.items() if given is not None})
    except ValueError as error:
        raise base.CompoundNetError(str(error)) from error
    report(value, batch, json)


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
    figures.add_row("receptive field", f"{cost.receptive_field:,} px", "")
    show(stages, figures)
    if network.scaling is not None:
        scaling = network.scaling
        show(
            f"scaled from {scaling.base}: depth {scaling.depth:.4g}, width {scaling.width:.4g},"
            f" resolution {scaling.resolution:.4g}"
        )


def as_document(network: arch.Network, batch: int) -> dict[str, Any]:
    """What `--json` of `describe` and `scale` holds."""
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
