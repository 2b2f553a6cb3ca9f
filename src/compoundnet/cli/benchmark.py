"""`benchmark`: how long networks take here, beside one another and beside other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from compoundnet import base
from compoundnet.base import format_count
from compoundnet.cli.options import Json
from compoundnet.cli.output import note, print_json, show, table

if TYPE_CHECKING:
    from compoundnet.runtime.timing.benchmark import Benchmark


def benchmark(
    networks: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL_OR_NETWORK...",
            help="Names of `compoundnet list`, of the paper's comparison networks or of `compoundnet models list`, TOML"
            " files, model folders, exported files.",
        ),
    ],
    backend: Annotated[
        str, typer.Option(metavar="NAMES", help="Of torch, compile, onnxruntime, openvino; several with commas.")
    ] = "onnxruntime",
    threads: Annotated[int, typer.Option(metavar="N", help="Threads of each network.")] = 1,
    batch: Annotated[int, typer.Option(metavar="N", help="Pictures at a time.")] = 1,
    runs: Annotated[int, typer.Option(metavar="N", help="Rounds that count, after 3 that do not.")] = 20,
    peers: Annotated[
        bool, typer.Option("--peers", help="Also the same networks of timm, torchvision and efficientnet_pytorch.")
    ] = False,
    json: Json = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FOLDER", help="Write benchmark.json and plots (PNG, SVG) there."),
    ] = None,
) -> None:
    """Time networks in interleaved rounds: mean as in the paper, median, 95th percentile and spread."""
    from compoundnet.runtime.timing.benchmark import benchmark as measure

    backends = list(dict.fromkeys(name.strip() for name in backend.split(",")))
    done = measure(networks, backends=backends, threads=threads, batch=batch, runs=runs, with_peers=peers)
    for reason in done.left_out:
        note(f"left out: {reason}")
    if json:
        print_json(done)
    else:
        _print(done)
    if output is not None:  # last: a full disk takes nothing away that was measured
        _write(done, output)


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
        show("Networks that were named without weights have random ones, which take as long.")


def _write(done: Benchmark, folder: Path) -> None:
    from compoundnet.paper import printed_top1
    from compoundnet.runtime.timing.latency_plots import latency_plots

    base.make_folder(folder)
    contents = {"benchmark.json": msgspec.json.format(msgspec.json.encode(done), indent=2) + b"\n"}
    plots = latency_plots(done, printed_top1())
    if not plots:
        note("no plot is drawn of fewer than two networks")
    for plot in plots:
        contents |= {f"{plot.name}.svg": plot.svg, f"{plot.name}.png": plot.png}
    for name, content in contents.items():
        base.write_whole(folder / name, content)
    note(f"wrote {', '.join(str(folder / name) for name in contents)}")
