"""`predict`: what is in pictures."""

from __future__ import annotations

import contextlib
import json as jsonlib
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from compoundnet.cli.options import Json, Threads
from compoundnet.cli.output import note, show

if TYPE_CHECKING:
    from compoundnet.runtime import Failure, Prediction

Item = TypeVar("Item")
# Fewer pictures than this are done before a progress bar could be read.
_LONG = 20


def predict(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Name of `compoundnet models list`, model folder, or exported file."),
    ],
    paths: Annotated[
        list[str], typer.Argument(metavar="IMAGE_OR_FOLDER", help="Pictures, and folders of them at any depth.")
    ],
    top: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Classes to tell of each picture; 5 unless given.")
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="onnxruntime unless given, torch, compile, openvino, or auto (the fastest but compile).",
        ),
    ] = None,
    threads: Threads = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="Where torch runs: cpu, cuda, cuda:1, mps.")] = "cpu",
    json: Json = False,
) -> None:
    """The most probable classes of pictures. One that cannot be read is reported and does not stop the others."""
    from PIL import Image

    from compoundnet import data, runtime

    # A picture that is large and no more than that is read; PIL refuses those of twice the size by itself.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    pictures = data.find_images(paths)
    predictor = runtime.Predictor(model, top=top, backend=backend, threads=threads, device=device)
    failures = 0
    with _json_list() if json else contextlib.nullcontext(_print_text) as tell:
        for result in _with_progress(predictor.many(pictures), len(pictures)):
            if isinstance(result, runtime.Failure):
                failures += 1
                note(f"error: {_printable(result.path)}: {result.reason}")
            tell(result)
    if failures:
        note(f"{failures} of {len(pictures)} pictures could not be read")
        raise typer.Exit(1)


@contextlib.contextmanager
def _json_list() -> Iterator[Callable[[Prediction | Failure], None]]:
    """Writes one JSON list item by item: it can be longer than memory should hold."""
    import msgspec

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
    from compoundnet.runtime import Prediction

    if isinstance(result, Prediction):
        lines = [f"  {found.probability:7.2%}  {found.index:4d}  {found.label}" for found in result.predictions]
        show("\n".join([_printable(result.path or ""), *lines]))


def _with_progress(items: Iterable[Item], total: int) -> Iterator[Item]:
    """The same items, with a bar on stderr where that is a terminal and the results do not scroll by on it."""
    if total < _LONG or not sys.stderr.isatty() or sys.stdout.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, "predicting", total=total, console=Console(stderr=True), transient=True)


def _printable(path: str) -> str:
    """A file's name as text that every terminal takes."""
    return os.fsencode(path).decode(errors="replace")
