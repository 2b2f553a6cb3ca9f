"""`scale`: a network scaled by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compoundnet import arch, zoo
from compoundnet.base import read_toml
from compoundnet.cli.describe import report
from compoundnet.cli.options import Json, NetworkFile, complete_network
from compoundnet.cli.output import note

_PAPER = arch.Coefficients()


def scale(
    network: Annotated[
        str | None,
        typer.Argument(
            metavar="NETWORK",
            help="A name from `compoundnet list`, or a network's TOML file. Not needed where the file of"
            " --coefficients holds it.",
            autocompletion=complete_network,
        ),
    ] = None,
    phi: Annotated[
        float | None, typer.Option(help="Compound coefficient (Eq. 3). Below 0, the network shrinks.")
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Base of depth.", show_default=f"{_PAPER.alpha}")] = None,
    beta: Annotated[float | None, typer.Option(help="Base of width.", show_default=f"{_PAPER.beta}")] = None,
    gamma: Annotated[float | None, typer.Option(help="Base of resolution.", show_default=f"{_PAPER.gamma}")] = None,
    found: Annotated[
        Path | None,
        typer.Option(
            "--coefficients",
            metavar="FILE.toml",
            help="A result of `search coefficients`: alpha, beta, gamma and the network.",
        ),
    ] = None,
    depth: Annotated[float | None, typer.Option(help="Multiply the repeats of each stage by this.")] = None,
    width: Annotated[float | None, typer.Option(help="Multiply the channels by this.")] = None,
    resolution: Annotated[
        float | None,
        typer.Option(help="Multiply the side of the input by this (up to 8), or set its pixels (32 or more)."),
    ] = None,
    output: NetworkFile = None,
    json: Json = False,
) -> None:
    """Scale a network by one coefficient (--phi), or by depth, width and resolution separately."""
    single = _given(alpha=alpha, beta=beta, gamma=gamma)
    base, from_file = _base(network, found, list(single))
    given = _given(depth=depth, width=width, resolution=resolution)
    if phi is not None:
        if given:
            raise typer.BadParameter(f"--phi sets all three dimensions; leave out --{' and --'.join(given)}")
        scaled = arch.compound(base, phi, from_file or arch.Coefficients(**single))
    elif from_file is not None or single:
        raise typer.BadParameter("--coefficients, --alpha, --beta and --gamma go with --phi")
    elif not given:
        raise typer.BadParameter("give --phi, or one or more of --depth, --width and --resolution")
    else:
        scaled = arch.scale(
            base, depth=given.get("depth", 1.0), width=given.get("width", 1.0), resolution=given.get("resolution", 1.0)
        )
    if output is not None:
        scaled.save(output)
        note(f"wrote {output}")
    report(scaled, json=json)


def _base(network: str | None, found: Path | None, single: list[str]) -> tuple[arch.Network, arch.Coefficients | None]:
    """Return the network to scale, and the coefficients of the file if one is given."""
    if found is None:
        if network is None:
            raise typer.BadParameter("give the network to scale", param_hint="NETWORK")
        return zoo.find_scalable(network), None
    if single:
        raise typer.BadParameter(f"--coefficients sets all three; leave out --{' and --'.join(single)}")
    held = read_toml(found, arch.FoundCoefficients)
    if network is None and held.network is None:
        raise typer.BadParameter(f"{found} names no network; give the one to scale", param_hint="NETWORK")
    base = zoo.find_scalable(network) if network is not None else held.network
    assert base is not None
    return base, held.coefficients


def _given(**options: float | None) -> dict[str, float]:
    """Return those options that were given."""
    return {name: value for name, value in options.items() if value is not None}
