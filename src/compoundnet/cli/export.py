"""`export`: a model as one file for another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compoundnet.base import format_bytes
from compoundnet.cli.options import Json
from compoundnet.cli.output import print_json, show

if TYPE_CHECKING:
    from compoundnet.runtime import Export


def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A name of `compoundnet models list`, or a model folder.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="Ends in .onnx, .xml (openvino) or .pt2 (torch).")
    ],
    file_format: Annotated[
        str, typer.Option("--format", metavar="NAME", help="onnx, openvino or torch (torch.export).")
    ] = "onnx",
    dynamic_batch: Annotated[
        bool, typer.Option("--dynamic-batch", help="Any number of pictures at a time, instead of one.")
    ] = False,
    dynamic_size: Annotated[
        bool, typer.Option("--dynamic-size", help="Any picture size from 32 px, instead of the model's own.")
    ] = False,
    with_cam: Annotated[
        bool, typer.Option("--with-cam", help="Keep the last feature map as a second output: for `explain`. ONNX only.")
    ] = False,
    precision: Annotated[
        str, typer.Option(metavar="NAME", help="float32, float16, or int8, which needs --calibrate.")
    ] = "float32",
    calibrate: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Pictures for int8: some hundred like those it will see.")
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="What to compare with torch on; --calibrate's, or generated ones, unless given."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write a model to one file, which `predict` takes as a MODEL, and say how far it is from torch."""
    from compoundnet import runtime

    done = runtime.export(
        model,
        output,
        format=file_format,
        dynamic_batch=dynamic_batch,
        dynamic_size=dynamic_size,
        with_cam=with_cam,
        precision=precision,
        calibrate=calibrate,
        pictures=pictures,
    )
    if json:
        print_json(done)
    else:
        show(_told(done))


def _told(done: Export) -> str:
    what = f"{done.pictures} {'generated ' if done.generated else ''}picture{'' if done.pictures == 1 else 's'}"
    lines = [
        f"wrote {done.file}: {done.format}, {done.precision}, {format_bytes(done.bytes)}",
        f"input: {'any number of pictures' if done.dynamic_batch else 'one picture'} of"
        f" {'any size from 32 px' if done.dynamic_size else f'{done.size} px'}",
        f"largest difference from torch on noise and {what}: {done.difference:.2g} of the largest logit"
        + (f" (limit {done.limit:g})" if done.limit else ""),
    ]
    if done.features:
        lines.append("second output: features, which `compoundnet explain` makes maps of")
    if done.agreement is not None:
        lines.append(f"same best class as torch on {done.agreement:.1%} of them")
    return "\n".join(lines)
