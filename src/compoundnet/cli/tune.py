"""`models tune`: the precisions of a model, measured on labelled images and recorded in its folder."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from compoundnet.cli.options import (
    AllowMissing,
    AllowTruncated,
    DataName,
    Decoders,
    Device,
    Download,
    Json,
    SeveralLabels,
    SplitName,
    Threads,
    ValueRange,
    complete_model,
    labels_per_image,
)
from compoundnet.cli.output import note, print_json, show, table
from compoundnet.cli.progress import Display


def tune(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A name from `compoundnet models list`, or a model folder.",
            autocompletion=complete_model,
        ),
    ],
    data: DataName,
    split: SplitName = None,
    least_agreement: Annotated[
        float,
        typer.Option(
            "--least-agreement",
            min=0,
            max=1,
            metavar="P",
            help="Use precisions that predict what float32 predicts on at least this fraction of the images.",
        ),
    ] = 0.99,
    threads: Threads = None,
    device: Device = "cpu",
    workers: Decoders = None,
    download: Download = False,
    allow_missing: AllowMissing = False,
    allow_truncated: AllowTruncated = False,
    value_range: ValueRange = None,
    several: SeveralLabels = None,
    json: Json = False,
) -> None:
    """Measure the agreement and accuracy of each precision on labelled images, and record them in the model folder.

    int8 is calibrated on 200 training images. From then on predict, evaluate and serve --api
    run the model in the fastest precision that agrees with float32.
    """
    from compoundnet import data as datasets  # noqa: PLC0415  numpy and torch, which the help does without
    from compoundnet import train  # noqa: PLC0415  as above
    from compoundnet.base.image_values import parse_range  # noqa: PLC0415  as above
    from compoundnet.base.images import Reading  # noqa: PLC0415  as above
    from compoundnet.data.model_classes import labels_of  # noqa: PLC0415  as above
    from compoundnet.models import open_folder  # noqa: PLC0415  as above

    opened, labels = open_folder(model), labels_per_image(several)
    labels = labels or labels_of(opened)
    if split == "all":
        dataset = datasets.open_for_evaluation(
            data, "all", download=download, allow_missing=allow_missing, labels=labels
        )
    else:
        dataset = datasets.open_dataset(data, download=download, allow_missing=allow_missing, labels=labels)
    dataset = dataset.read_with(Reading(parse_range(value_range), allow_truncated))
    note(dataset.text())
    chosen = split or dataset.evaluation
    with Display("measuring", len(dataset.split(chosen))) as display:
        found = train.tune(
            opened, dataset, split=chosen, least_agreement=least_agreement, threads=threads, device=device,
            workers=workers, progress=display.advance, notify=display.note,
        )  # fmt: skip
    if json:
        print_json(msgspec.structs.asdict(found) | {"notes": [*dataset.notes, *display.notes]})
    else:
        printed = table("backend", "precision", ">agreement", ">accuracy", ">ms", "used")
        for way, milliseconds in zip(found.tuning.ways, found.milliseconds, strict=True):
            printed.add_row(
                way.backend,
                way.precision,
                f"{way.agreement:.2%}",
                f"{way.accuracy:.2%}",
                f"{milliseconds:.2f}",
                "yes" if way.agreement >= least_agreement else "no",
            )
        show(
            printed,
            f"{found.tuning.images:,} images of {found.tuning.data}; batches of 8 on {found.threads} threads.\n"
            f"used: predicts what float32 predicts on at least {least_agreement:.2%} of the images.",
        )
    note(f"wrote precision.toml{' and int8.onnx' if found.calibration else ''} into {found.folder}")
