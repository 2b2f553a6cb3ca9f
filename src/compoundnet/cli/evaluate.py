"""`evaluate`: the accuracy of a model on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compoundnet import base, train
from compoundnet.cli.options import (
    Accelerator,
    AllowMissing,
    AllowTruncated,
    Backend,
    Batch,
    CsvFile,
    DataName,
    Decoders,
    Devices,
    Download,
    Json,
    ModelName,
    Precision,
    SeveralLabels,
    SplitName,
    Threads,
    ValueRange,
    check_suffix,
    labels_per_image,
    output_option,
)
from compoundnet.cli.output import note, print_json, show, table
from compoundnet.cli.progress import Display

if TYPE_CHECKING:
    from compoundnet.explain import Explainer
    from compoundnet.models import Model
    from compoundnet.train import Evaluation


def evaluate(
    model: ModelName,
    data: DataName,
    split: SplitName = None,
    output: Annotated[
        Path | None, output_option("RESULT.json", "Write a result file, which `reproduce --results` reads.")
    ] = None,
    by: Annotated[str, typer.Option(metavar="NAME", help="Your name, for the result file.", show_default=False)] = "",
    csv: CsvFile = None,
    mistakes: Annotated[
        Path | None,
        typer.Option(metavar="FILE.jpg", help="Draw the worst mistakes with class activation maps (.jpg or .png)."),
    ] = None,
    confusion: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the confusion matrix: a plot (.png), or a table (.csv)."),
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
    precision: Precision = None,
    threads: Threads = None,
    batch: Batch = 64,
    workers: Decoders = None,
    devices: Devices = 0,
    accelerator: Accelerator = "auto",
    download: Download = False,
    allow_missing: AllowMissing = False,
    allow_truncated: AllowTruncated = False,
    value_range: ValueRange = None,
    several: SeveralLabels = None,
    json: Json = False,
) -> None:
    """Measure a model on a data set: accuracy, precision, recall and F1 of each class, confusions, calibration."""
    from compoundnet.base.image_values import parse_range  # noqa: PLC0415  numpy and PIL, which the help does without
    from compoundnet.data import open_for_evaluation  # noqa: PLC0415  numpy and torch, which the help does without
    from compoundnet.data.image_sizes import cropped_off, image_sizes  # noqa: PLC0415
    from compoundnet.data.model_classes import labels_of  # noqa: PLC0415
    from compoundnet.models import open_model  # noqa: PLC0415
    from compoundnet.train.submission import submission as submit  # noqa: PLC0415

    _check_files(output, csv, mistakes, confusion, submission)
    opened = open_model(model)
    if confusion is not None and opened.postprocess.multilabel:
        raise base.CompoundNetError(
            f"{opened.name} gives an image any number of labels, or none; --confusion is for models that give an"
            " image one class"
        )
    # Before the evaluation: not every exported file can be explained.
    explainer = None if mistakes is None else _explainer(opened, threads)
    dataset = open_for_evaluation(
        data,
        split,
        download=download,
        allow_missing=allow_missing,
        labels=labels_per_image(several) or labels_of(opened),
    )
    reading, found_range = dataset.reading(
        value_range=parse_range(value_range) or opened.preprocess.range, allow_truncated=allow_truncated
    )
    dataset = dataset.read_with(reading)
    images = dataset.split(dataset.evaluation)
    fabric = train.launch(train.Hardware(devices, accelerator=accelerator))
    first = fabric.is_global_zero
    with Display("evaluating", len(images), quiet=not first) as display:

        def progress(count: int) -> None:
            display.advance(count * fabric.world_size)

        if submission is not None:
            content = submit(
                opened, images, fabric, devkit=devkit,
                backend=backend, precision=precision, threads=threads, batch=batch, workers=workers,
                progress=progress,
            )  # fmt: skip
        else:
            found = train.evaluate(
                opened, dataset,
                fabric=fabric, backend=backend, precision=precision, threads=threads, batch=batch, workers=workers,
                progress=progress, notify=display.note,
            )  # fmt: skip
    if not first:
        return
    unseen = cropped_off(opened.preprocess, image_sizes(images))
    found_out = [text for text in (found_range, unseen) if text is not None]
    for text in (dataset.text(), *found_out):
        note(text)
    notes = [*display.notes, *found_out]
    if submission is not None:
        base.write_whole(submission, content)
        if json:
            print_json({"submission": str(submission), "lines": len(images), "notes": notes})
        note(f"wrote {submission}: {len(images):,} lines")
        return
    if json:
        print_json(found.fields() | {"data": dataset.facts(), "notes": notes})
    else:
        _print(found)
    if output is not None:
        base.write_whole(output, found.result_file(by))
    if confusion is not None:
        _write_confusion(found, confusion)
    if csv is not None:
        found.write_images(csv)
        note(f"wrote {csv}: a row for each of {len(images):,} images")
    if explainer is not None and mistakes is not None:
        _write_mistakes(found, explainer, mistakes)


def _check_files(
    output: Path | None, csv: Path | None, mistakes: Path | None, confusion: Path | None, submission: Path | None
) -> None:
    results = {"--output": output, "--csv": csv, "--mistakes": mistakes, "--confusion": confusion}
    given = [option for option, path in results.items() if path is not None]
    if submission is not None and given:
        raise typer.BadParameter(
            f"the classes of these images are not known, so nothing is evaluated; leave out {', '.join(given)}",
            param_hint="--submission",
        )
    for path in (*results.values(), submission):
        if path is not None:
            base.check_output_file(path)
    check_suffix("--confusion", confusion, (".png", ".csv"))
    check_suffix("--mistakes", mistakes, (".jpg", ".jpeg", ".png"))


def _write_confusion(found: Evaluation, file: Path) -> None:
    if file.suffix.lower() == ".csv":
        found.write_confusion(file)
    else:
        base.write_whole(file, found.draw_confusion())


def _explainer(opened: Model, threads: int | None) -> Explainer:
    from compoundnet.explain import Explainer  # noqa: PLC0415  only the sheet needs it

    return Explainer(opened, threads=threads)


def _write_mistakes(found: Evaluation, explainer: Explainer, file: Path) -> None:
    from compoundnet.train.evaluation.mistakes import mistakes_sheet  # noqa: PLC0415  torch, as above

    page = mistakes_sheet(found, explainer)
    if page is None:
        note(f"{file} is not written: there are no mistakes")
    else:
        base.write_whole(file, page.png() if file.suffix.lower() == ".png" else page.jpeg())
        note(f"wrote {file}: the worst mistakes, the most confident first")


def _print(found: Evaluation) -> None:
    for cells in found.report.tables():
        printed = table(*cells.columns)
        for row in cells.rows:
            printed.add_row(*row)
        show(printed)
    show("\n".join(found.summary()))
