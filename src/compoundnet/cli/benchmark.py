"""`benchmark`: how long networks take on this machine, compared with one another and with other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compoundnet import paper, runtime
from compoundnet.base import format_count
from compoundnet.cli.options import Batch, Json, TimedThreads, complete_model, complete_network, output_option
from compoundnet.cli.output import note, print_json, show, table

if TYPE_CHECKING:
    from compoundnet.runtime import Benchmark


def _complete_either(incomplete: str) -> list[str]:
    return sorted({*complete_network(incomplete), *complete_model(incomplete)})


def benchmark(
    networks: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL_OR_NETWORK",
            help="Names from `compoundnet list` or `compoundnet models list`, comparison networks of Table 2, TOML"
            " files, model folders or exported files.",
            autocompletion=_complete_either,
        ),
    ],
    backend: Annotated[
        str, typer.Option(metavar="NAMES", help="onnxruntime, openvino, torch or compile; several with commas.")
    ] = "onnxruntime",
    threads: TimedThreads = None,
    batch: Batch = 1,
    runs: Annotated[int, typer.Option(metavar="N", help="Rounds to measure, after 3 to warm up.")] = 20,
    peers: Annotated[
        bool, typer.Option("--peers", help="Add the same networks from timm, torchvision and efficientnet_pytorch.")
    ] = False,
    folder: Annotated[
        Path | None,
        output_option("FOLDER", "Write benchmark.json and plots (PNG, SVG) to this folder."),
    ] = None,
    json: Json = False,
) -> None:
    """Measure the latency of networks in interleaved rounds: mean, median, 95th percentile and spread."""
    backends = list(dict.fromkeys(name.strip() for name in backend.split(",")))
    done = runtime.benchmark(
        networks,
        backends=backends,
        threads=threads if threads is not None else 1,
        batch=batch,
        runs=runs,
        with_peers=peers,
    )
    for reason in done.left_out:
        note(f"left out: {reason}")
    if json:
        print_json(done)
    else:
        _print(done)
    if folder is not None:  # last, so that the measurements are printed even if the disk is full
        written = runtime.write_benchmark(done, folder, paper.printed_top1())
        if len(written) == 1:
            note("no plot is drawn of fewer than two networks")
        note(f"wrote {', '.join(map(str, written))}")


def _print(done: Benchmark) -> None:
    least = min(found.latency.median for found in done.measurements)
    printed = table(
        "network", "library", "backend", "precision", ">input", ">FLOPs",
        ">mean ms", ">median", ">p95", ">spread", ">times fastest",
    )  # fmt: skip
    for found in done.measurements:
        latency = found.latency
        printed.add_row(
            found.label,
            found.library,
            found.backend,
            found.precision,
            f"{found.size} px",
            format_count(found.macs),
            *(f"{value:.2f}" for value in (latency.mean, latency.median, latency.p95)),
            f"{latency.spread:.1%}",
            f"{latency.median / least:.2f}x",
        )
    setting = done.setting
    show(printed)
    show(
        f"Batch {setting.batch}, {setting.threads} of {setting.cores} cores of {setting.processor},"
        f" {setting.runs} interleaved rounds after {setting.warm_up}."
    )
    if any(found.weights == "random" for found in done.measurements):
        show("Networks that were given without weights have random ones, which take as long.")
