"""`fit`: the most accurate classifier of one's own images within a budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compoundnet.base import parse_bytes, parse_count, parse_duration
from compoundnet.cli.options import (
    DATA_HELP,
    AllowMissing,
    Download,
    Force,
    Json,
    MaxLatency,
    MaxMacs,
    MaxMemory,
    MaxParams,
    SeveralLabels,
    TimedThreads,
    complete_data,
    complete_model,
    labels_per_image,
    output_option,
)
from compoundnet.cli.output import note, print_json, show, table

if TYPE_CHECKING:
    from compoundnet.fit import Fit


def fit(
    data: Annotated[
        str,
        typer.Argument(metavar="DATA", help=f"{DATA_HELP} Or `show`, with FOLDER.", autocompletion=complete_data),
    ],
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="With `show`: NAME.fit, whose result is printed again.")
    ] = None,
    output: Annotated[Path, output_option("FOLDER", "Write the model folder here, the file beside it.")] = Path("best"),
    max_latency: MaxLatency = None,
    max_size: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Bound on the size of the deployed file, such as 6MB.")
    ] = None,
    max_macs: MaxMacs = None,
    max_params: MaxParams = None,
    max_memory: MaxMemory = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(metavar="P", help="Find the fastest that reaches this accuracy, such as 0.95."),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--candidate",
            metavar="MODEL",
            help="Start from this pretrained model: a name, a folder, or hf-hub:OWNER/NAME; repeatable.",
            autocompletion=complete_model,
            show_default="all that need no download",
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            "--time",
            metavar="TIME",
            help="Screen for a third of this time, such as 30min, and fine-tune the best in the rest.",
            show_default="screen all, no fine-tuning",
        ),
    ] = None,
    threads: TimedThreads = None,
    download: Download = False,
    allow_missing: AllowMissing = False,
    several: SeveralLabels = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Find the most accurate classifier of your images within a budget, and write it ready to use.

    Pretrained models at several resolutions are timed on this machine and judged
    by probes, cross-validated on the training images. The best that fits is
    written as a model folder and as an ONNX file, timed once more, and evaluated
    on the test images; FOLDER.fit holds the report.
    """
    from compoundnet import fit as fitting  # noqa: PLC0415  torch, which the help does without
    from compoundnet.data import open_dataset  # noqa: PLC0415  as above

    if data == "show":
        if folder is None:
            raise typer.BadParameter("show needs the folder NAME.fit", param_hint="FOLDER")
        _print(fitting.read_fit(folder), json)
        return
    if folder is not None:
        raise typer.BadParameter("goes with `show` alone", param_hint="FOLDER")
    limits = fitting.Limits(
        max_latency=None if max_latency is None else parse_duration(max_latency),
        max_size=None if max_size is None else parse_bytes(max_size),
        max_macs=None if max_macs is None else parse_count(max_macs),
        max_params=None if max_params is None else parse_count(max_params),
        max_memory=None if max_memory is None else parse_bytes(max_memory),
        min_accuracy=min_accuracy,
    )
    dataset = open_dataset(data, download=download, allow_missing=allow_missing, labels=labels_per_image(several))
    note(dataset.text())
    found = fitting.fit(
        dataset, output, limits,
        models=models or None,
        seconds=None if time is None else parse_duration(time) / 1000,
        threads=1 if threads is None else threads,
        replace=force,
        notify=note,
    )  # fmt: skip
    _print(found, json)
    note(f"wrote {output}, {output}.onnx and {fitting.fit_folder(output) / 'report.html'}")


def _print(found: Fit, json: bool) -> None:
    if json:
        print_json(found)
        return
    printed = table("model", ">px", "precision", ">ms", ">accuracy", "dropped")
    for one in found.screened:
        printed.add_row(
            one.candidate.model,
            str(one.candidate.resolution),
            one.candidate.precision,
            "" if one.latency is None else f"{one.latency:.3g}",
            "" if one.accuracy is None else f"{one.accuracy:.1%}",
            one.dropped or "",
        )
    show(printed)
    if found.left:
        show(f"{found.left} candidates are not screened yet")
    show(found.answer.text() if found.answer is not None else "no answer yet: the same command goes on")
