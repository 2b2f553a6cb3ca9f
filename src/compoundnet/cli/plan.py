"""`plan`: the largest network that fits a budget."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from compoundnet import arch, runtime, zoo
from compoundnet.base import format_bytes, format_count, parse_bytes, parse_count, parse_duration
from compoundnet.cli.options import (
    Batch,
    CoefficientsFile,
    Json,
    MaxFlash,
    MaxLatency,
    MaxMacs,
    MaxMemory,
    MaxParams,
    MaxSram,
    NetworkFile,
    NetworkName,
    NumClasses,
    RuleName,
    TimedThreads,
    WidthShare,
    chosen_rule,
)
from compoundnet.cli.output import note, print_json, show, table

_BACKEND = "onnxruntime"


def _count(what: str) -> Any:
    return typer.Option(metavar="N", help=f"Bound on {what}.")


def plan(
    network: NetworkName,
    max_macs: MaxMacs = None,
    max_params: MaxParams = None,
    max_activations: Annotated[
        str | None, _count("the outputs of convolutions and fully connected layers per image, such as 20M")
    ] = None,
    max_memory: MaxMemory = None,
    max_sram: MaxSram = None,
    max_flash: MaxFlash = None,
    max_latency: MaxLatency = None,
    rule: RuleName = None,
    width_share: WidthShare = None,
    coefficients: CoefficientsFile = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time the network and its alternatives on this machine.")
    ] = False,
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What --max-latency and --measure time with: onnxruntime, openvino, torch or compile.",
            show_default=_BACKEND,
        ),
    ] = None,
    threads: TimedThreads = None,
    batch: Batch = 1,
    training: Annotated[
        bool, typer.Option("--training", help="Count the memory of a training step, instead of inference.")
    ] = False,
    num_classes: NumClasses = None,
    output: NetworkFile = None,
    json: Json = False,
) -> None:
    """Find the largest network that fits a budget (Eq. 2), by scaling NETWORK.

    The default rule is compound, or tiny if only networks smaller than NETWORK fit.
    """
    counts = {"max_macs": max_macs, "max_params": max_params, "max_activations": max_activations}
    sizes = {"max_memory": max_memory, "max_sram": max_sram, "max_flash": max_flash}
    if not any(bound is not None for bound in (*counts.values(), *sizes.values(), max_latency)):
        named = ", ".join(f"--{name.replace('_', '-')}" for name in (*counts, *sizes))
        raise typer.BadParameter(f"give at least one bound: {named} or --max-latency")
    if max_latency is None and not measure and (backend is not None or threads is not None):
        raise typer.BadParameter("--backend and --threads go with --max-latency or --measure")
    chosen = chosen_rule(rule, width_share, coefficients)
    base = zoo.find_scalable(network)
    if num_classes is not None:
        base = base.replace(num_classes=num_classes)
    bounds: dict[str, Any] = {
        **{name: parse_count(text) for name, text in counts.items() if text is not None},
        **{name: parse_bytes(text) for name, text in sizes.items() if text is not None},
        "batch": batch,
        "training": training,
        "rule": chosen,
    }
    machine: dict[str, Any] = {"backend": backend or _BACKEND, "threads": 1 if threads is None else threads}
    timing: dict[str, Any] = {}
    if max_latency is None:
        found = arch.plan(base, **bounds)
    else:
        timed = runtime.plan_within(base, parse_duration(max_latency), **machine, **bounds)
        found = timed.plan
        timing = {"latency": timed.latency, "predicted": timed.predicted, **machine}
    if measure:
        timing |= {"latencies": runtime.time_plan(found, **machine), **machine}
    if output is not None:
        found.network.save(output)
        note(f"wrote {output}")
    if chosen is None and found.rule == "tiny":
        note(
            f"{base.name} itself exceeds the budget, so it is scaled down by the rule tiny (TinyNet's); --rule compound"
            " is the paper's"
        )
    if json:
        print_json({"name": found.network.name, **found.facts(), **timing})
        return
    microcontroller = max_sram is not None or max_flash is not None
    _print_plan(found, batch, training, microcontroller, timing.get("latencies"))
    if "latency" in timing:
        latency = timing["latency"]
        show(
            f"Measured with {timing['backend']} on {timing['threads']} thread{'s' * (timing['threads'] != 1)}: median"
            f" {latency.median:.1f} ms, 95th percentile {latency.p95:.1f} ms of {latency.runs} runs. The latency model"
            f" predicted {timing['predicted']:.1f} ms."
        )


def _print_plan(
    found: arch.Plan,
    batch: int,
    training: bool,
    microcontroller: bool,
    latencies: dict[str, runtime.Latency] | None,
) -> None:
    memory = f"memory, {'training' if training else 'inference'}, batch {batch}"
    columns = ["scaled by", ">depth", ">width", ">resolution", ">parameters", ">FLOPs", ">activations", f">{memory}"]
    if microcontroller:
        columns += [">SRAM, int8", ">flash, int8"]
    if latencies is not None:
        columns.append(">latency, median")
    printed = table(*columns, title=found.network.name)

    def add(label: str, way: str, row: arch.LargestNetwork | None) -> None:
        if row is None:
            printed.add_row(label, *["-"] * (len(columns) - 1))
            return
        cells = [
            f"{row.depth:.3g}",
            f"{row.width:.3g}",
            f"{row.resolution} px",
            format_count(row.params),
            format_count(row.macs),
            format_count(row.activations),
            format_bytes(row.memory_bytes),
        ]
        if microcontroller:
            cells += [format_bytes(row.sram_bytes), format_bytes(row.flash_bytes)]
        if latencies is not None:
            cells.append(f"{latencies[way].median:.1f} ms")
        printed.add_row(label, *cells)

    add(f"{found.rule}, phi {found.phi:.4g}", found.rule, found)
    for way, row in found.alternatives.items():
        add(f"{way} alone" if way in arch.DIMENSIONS else way, way, row)
    show(printed, f"The bound on {found.binding} rules out a larger network.")
