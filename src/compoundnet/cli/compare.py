"""`compare`: networks side by side."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from compoundnet.base import format_bytes, format_count
from compoundnet.cli.options import Json, complete_network
from compoundnet.cli.output import print_json, show, table
from compoundnet.zoo import NetworkSize, network_size


def compare(
    networks: Annotated[
        list[str],
        typer.Argument(
            metavar="NETWORK",
            help="Names from `compoundnet list`, comparison networks of Table 2, or TOML files.",
            autocompletion=complete_network,
        ),
    ],
    json: Json = False,
) -> None:
    """Compare networks side by side: parameters, FLOPs, activations, memory, receptive field."""
    measured = [network_size(name) for name in networks]
    if json:
        print_json([_document(one) for one in measured])
        return
    printed = table(
        "network",
        ">input",
        ">parameters",
        ">FLOPs (multiply-adds)",
        ">activations",
        ">memory, inference",
        ">memory, training step",
        ">receptive field",
    )
    for one in measured:
        cost = one.cost
        printed.add_row(
            one.name,
            f"{one.resolution} px",
            format_count(one.params),
            format_count(one.macs),
            format_count(cost.activations) if cost else "-",
            format_bytes(cost.memory_bytes) if cost else "-",
            format_bytes(cost.training_memory_bytes) if cost else "-",
            f"{cost.receptive_field:,} px" if cost else "-",
        )
    show(printed, "Memory: batch 1, float32.")
    if any(one.cost is None for one in measured):
        show("-: not known without building the network, because comparison networks are not made of stages.")


def _document(one: NetworkSize) -> dict[str, Any]:
    fields = ("activations", "memory_bytes", "training_memory_bytes", "receptive_field")
    return {
        "name": one.name,
        "resolution": one.resolution,
        "params": one.params,
        "macs": one.macs,
        **{field: getattr(one.cost, field) if one.cost else None for field in fields},
    }
