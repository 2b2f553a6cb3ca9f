"""`list`: the networks that are known by name."""

from __future__ import annotations

from typing import Annotated

import typer

from compoundnet import arch, base
from compoundnet.base import format_bytes, format_count
from compoundnet.cli.options import Json
from compoundnet.cli.output import print_json, show, table


def _complete_family(incomplete: str) -> list[str]:
    return [name for name in arch.families() if name.startswith(incomplete)]


def list_networks(
    family: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="List this family only.", autocompletion=_complete_family),
    ] = None,
    json: Json = False,
) -> None:
    """List the networks that are known by name, with their size and cost."""
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
