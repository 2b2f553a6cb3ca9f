"""`scale`: a network scaled by hand, with the weights of a model if it is to be one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compoundnet import arch, data, models, zoo
from compoundnet.base import read_toml
from compoundnet.cli.describe import as_document, report
from compoundnet.cli.options import (
    CoefficientsFile,
    Force,
    Json,
    RuleName,
    WidthShare,
    chosen_rule,
    complete_network,
    output_option,
)
from compoundnet.cli.output import note, print_json

_PAPER = arch.Coefficients()


def scale(
    network: Annotated[
        str | None,
        typer.Argument(
            metavar="NETWORK",
            help="A name from `compoundnet list`, or a network's TOML file; with -o FOLDER a MODEL. Not needed where"
            " the file of --coefficients holds it.",
            autocompletion=complete_network,
        ),
    ] = None,
    phi: Annotated[
        float | None, typer.Option(help="Compound coefficient (Eq. 3). Below 0, the network shrinks.")
    ] = None,
    rule: RuleName = None,
    width_share: WidthShare = None,
    alpha: Annotated[float | None, typer.Option(help="Base of depth.", show_default=f"{_PAPER.alpha}")] = None,
    beta: Annotated[float | None, typer.Option(help="Base of width.", show_default=f"{_PAPER.beta}")] = None,
    gamma: Annotated[float | None, typer.Option(help="Base of resolution.", show_default=f"{_PAPER.gamma}")] = None,
    coefficients: CoefficientsFile = None,
    depth: Annotated[float | None, typer.Option(help="Multiply the repeats of each stage by this.")] = None,
    width: Annotated[float | None, typer.Option(help="Multiply the channels by this.")] = None,
    resolution: Annotated[
        float | None,
        typer.Option(help="Multiply the side of the input by this (up to 8), or set its pixels (32 or more)."),
    ] = None,
    sample: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGE_OR_FOLDER",
            help="With -o FOLDER: choose channels, and estimate the statistics of batch norms, on these images; a few"
            " hundred are enough. Repeatable.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        output_option(
            "FILE.toml|FOLDER", "Write the network to this file; or a model folder, with weights inherited from MODEL."
        ),
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Scale a network by one coefficient (--phi) and a rule, or by depth, width and resolution separately.

    `scale MODEL -o FOLDER` writes a model that starts from MODEL's weights: where it
    shrinks, the channels that contribute most are kept; where it grows, its outputs stay the same.
    """
    # A file or device that exists is written to, as any output is.
    inherits = output is not None and output.suffix.lower() != ".toml" and (output.is_dir() or not output.exists())
    if sample and not inherits:
        raise typer.BadParameter("goes with -o FOLDER, a model folder", param_hint="--sample")
    single = _given(alpha=alpha, beta=beta, gamma=gamma)
    if single and (coefficients is not None or rule is not None or width_share is not None):
        other = "--coefficients" if coefficients is not None else "--rule"
        raise typer.BadParameter(f"{other} sets alpha, beta and gamma; leave out --{' and --'.join(single)}")
    chosen = chosen_rule(rule, width_share, coefficients)
    base = models.open_folder(network).network if inherits and network is not None else _base(network, coefficients)
    given = _given(depth=depth, width=width, resolution=resolution)
    if phi is not None:
        if given:
            raise typer.BadParameter(f"--phi sets all three dimensions; leave out --{' and --'.join(given)}")
        scaled = arch.scale_by(base, chosen or arch.Coefficients(**single), phi)
    elif chosen is not None or single:
        raise typer.BadParameter("--rule, --coefficients, --alpha, --beta and --gamma go with --phi")
    elif not given:
        raise typer.BadParameter("give --phi, or one or more of --depth, --width and --resolution")
    else:
        scaled = arch.scale(
            base, depth=given.get("depth", 1.0), width=given.get("width", 1.0), resolution=given.get("resolution", 1.0)
        )
    if output is not None and not inherits:
        scaled.save(output)
        note(f"wrote {output}")
    if output is None or not inherits:
        report(scaled, json=json)
        return
    if network is None:
        raise typer.BadParameter("give the model whose weights are inherited", param_hint="NETWORK")
    files = data.find_images(sample or [], notify=note)
    _, found = models.scale_model(network, scaled, output, images=files, replace=force)
    if json:
        inherited = {"model": str(output), "same_outputs": found.same_outputs, "notes": found.notes}
        print_json(as_document(scaled, 1) | inherited)
    else:
        report(scaled)
    note(f"wrote {output}")
    for line in found.notes:
        note(line)
    if not found.same_outputs:
        note(f"train it before use: compoundnet train DATA --from {output}")
    elif scaled.resolution == base.resolution:
        note(f"it computes what {network} does")
    else:
        note(
            f"on equal inputs it computes what {network} does; at {scaled.resolution} px accuracy is another:"
            f" compoundnet evaluate {output} DATA"
        )


def _base(network: str | None, coefficients: Path | None) -> arch.Network:
    """Return the network to scale: the one given, or that of the file of coefficients."""
    if network is not None:
        return zoo.find_scalable(network)
    if coefficients is None:
        raise typer.BadParameter("give the network to scale", param_hint="NETWORK")
    held = read_toml(coefficients, arch.FoundCoefficients).network
    if held is None:
        raise typer.BadParameter(f"{coefficients} names no network; give the one to scale", param_hint="NETWORK")
    return held


def _given(**options: float | None) -> dict[str, float]:
    """Return those options that were given."""
    return {name: value for name, value in options.items() if value is not None}
