"""`predict`: the most probable classes of images."""

from __future__ import annotations

import contextlib
import json as jsonlib
import os
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from compoundnet import data, runtime
from compoundnet.cli.options import Backend, Device, Images, Json, ModelName, Threads, top_option
from compoundnet.cli.output import note, show
from compoundnet.cli.progress import track

if TYPE_CHECKING:
    from compoundnet.runtime import ClassProbability, Failure, Prediction


def predict(
    model: ModelName,
    images: Images,
    top: Annotated[int | None, top_option(5)] = None,
    backend: Backend = None,
    threads: Threads = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Predict the classes of images. Those that cannot be read are reported and skipped."""
    from PIL import Image  # noqa: PLC0415  `--help` does not wait for it

    # Large images are read without PIL's warning; PIL rejects those of twice that size itself.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    files = data.find_images(images)
    predictor = runtime.Predictor(model, top=top, backend=backend, threads=threads, device=device)
    failures = 0
    with _json_list() if json else contextlib.nullcontext(_print_text) as write:
        for result in track(predictor.many(files), "predicting", len(files)):
            if isinstance(result, runtime.Failure):
                failures += 1
                note(f"error: {_printable(result.path)}: {result.reason}")
            write(result)
    if failures:
        note(f"{failures} of {len(files)} images could not be read")
        raise typer.Exit(1)


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
        path = _printable(result.path or "")
        if result.labels is not None:
            path = f"{path}: {', '.join(result.labels) or 'none of the labels'}"
        show("\n".join([path, *map(_line, result.predictions)]))


def _line(found: ClassProbability) -> str:
    below = "" if found.threshold is None or found.predicted else f"  (below its threshold, {found.threshold:.2%})"
    return f"  {found.probability:7.2%}  {found.index:4d}  {found.label}{below}"


def _printable(path: str) -> str:
    """Return a file's name as text that every terminal can show."""
    return os.fsencode(path).decode(errors="replace")
