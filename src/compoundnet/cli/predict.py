"""`predict`: the most probable classes of images."""

from __future__ import annotations

import contextlib
import json as jsonlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from compoundnet import base, data, runtime
from compoundnet.base.progress import ignore
from compoundnet.cli.options import (
    AllowTruncated,
    Backend,
    CsvFile,
    Device,
    Images,
    Json,
    ModelName,
    Precision,
    Resume,
    Threads,
    ValueRange,
    output_option,
    top_option,
)
from compoundnet.cli.output import note, show
from compoundnet.cli.predict_shards import predict_shards
from compoundnet.cli.progress import track

if TYPE_CHECKING:
    from compoundnet.runtime import ClassProbability, Failure, Prediction


def predict(
    model: ModelName,
    images: Images,
    top: Annotated[int | None, top_option(5)] = None,
    backend: Backend = None,
    precision: Precision = None,
    threads: Threads = None,
    device: Device = "cpu",
    csv: CsvFile = None,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", metavar="FILE", help="Write the same rows as a Parquet file.")
    ] = None,
    output: Annotated[
        Path | None,
        output_option("FOLDER", "Take shards (tar files, folders, lists), and write a Parquet file for each here."),
    ] = None,
    resume: Resume = False,
    unknown_below: Annotated[
        float,
        typer.Option(
            "--unknown-below",
            min=0,
            max=1,
            metavar="P",
            help="Call an image unknown if its most probable class is less probable than P.",
            show_default="no image",
        ),
    ] = 0,
    allow_truncated: AllowTruncated = False,
    value_range: ValueRange = None,
    json: Json = False,
) -> None:
    """Predict the classes of images. Those that cannot be read are reported and skipped.

    --csv and --parquet replace the printed lines. The files are written while the
    images are predicted, and appear when all are done. -o FOLDER is for many
    images: each shard gets a file, and under torchrun or srun each process takes
    its share of the shards.
    """
    from PIL import Image  # noqa: PLC0415  `--help` does not wait for it

    from compoundnet.base.image_values import parse_range  # noqa: PLC0415  as above
    from compoundnet.data.image_sizes import cropped_off, file_sizes  # noqa: PLC0415  as above
    from compoundnet.models import open_model  # noqa: PLC0415  as above

    # Large images are read without PIL's warning; PIL rejects those of twice that size itself.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    if resume and output is None:
        raise typer.BadParameter("goes with -o FOLDER", param_hint="--resume")
    if output is not None:
        if csv is not None or parquet is not None:
            raise typer.BadParameter("writes Parquet parts; leave out --csv and --parquet", param_hint="--output")
        predict_shards(
            model, images, output, resume=resume, precision=precision, threads=threads, device=device, json=json,
            top=top, backend=backend, unknown_below=unknown_below, allow_truncated=allow_truncated,
            value_range=parse_range(value_range),
        )  # fmt: skip
        return
    written = [path for path in (csv, parquet) if path is not None]
    for path in written:
        base.check_output_file(path)
    files = data.find_images(images, notify=note)
    opened, given_range = open_model(model), parse_range(value_range)
    if given_range is None:  # before the predictor, which reads some of the images for the precision auto
        how, found_range = opened.preprocess.with_range_of(files)
        if found_range is not None:
            note(found_range)
        given_range = how.range
    predictor = runtime.Predictor(
        opened, top=top, backend=backend, precision=precision, check_on=files, threads=threads, device=device,
        unknown_below=unknown_below, allow_truncated=allow_truncated, value_range=given_range,
    )  # fmt: skip
    if predictor.session.choice is not None:
        note(predictor.session.choice.text())
    if (text := cropped_off(predictor.model.preprocess, file_sizes(files))) is not None:
        note(text)
    if unknown_below and runtime.UNKNOWN_LABEL in (predictor.model.labels or ()):
        note(f"{predictor.model.name} has a class {runtime.UNKNOWN_LABEL!r} of its own, which unknown images join")
    printing = json or not written
    with _output(json, printing) as write:

        def each(result: Prediction | Failure) -> None:
            if isinstance(result, runtime.Failure):
                note(f"error: {result.path}: {result.reason}")
            elif result.damage is not None:
                note(f"{result.path or ''}: {result.damage}; used as far as it can be decoded")
            write(result)

        tracked = track(files, "predicting", len(files), printing=printing)
        found = runtime.write_predictions(predictor, tracked, csv=csv, parquet=parquet, each=each)
    for path in written:
        note(f"wrote {path}: a row for each of {found.images:,} images")
    if unknown_below:
        note(f"{found.unknown:,} of {found.images:,} images are unknown: no class reaches {unknown_below:.4g}")
    if found.damaged:
        note(
            f"{found.damaged} of {found.images} images are truncated or damaged, and used as far as they can be decoded"
        )
    if found.failures:
        note(f"{found.failures} of {found.images} images could not be read")
        raise typer.Exit(1)


def _output(json: bool, printing: bool) -> contextlib.AbstractContextManager[Callable[[Prediction | Failure], None]]:
    if json:
        return _json_list()
    return contextlib.nullcontext(_print_text if printing else ignore)


@contextlib.contextmanager
def _json_list() -> Iterator[Callable[[Prediction | Failure], None]]:
    """Print one JSON list, item by item: it may be larger than memory."""
    separator = "["

    def add(result: Prediction | Failure) -> None:
        nonlocal separator
        fields = msgspec.to_builtins(result)
        if "reason" in fields:
            fields["error"] = fields.pop("reason")
        print(separator, jsonlib.dumps(fields), sep="\n", end="")
        separator = ","

    yield add
    print("\n]")


def _print_text(result: Prediction | Failure) -> None:
    if isinstance(result, runtime.Prediction):
        path = result.path or ""
        if result.labels is not None:
            path = f"{path}: {', '.join(result.labels) or 'none of the labels'}"
        elif result.unknown:
            path = f"{path}: {result.label}"
        show("\n".join([path, *map(_line, result.predictions)]))


def _line(found: ClassProbability) -> str:
    below = "" if found.threshold is None or found.predicted else f"  (below its threshold, {found.threshold:.2%})"
    return f"  {found.probability:7.2%}  {found.index:4d}  {found.label}{below}"
