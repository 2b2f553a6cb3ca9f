"""`data list`, `describe`, `verify` and `shard`: the data sets that are known by name, and checks of a person's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from compoundnet.base import CompoundNetError
from compoundnet.cli.options import Json
from compoundnet.cli.output import note, print_json, show, table
from compoundnet.data.catalogue import DatasetFacts, dataset_facts, known_datasets
from compoundnet.data.dataset import Dataset
from compoundnet.data.lookup import open_dataset
from compoundnet.data.shards import write_shards
from compoundnet.data.verification import verify as verify_dataset

app = typer.Typer(
    no_args_is_help=True, help="Data sets: what is known of them, whether yours are whole, as few large files."
)

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A name (`digits`, `food101:FOLDER`), a folder of class folders, or a manifest .csv or .parquet.",
    ),
]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Accept other numbers of pictures than the published ones.")
]
Download = Annotated[bool, typer.Option("--download", help="Fetch it where that is possible and it is not there.")]


@app.command(name="list")
def list_datasets(json: Json = False) -> None:
    """The data sets that are known by name: the paper's Table 6, ImageNet, and digits."""
    if json:
        print_json(list(known_datasets().values()))
        return
    printed = table("name", "data set", ">train", ">evaluation", ">classes", "metric", "licence", "download")
    for facts in known_datasets().values():
        evaluation = next(facts.sizes[name] for name in ("test", "val") if name in facts.sizes)
        train = f"{facts.sizes['train']:,}" if "train" in facts.sizes else "-"
        columns = (facts.metric, facts.licence, "yes" if facts.downloads else "")
        printed.add_row(facts.name, facts.title, train, f"{evaluation:,}", f"{facts.classes:,}", *columns)
    show(printed)


@app.command()
def describe(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A name of `compoundnet data list`, or DATA of your own.")
    ],
    json: Json = False,
) -> None:
    """One data set: what is published about it, or what a folder or manifest of your own holds."""
    if name in known_datasets() or not (":" in name or Path(name).expanduser().exists()):
        facts = dataset_facts(name)
        if json:
            print_json(facts)
        else:
            show(*_published(facts))
        return
    dataset = open_dataset(name, allow_missing=True)
    _say_notes(dataset)
    if json:
        print_json(_summary(dataset))
        return
    printed = table("split", ">pictures", ">fewest of a class", ">most of a class", title=dataset.name)
    for split in dataset.splits.values():
        counts = split.counts()
        printed.add_row(split.name, f"{len(split):,}", f"{counts.min():,}", f"{counts.max():,}")
    show(printed, f"{len(dataset.classes):,} classes: {_shortened(dataset.classes)}")


@app.command()
def verify(
    data: Data,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; as many as there are cores by default.")] = None,
    allow_missing: AllowMissing = False,
    download: Download = False,
    json: Json = False,
) -> None:
    """Open every picture, and name those that cannot be read. Exit code 1 where there are any."""
    dataset = open_dataset(data, allow_missing=allow_missing, download=download)
    _say_notes(dataset)
    with _progress(dataset) as advance:
        result = verify_dataset(dataset, workers=workers, progress=advance)
    if json:
        print_json(result)
    else:
        for bad in result.bad:
            show(f"{bad.split}: {bad.name}: {bad.reason}")
        show(", ".join(f"{count:,} {split}" for split, count in result.counts.items()) + " pictures opened")
    if result.bad:
        raise CompoundNetError(
            f"{len(result.bad)} of {sum(result.counts.values()):,} pictures cannot be read; repair or remove them"
        )


@app.command()
def shard(
    data: Data,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="A new folder.")],
    megabytes: Annotated[int, typer.Option(min=1, help="About how large each tar file becomes.")] = 256,
    allow_missing: AllowMissing = False,
    json: Json = False,
) -> None:
    """Write a data set as few large tar files (WebDataset), which a cluster's file system reads faster."""
    dataset = open_dataset(data, allow_missing=allow_missing)
    _say_notes(dataset)
    with _progress(dataset) as advance:
        folder = write_shards(dataset, output, shard_bytes=megabytes << 20, progress=advance)
    files = sorted(folder.glob("*.tar"))
    if json:
        print_json({"folder": str(folder), "shards": [file.name for file in files]} | _summary(dataset))
        return
    note(f"wrote {folder}: {len(files)} shards, {sum(file.stat().st_size for file in files) / 1e6:,.1f} MB")


def _published(facts: DatasetFacts) -> Iterator[str]:
    yield f"{facts.title} ({facts.name})"
    for split, size in facts.sizes.items():
        printed = f" (the paper prints {facts.printed[split]:,})" if split in facts.printed else ""
        yield f"  {split:9s}{size:,} pictures{printed}"
    yield f"  classes  {facts.classes:,}"
    yield f"  metric   {facts.metric}"
    yield f"  source   {facts.source}"
    yield f"  licence  {facts.licence}"
    yield f"  get it   {facts.get}"


def _summary(dataset: Dataset) -> dict[str, object]:
    return {
        "name": dataset.name,
        "metric": dataset.metric,
        "classes": dataset.classes,
        "splits": {
            name: {"count": len(split), "per_class": split.counts().tolist()} for name, split in dataset.splits.items()
        },
        "notes": dataset.notes,
    }


def _say_notes(dataset: Dataset) -> None:
    for text in dataset.notes:
        note(text)


def _shortened(names: tuple[str, ...], most: int = 20) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


@contextmanager
def _progress(dataset: Dataset) -> Iterator[Callable[[int], object]]:
    """A bar on stderr where that is a terminal."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("pictures", total=sum(map(len, dataset.splits.values())))
        yield lambda done: bar.advance(task, done)
