"""`evaluate`: the accuracy of a model on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compoundnet import base, train
from compoundnet.cli.options import (
    Accelerator,
    AllowMissing,
    Backend,
    Batch,
    DataName,
    Decoders,
    Devices,
    Download,
    Json,
    ModelName,
    Threads,
    output_option,
)
from compoundnet.cli.output import note, print_json, show, table
from compoundnet.cli.progress import Display

if TYPE_CHECKING:
    from compoundnet.train import Evaluation


def evaluate(
    model: ModelName,
    data: DataName,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="train, val or test; all: the whole of a folder that has no splits.",
            show_default="test, or val where there is none",
        ),
    ] = None,
    output: Annotated[
        Path | None, output_option("RESULT.json", "Write a result file, which `reproduce --results` reads.")
    ] = None,
    by: Annotated[str, typer.Option(metavar="NAME", help="Your name, for the result file.", show_default=False)] = "",
    confusion: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the confusion matrix into this file.")
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Predict imagenet-test:FOLDER and write this file in the ImageNet server's format."
        ),
    ] = None,
    devkit: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="ILSVRC 2012's development kit, which numbers the classes of --submission.",
            show_default="in DATA's folder",
        ),
    ] = None,
    backend: Backend = None,
    threads: Threads = None,
    batch: Batch = 64,
    workers: Decoders = None,
    devices: Devices = 0,
    accelerator: Accelerator = "auto",
    download: Download = False,
    allow_missing: AllowMissing = False,
    json: Json = False,
) -> None:
    """Measure a model's top-1, top-5 and mean per-class accuracy on a data set."""
    from compoundnet.data import open_for_evaluation  # noqa: PLC0415  numpy and torch, which the help does without
    from compoundnet.models import open_model  # noqa: PLC0415
    from compoundnet.train.submission import submission as submit  # noqa: PLC0415

    for path in (output, confusion, submission):
        if path is not None:
            base.check_folder_of(path)
    opened = open_model(model)
    dataset = open_for_evaluation(data, split, download=download, allow_missing=allow_missing)
    images = dataset.split(dataset.evaluation)
    fabric = train.launch(train.Hardware(devices, accelerator=accelerator))
    first = fabric.is_global_zero
    with Display("evaluating", len(images), quiet=not first) as display:

        def progress(count: int) -> None:
            display.advance(count * fabric.world_size)

        if submission is not None:
            content = submit(
                opened, images, fabric, devkit=devkit,
                backend=backend, threads=threads, batch=batch, workers=workers, progress=progress,
            )  # fmt: skip
        else:
            found = train.evaluate(
                opened, dataset,
                fabric=fabric, backend=backend, threads=threads, batch=batch, workers=workers, progress=progress,
            )  # fmt: skip
    if not first:
        return
    for text in dataset.notes:
        note(text)
    if submission is not None:
        base.write_whole(submission, content)
        if json:
            print_json({"submission": str(submission), "lines": len(images)})
        note(f"wrote {submission}: {len(images):,} lines")
        return
    if json:
        print_json(found.fields())
    else:
        _print(found)
    if output is not None:
        base.write_whole(output, found.result_file(by))
    if confusion is not None:
        base.write_whole(confusion, found.draw_confusion())


def _print(found: Evaluation) -> None:
    printed = table("class", ">images", ">correct", ">accuracy", "most often confused with")
    for score in found.classes:
        confused = f"{score.most_confused} ({score.times})" if score.most_confused else ""
        printed.add_row(
            score.label, f"{score.count:,}", f"{score.right:,}", f"{score.right / score.count:.1%}", confused
        )
    result = found.result
    top5 = f", top-5 {result.top5:.2%}" if result.top5 is not None else ""
    show(
        printed,
        f"{result.model} on {result.dataset} ({found.split}, {result.count:,} images): top-1 {result.top1:.2%}{top5},"
        f" mean per class {result.mean_per_class:.2%}",
    )
