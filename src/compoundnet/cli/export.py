"""`export`: a model as one file for another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from compoundnet import runtime
from compoundnet.base import format_bytes
from compoundnet.cli.options import (
    FORMAT_HELP,
    MAX_DROP_HELP,
    AllowMissing,
    AllowTruncated,
    Download,
    Json,
    SeveralLabels,
    ValueRange,
    complete_model,
    drop_of,
    labels_per_image,
    output_option,
)
from compoundnet.cli.output import note, print_json, show

if TYPE_CHECKING:
    from compoundnet.data import Dataset
    from compoundnet.data.label_cells import LabelsPerImage
    from compoundnet.runtime import AccuracyFloor, Export


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A name from `compoundnet models list`, or a model folder.",
            autocompletion=complete_model,
        ),
    ],
    file: Annotated[
        Path,
        output_option(
            "FILE", "Write this file: .onnx, .xml (openvino), .pt2 (torch), .tflite (litert) or .mlpackage (coreml)."
        ),
    ],
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help=FORMAT_HELP,
            show_default="by the suffix of FILE",
        ),
    ] = None,
    dynamic_batch: Annotated[
        bool, typer.Option("--dynamic-batch", help="Accept any number of images at a time, instead of one.")
    ] = False,
    dynamic_size: Annotated[
        bool, typer.Option("--dynamic-size", help="Accept images of any size from 32 px, instead of the model's own.")
    ] = False,
    with_cam: Annotated[
        bool, typer.Option("--with-cam", help="Add the last feature map as an output, for `explain`. ONNX only.")
    ] = False,
    with_preprocessing: Annotated[
        bool,
        typer.Option(
            "--with-preprocessing",
            help="Read RGB images uint8[H, W, 3] of any size, and give probabilities. ONNX only.",
        ),
    ] = False,
    opset: Annotated[
        int | None, typer.Option(metavar="N", help="ONNX's, 13 to 21, for older runtimes.", show_default="18")
    ] = None,
    precision: Annotated[
        str, typer.Option(metavar="NAME", help="float32, float16 or int8. int8 needs --calibrate.")
    ] = "float32",
    calibrate: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Calibrate int8 on these images: a few hundred like those it will see."),
    ] = None,
    max_drop: Annotated[
        str | None,
        typer.Option(
            metavar="P%",
            help=MAX_DROP_HELP,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",  # spelled out, as in train
            metavar="DATA",
            help="Labelled images for --max-drop: the test split, else val, else all.",
        ),
    ] = None,
    download: Download = False,
    allow_missing: AllowMissing = False,
    allow_truncated: AllowTruncated = False,
    value_range: ValueRange = None,
    several: SeveralLabels = None,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Compare with torch on these images.",
            show_default="those of --calibrate, or generated ones",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write a model to one file that `predict` takes as a MODEL, and measure its difference from torch."""
    of_data = {
        "--download": download,
        "--allow-missing": allow_missing,
        "--allow-truncated": allow_truncated,
        "--range": value_range is not None,
        "--several-labels" if several else "--one-class": several is not None,
    }
    for option, given in of_data.items():
        if given and data is None:
            raise typer.BadParameter("says how labelled images are read: give it with --data", param_hint=option)
    if data is not None and max_drop is None:
        raise typer.BadParameter("is for --max-drop, which measures accuracy on it", param_hint="--data")
    notes: list[str] = []

    def keep(text: str) -> None:
        notes.append(text)
        note(text)

    labelled = (
        None
        if data is None
        else _labelled(
            data,
            labels_per_image(several),
            value_range,
            download=download,
            missing=allow_missing,
            truncated=allow_truncated,
        )
    )
    done = runtime.export(
        model,
        file,
        format=file_format,
        dynamic_batch=dynamic_batch,
        dynamic_size=dynamic_size,
        with_cam=with_cam,
        with_preprocessing=with_preprocessing,
        opset=opset,
        precision=precision,
        calibrate=calibrate,
        max_drop=None if max_drop is None else drop_of(max_drop),
        data=labelled,
        images=images,
        notify=keep,
    )
    if json:
        print_json(msgspec.structs.asdict(done) | {"notes": notes})
    else:
        show(_text(done))


def _labelled(
    data: str, labels: LabelsPerImage | None, value_range: str | None, *, download: bool, missing: bool, truncated: bool
) -> Dataset:
    """Open the labelled images; those of --max-drop have one class each, unless the user says otherwise."""
    from compoundnet.base.image_values import parse_range  # noqa: PLC0415  numpy and PIL, which the help does without
    from compoundnet.base.images import Reading  # noqa: PLC0415  as above
    from compoundnet.data import open_dataset  # noqa: PLC0415  as above

    dataset = open_dataset(data, test_fraction=0, download=download, allow_missing=missing, labels=labels or "one")
    return dataset.read_with(Reading(parse_range(value_range), truncated))


def _text(done: Export) -> str:
    images = f"{done.images} {'generated ' if done.generated else ''}image{'s' * (done.images != 1)}"
    lines = [
        f"wrote {done.file}: {done.format}{f' opset {done.opset}' if done.opset else ''}, {done.precision},"
        f" {format_bytes(done.bytes)}",
        f"input: {_input(done)}",
        *([f"calibrated on {done.calibrated:,} image{'s' * (done.calibrated != 1)}"] if done.calibrated else []),
        "not run here: Core ML runs on macOS and iOS; the input, the numbers of layers and the size of the weights were"
        " compared with the network"
        if done.difference is None
        else f"largest difference from torch on noise and {images}: {done.difference:.2g} of the largest logit"
        + (f" (limit {done.limit:g})" if done.limit else ""),
    ]
    if done.features:
        lines.append("second output: the features that `compoundnet explain` makes maps of")
    if done.agreement is not None:
        same = "labels" if done.multilabel else "most probable class"
        lines.append(f"same {same} as torch on {done.agreement:.1%} of them")
    if done.floor is not None:
        lines += _floor(done.floor)
    if done.probability_difference is not None:
        lines.append(
            f"output: probabilities, which differ by {done.probability_difference:.2g} at most from those of `predict`"
        )
    return "\n".join(lines)


def _floor(floor: AccuracyFloor) -> list[str]:
    kept = len(floor.float32_layers)
    return [
        f"accuracy on {floor.images:,} labelled images ({floor.split}): {floor.accuracy:.2%}, in float32"
        f" {floor.float32_accuracy:.2%}; a drop of {floor.drop:.2%} (at most {floor.max_drop:.2%})",
        f"{floor.layers - kept} of {floor.layers} layers are int8"
        + (f"; in float32, the most sensitive first: {', '.join(floor.float32_layers[:5])}" if kept else "")
        + (f" and {kept - 5} more" if kept > 5 else ""),
        f"one image takes {floor.time:.2f} times as long as in float32, on one thread",
    ]


def _input(done: Export) -> str:
    if done.with_preprocessing:
        return "one RGB image of any size, uint8[H, W, 3]"
    count = "any number of images" if done.dynamic_batch else "one image"
    return f"{count} of {'any size from 32 px' if done.dynamic_size else f'{done.size} px'}"
