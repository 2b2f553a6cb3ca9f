"""`benchmark`: how long networks take on this machine, compared with one another and with other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compoundnet import data, paper, runtime
from compoundnet.base import format_count
from compoundnet.cli.options import Device, Json, TimedThreads, complete_model, complete_network, output_option
from compoundnet.cli.output import note, print_json, show, table
from compoundnet.runtime.backends.registry import AUTO
from compoundnet.runtime.timing.rounds import RUNS
from compoundnet.runtime.timing.throughput import RUNS as THROUGHPUT_RUNS

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
        str | None,
        typer.Option(
            metavar="NAMES",
            help="onnxruntime, openvino, torch or compile; several with commas.",
            show_default="onnxruntime, or the first that runs it; with --precision auto all but compile",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="float32, bfloat16, float16, int8, several with commas; or auto: all that run here, and the choice of"
            " --precision auto.",
            show_default="float32, or that of an exported file",
        ),
    ] = None,
    check_on: Annotated[
        list[str] | None,
        typer.Option(
            "--check-on",
            metavar="IMAGE_OR_FOLDER",
            help="For --precision auto: images on which precisions are compared with float32; repeatable.",
        ),
    ] = None,
    throughput: Annotated[
        bool,
        typer.Option(
            "--throughput", help="Measure images a second with all cores or on a GPU, in batches, instead of latency."
        ),
    ] = False,
    threads: TimedThreads = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch",
            metavar="N",
            help="Images at a time.",
            show_default="1; with --throughput 8 for each thread, 256 on a GPU",
        ),
    ] = None,
    runs: Annotated[
        int | None,
        typer.Option(metavar="N", help="Rounds to measure, after 3 to warm up.", show_default="20, 10 of --throughput"),
    ] = None,
    device: Device = "cpu",
    peers: Annotated[
        bool, typer.Option("--peers", help="Add the same networks from timm, torchvision and efficientnet_pytorch.")
    ] = False,
    folder: Annotated[
        Path | None,
        output_option("FOLDER", "Write benchmark.json and plots (PNG, SVG) to this folder."),
    ] = None,
    json: Json = False,
) -> None:
    """Measure the latency of networks in interleaved rounds: mean, median, 95th percentile and spread.

    --throughput measures images a second instead.
    """
    backends, precisions = _names(backend), _names(precision) or []
    if check_on and AUTO not in precisions:
        raise typer.BadParameter("goes with --precision auto", param_hint="--check-on")
    compared = data.find_images(check_on, notify=note) if check_on else ()
    if throughput:
        done = runtime.throughput(
            networks, backends=backends, precisions=precisions, check_on=compared, threads=threads, batch=batch,
            runs=THROUGHPUT_RUNS if runs is None else runs, with_peers=peers, device=device,
        )  # fmt: skip
    else:
        done = runtime.benchmark(
            networks, backends=backends, precisions=precisions, check_on=compared,
            threads=1 if threads is None else threads, batch=1 if batch is None else batch,
            runs=RUNS if runs is None else runs, with_peers=peers, device=device,
        )  # fmt: skip
    for reason in done.left_out:
        note(f"left out: {reason}")
    if json:
        print_json(done)
    else:
        _print(done, throughput=throughput)
    if folder is not None:  # last, so that the measurements are printed even if the disk is full
        written = runtime.write_benchmark(done, folder, paper.printed_top1())
        if len(written) == 1:
            note("no plot is drawn of fewer than two networks")
        note(f"wrote {', '.join(map(str, written))}")


def _names(text: str | None) -> list[str] | None:
    return None if text is None else list(dict.fromkeys(name.strip() for name in text.split(",")))


def _print(done: Benchmark, *, throughput: bool) -> None:
    least = min(found.latency.median for found in done.measurements)
    figures = (">ms of a batch", ">images/s") if throughput else (">mean ms", ">median", ">p95")
    printed = table(
        "network", "library", "backend", "precision", ">input", ">FLOPs", *figures, ">spread", ">times fastest"
    )
    for found in done.measurements:
        latency = found.latency
        printed.add_row(
            found.label,
            found.library,
            found.backend,
            found.precision,
            f"{found.size} px",
            format_count(found.macs),
            *(
                (f"{latency.median:.2f}", f"{found.images_per_second:,.1f}")
                if throughput
                else (f"{value:.2f}" for value in (latency.mean, latency.median, latency.p95))
            ),
            f"{latency.spread:.1%}",
            f"{latency.median / least:.2f}x",
        )
    setting = done.setting
    where = "" if setting.device == "cpu" else f"Device {setting.device}. "
    show(printed)
    show(
        f"{where}Batch {setting.batch}, {setting.threads} of {setting.cores} cores of {setting.processor},"
        f" {setting.runs} interleaved rounds after {setting.warm_up}."
    )
    if throughput and setting.device != "cpu":
        show("The images were on the device already.")
    for choice in done.choices:
        show(f"{choice.rule()}.", choice.text())
    if any(found.weights == "random" for found in done.measurements):
        show("Networks that were given without weights have random ones, which take as long.")
