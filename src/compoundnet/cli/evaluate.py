"""`evaluate`: how often a model is right."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from compoundnet import base
from compoundnet.cli.decoding import decoding_processes
from compoundnet.cli.options import Json, Threads
from compoundnet.cli.output import note, print_json, show, table

if TYPE_CHECKING:
    from compoundnet.train import Evaluation


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Name of `compoundnet models list`, model folder, or exported file.")
    ],
    data: Annotated[
        str,
        typer.Argument(metavar="DATA", help="A name of `compoundnet data list`, a folder or a manifest."),
    ],
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="train, val or test; test unless given, val where there is none. all: an undivided folder whole.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="RESULT.json", help="A result file, as `reproduce` reads them."),
    ] = None,
    by: Annotated[str, typer.Option(metavar="NAME", help="Who measures, to stand in the result file.")] = "",
    confusion: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the confusion matrix.")] = None,
    submission: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The ImageNet server's format, of imagenet-test:FOLDER."),
    ] = None,
    devkit: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="ILSVRC 2012's development kit, which numbers the classes.")
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="On a CPU onnxruntime unless given, torch, compile, openvino, or auto (the fastest but compile).",
        ),
    ] = None,
    threads: Threads = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time on each process.")] = 64,
    workers: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Processes that decode pictures, for each of those.")
    ] = None,
    devices: Annotated[int, typer.Option(min=0, help="GPUs (or CPU processes); 0: all GPUs.")] = 0,
    accelerator: Annotated[Literal["auto", "cpu", "gpu"], typer.Option(help="What to run on.")] = "auto",
    download: Annotated[bool, typer.Option("--download", help="Fetch the data set where that is possible.")] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Take a data set that differs from the published counts.")
    ] = False,
    json: Json = False,
) -> None:
    """Top-1, top-5 and mean per-class accuracy of a model on pictures, each counted once."""
    from compoundnet import train
    from compoundnet.data import open_dataset
    from compoundnet.models import open_model
    from compoundnet.train.evaluation import draw_confusion
    from compoundnet.train.results import write_result
    from compoundnet.train.submission import DEVKIT
    from compoundnet.train.submission import submission as submit

    for path in (output, confusion, submission):
        if path is not None:
            base.check_folder_of(path)
    opened = open_model(model)
    if split == "all":
        dataset = open_dataset(data, download=download, allow_missing=allow_missing, test_fraction=0)
        if len(dataset.splits) > 1:
            raise base.CompoundNetError(
                f"{dataset.name} is divided into {', '.join(dataset.splits)}: give one of them as --split"
            )
        chosen = msgspec.structs.replace(dataset.split(dataset.evaluation), name="all")
    else:
        dataset = open_dataset(data, download=download, allow_missing=allow_missing)
        chosen = dataset.split(split or dataset.evaluation)
    fabric = train.launch(train.Hardware(devices, accelerator=accelerator))
    first = fabric.is_global_zero
    if workers is None:
        workers = decoding_processes(len(chosen), worth=100)
    with _progress(len(chosen), fabric.world_size, first) as done:
        if submission is not None:
            root = devkit or Path(getattr(chosen.source, "root", ".")) / DEVKIT
            content = submit(
                opened, chosen, root, fabric,
                backend=backend, threads=threads, batch=batch, workers=workers, done=done,
            )  # fmt: skip
        else:
            found = train.evaluate(
                opened, chosen, dataset.name,
                fabric=fabric, backend=backend, threads=threads, batch=batch, workers=workers, done=done,
            )  # fmt: skip
    if not first:
        return
    for text in dataset.notes:
        note(text)
    if submission is not None:
        base.write_whole(submission, content)
        note(f"wrote {submission}: {len(chosen):,} lines")
        return
    classes = [msgspec.to_builtins(score) for score in found.classes]
    if json:
        print_json(msgspec.to_builtins(found.result) | {"split": chosen.name, "classes": classes})
    else:
        _print(found, chosen.name)
    if output is not None:
        result = msgspec.structs.replace(found.result, by=by)
        base.write_whole(output, write_result(result, split=chosen.name, classes=classes))
    if confusion is not None:
        base.write_whole(confusion, draw_confusion(found, f"{found.result.network} on {dataset.name}"))


def _print(found: Evaluation, split: str) -> None:
    printed = table("class", ">pictures", ">right", ">accuracy", "most often taken for")
    for score in found.classes:
        confused = f"{score.most_confused} ({score.times})" if score.most_confused else ""
        printed.add_row(
            score.label, f"{score.count:,}", f"{score.right:,}", f"{score.right / score.count:.1%}", confused
        )
    result = found.result
    top5 = f", top-5 {result.top5:.2%}" if result.top5 is not None else ""
    show(
        printed,
        f"{result.model} on {result.dataset} ({split}, {result.count:,} pictures): top-1 {result.top1:.2%}{top5},"
        f" mean per class {result.mean_per_class:.2%}",
    )


@contextlib.contextmanager
def _progress(pictures: int, processes: int, first: bool) -> Iterator[Callable[[int], object]]:
    """Takes how many more pictures this process has done; a bar on stderr where that is a terminal."""
    if not first or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("evaluating", total=pictures)
        yield lambda count: bar.advance(task, count * processes)
