"""`scale` and `plan`: a network scaled by hand, and the largest one that fits a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from compoundnet import arch, base
from compoundnet.base import format_bytes, format_count, parse_bytes, parse_count, parse_duration, read_toml
from compoundnet.cli.networks import Json, NetworkName, report
from compoundnet.cli.output import note, print_json, show, table

Output = Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE.toml", help="Write the network there.")]
_PAPER = arch.Coefficients()


def scale(
    network: Annotated[
        str | None,
        typer.Argument(
            metavar="[NETWORK]",
            help="A name of `compoundnet list`, or a TOML file; --coefficients may hold it already.",
        ),
    ] = None,
    phi: Annotated[float | None, typer.Option(help="Compound coefficient (Eq. 3); below 0 shrinks.")] = None,
    alpha: Annotated[float | None, typer.Option(help=f"Depth's base; {_PAPER.alpha} unless given.")] = None,
    beta: Annotated[float | None, typer.Option(help=f"Width's base; {_PAPER.beta} unless given.")] = None,
    gamma: Annotated[float | None, typer.Option(help=f"Resolution's base; {_PAPER.gamma} unless given.")] = None,
    found: Annotated[
        Path | None,
        typer.Option(
            "--coefficients", metavar="FILE.toml", help="alpha, beta, gamma (and NETWORK) of `search coefficients`."
        ),
    ] = None,
    depth: Annotated[float | None, typer.Option(help="Multiplier of each stage's repeats.")] = None,
    width: Annotated[float | None, typer.Option(help="Multiplier of the channels.")] = None,
    resolution: Annotated[
        float | None, typer.Option(help="Factor (up to 8) or pixels (32 and more) of the input side.")
    ] = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """Scale a network by one coefficient (--phi), or by depth, width and resolution."""
    coefficients = {"alpha": alpha, "beta": beta, "gamma": gamma}
    base, from_file = _base(network, found, [name for name, value in coefficients.items() if value is not None])
    single = {"depth": depth, "width": width, "resolution": resolution}
    given = {name: value for name, value in single.items() if value is not None}
    if phi is not None:
        if given:
            raise typer.BadParameter(f"--phi sets all three dimensions; leave out --{' and --'.join(given)}")
        scaled = arch.compound(base, phi, from_file or _coefficients(coefficients))
    elif from_file is not None or any(value is not None for value in coefficients.values()):
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


def plan(
    network: NetworkName,
    max_macs: Annotated[str | None, typer.Option(metavar="N", help="Multiply-adds an image, such as 1.8G.")] = None,
    max_params: Annotated[str | None, typer.Option(metavar="N", help="Parameters, such as 12M.")] = None,
    max_memory: Annotated[str | None, typer.Option(metavar="BYTES", help="Peak memory, such as 200MB.")] = None,
    max_latency: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Of one image on this machine, such as 30ms; the answer is timed first."),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="For --max-latency: onnxruntime unless given, torch, compile or openvino."),
    ] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", help="For --max-latency: 1 unless given.")] = None,
    batch: Annotated[int, typer.Option(help="Images at a time, for --max-memory.")] = 1,
    training: Annotated[
        bool, typer.Option("--training", help="--max-memory is a training step's, not inference's.")
    ] = False,
    output: Output = None,
    json: Json = False,
) -> None:
    """The largest network that fits a budget (Eq. 2), by compound scaling of NETWORK."""
    if max_macs is None and max_params is None and max_memory is None and max_latency is None:
        raise typer.BadParameter("give at least one bound: --max-macs, --max-params, --max-memory or --max-latency")
    if max_latency is None and (backend is not None or threads is not None):
        raise typer.BadParameter("--backend and --threads go with --max-latency")
    base = arch.network(network)
    bounds: dict[str, Any] = {
        "max_macs": parse_count(max_macs) if max_macs else None,
        "max_params": parse_count(max_params) if max_params else None,
        "max_memory": parse_bytes(max_memory) if max_memory else None,
        "batch": batch,
        "training": training,
    }
    timing: dict[str, Any] = {}
    if max_latency is None:
        found = arch.plan(base, **bounds)
    else:
        from compoundnet.runtime.latency_bound import plan_within

        limit = parse_duration(max_latency)
        timed = plan_within(
            base, limit, backend=backend or "onnxruntime", threads=1 if threads is None else threads, **bounds
        )
        found = timed.plan
        timing = {name: getattr(timed, name) for name in ("latency", "predicted", "backend", "threads")}
    if output is not None:
        found.network.save(output)
        note(f"wrote {output}")
    if json:
        fields = {field: getattr(found, field) for field in found.__struct_fields__ if field != "network"}
        print_json({"name": found.network.name, **fields, **timing})
        return
    _print_plan(found, batch, training)
    if timing:
        latency = timing["latency"]
        show(
            f"Timed on {timing['backend']}, {timing['threads']} thread(s): median {latency.median:.1f} ms, p95"
            f" {latency.p95:.1f} ms of {latency.runs} runs; the model predicted {timing['predicted']:.1f} ms."
        )


def _base(network: str | None, found: Path | None, single: list[str]) -> tuple[arch.Network, arch.Coefficients | None]:
    """The network to scale, and the coefficients of a file."""
    if found is None:
        if network is None:
            raise typer.BadParameter("give the network to scale", param_hint="NETWORK")
        return arch.network(network), None
    if single:
        raise typer.BadParameter(f"--coefficients sets all three; leave out --{' and --'.join(single)}")
    held = read_toml(found, arch.FoundCoefficients)
    if network is None and held.network is None:
        raise typer.BadParameter(f"{found} names no network; give the one to scale", param_hint="NETWORK")
    base = arch.network(network) if network is not None else held.network
    assert base is not None
    return base, held.coefficients


def _coefficients(given: dict[str, float | None]) -> arch.Coefficients:
    try:
        return arch.Coefficients(**{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        raise base.CompoundNetError(str(error)) from error


def _print_plan(found: arch.Plan, batch: int, training: bool) -> None:
    memory = f"memory, {'training' if training else 'inference'}, batch {batch}"
    printed = table(
        "scaled by", ">depth", ">width", ">resolution", ">parameters", ">FLOPs", f">{memory}", title=found.network.name
    )

    def add(label: str, row: arch.Plan | arch.Alternative) -> None:
        printed.add_row(
            label,
            f"{row.depth:.3g}",
            f"{row.width:.3g}",
            f"{row.resolution} px",
            format_count(row.params),
            format_count(row.macs),
            format_bytes(row.memory_bytes),
        )

    add(f"all three, phi {found.phi:.4g}", found)
    for dimension, row in found.alternatives.items():
        if row is None:
            printed.add_row(f"{dimension} alone", *["-"] * 6)
        else:
            add(f"{dimension} alone", row)
    show(printed, f"The bound on {found.binding} stops a larger one.")
