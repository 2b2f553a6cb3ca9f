"""`plan`: the largest network that fits a budget."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from compoundnet import arch, runtime, zoo
from compoundnet.base import format_bytes, format_count, parse_bytes, parse_count, parse_duration
from compoundnet.cli.options import Batch, Json, NetworkFile, NetworkName, TimedThreads
from compoundnet.cli.output import note, print_json, show, table


def plan(
    network: NetworkName,
    max_macs: Annotated[
        str | None, typer.Option(metavar="N", help="Bound on multiply-adds per image, such as 1.8G.")
    ] = None,
    max_params: Annotated[str | None, typer.Option(metavar="N", help="Bound on parameters, such as 12M.")] = None,
    max_memory: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Bound on peak memory, such as 200MB.")
    ] = None,
    max_latency: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Bound on the time of one image on this machine, such as 30ms. It is measured."
        ),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What --max-latency is measured with: onnxruntime, openvino, torch or compile.",
            show_default="onnxruntime",
        ),
    ] = None,
    threads: TimedThreads = None,
    batch: Batch = 1,
    training: Annotated[
        bool, typer.Option("--training", help="Count the memory of a training step, instead of inference.")
    ] = False,
    output: NetworkFile = None,
    json: Json = False,
) -> None:
    """Find the largest network that fits a budget (Eq. 2), by compound scaling of NETWORK."""
    if max_macs is None and max_params is None and max_memory is None and max_latency is None:
        raise typer.BadParameter("give at least one bound: --max-macs, --max-params, --max-memory or --max-latency")
    if max_latency is None and (backend is not None or threads is not None):
        raise typer.BadParameter("--backend and --threads go with --max-latency")
    base = zoo.find_scalable(network)
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
        limit = parse_duration(max_latency)
        timed = runtime.plan_within(
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
            f"Measured with {timing['backend']} on {timing['threads']} thread{'s' * (timing['threads'] != 1)}: median"
            f" {latency.median:.1f} ms, 95th percentile {latency.p95:.1f} ms of {latency.runs} runs. The latency model"
            f" predicted {timing['predicted']:.1f} ms."
        )


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
    show(printed, f"The bound on {found.binding} rules out a larger network.")
