"""`data list`, `describe`, `verify` and `shard`: the data sets that are known by name, and your own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from compoundnet.base import CompoundNetError
from compoundnet.cli.options import AllowMissing, AllowTruncated, DataName, Download, Json, Threads, output_option
from compoundnet.cli.output import note, print_json, show, table
from compoundnet.cli.progress import Display
from compoundnet.data.catalogue import DatasetFacts, dataset_facts, known_datasets
from compoundnet.data.dataset import Dataset
from compoundnet.data.lookup import open_dataset
from compoundnet.data.shards import write_shards
from compoundnet.data.verification import verify as verify_dataset

app = typer.Typer(no_args_is_help=True, help="List, describe and check data sets; write them as few large files.")


@app.command(name="list")
def list_datasets(json: Json = False) -> None:
    """List the data sets that are known by name: those of the paper's Table 6, ImageNet, and digits."""
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
    data: DataName,
    json: Json = False,
) -> None:
    """Describe a data set: what is published about a name, or what your copy, folder or manifest holds."""
    if data in known_datasets() or not (":" in data or Path(data).expanduser().exists()):
        facts = dataset_facts(data)
        if json:
            print_json(facts)
        else:
            show(*_published(facts))
        return
    dataset = open_dataset(data, allow_missing=True)
    _note_all(dataset)
    if json:
        print_json(_summary(dataset))
        return
    printed = table("split", ">images", ">smallest class", ">largest class", title=dataset.name)
    for split in dataset.splits.values():
        counts = split.counts()
        printed.add_row(split.name, f"{len(split):,}", f"{counts.min():,}", f"{counts.max():,}")
    show(printed, f"{len(dataset.classes):,} classes: {_shortened(dataset.classes)}")


@app.command()
def verify(
    data: DataName,
    threads: Threads = None,
    allow_missing: AllowMissing = False,
    allow_truncated: AllowTruncated = False,
    download: Download = False,
    json: Json = False,
) -> None:
    """Open every image and name those that cannot be read. Exit code 1 if there are any."""
    dataset = open_dataset(data, allow_missing=allow_missing, download=download)
    _note_all(dataset)
    reading, found = dataset.reading(allow_truncated=allow_truncated)
    if found is not None:
        note(found)
    dataset = dataset.read_with(reading)
    with Display("verifying", _count(dataset)) as display:
        result = verify_dataset(dataset, workers=threads, progress=display.advance)
    if json:
        print_json(result)
    else:
        for bad in result.bad:
            show(f"{bad.split}: {bad.name}: {bad.reason}")
        for partial in result.damaged:
            show(f"{partial.split}: {partial.name}: {partial.reason}; used as far as it can be decoded")
        show(", ".join(f"{count:,} {split}" for split, count in result.counts.items()) + " images opened")
        if result.damaged:
            show(f"{len(result.damaged):,} of them truncated or damaged, and used as far as they can be decoded")
    if result.bad:
        raise CompoundNetError(
            f"{len(result.bad)} of {sum(result.counts.values()):,} images cannot be read; repair or remove them"
        )


@app.command()
def shard(
    data: DataName,
    output: Annotated[Path, output_option("FOLDER", "Write the tar files to this new folder.")],
    megabytes: Annotated[int, typer.Option(min=1, metavar="N", help="Approximate size of each tar file.")] = 256,
    allow_missing: AllowMissing = False,
    json: Json = False,
) -> None:
    """Write a data set as few large tar files (WebDataset): a cluster's file system reads them faster."""
    dataset = open_dataset(data, allow_missing=allow_missing)
    _note_all(dataset)
    with Display("writing", _count(dataset)) as display:
        folder = write_shards(dataset, output, shard_bytes=megabytes << 20, progress=display.advance)
    files = sorted(folder.glob("*.tar"))
    if json:
        print_json({"folder": str(folder), "shards": [file.name for file in files]} | _summary(dataset))
        return
    note(f"wrote {folder}: {len(files)} shards, {sum(file.stat().st_size for file in files) / 1e6:,.1f} MB")


def _published(facts: DatasetFacts) -> Iterator[str]:
    yield f"{facts.title} ({facts.name})"
    for split, size in facts.sizes.items():
        printed = f" (the paper prints {facts.printed[split]:,})" if split in facts.printed else ""
        yield f"  {split:9s}{size:,} images{printed}"
    yield f"  classes  {facts.classes:,}"
    yield f"  metric   {facts.metric}"
    yield f"  source   {facts.source}"
    yield f"  licence  {facts.licence}"
    yield f"  to get   {facts.get}"


def _count(dataset: Dataset) -> int:
    return sum(map(len, dataset.splits.values()))


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


def _note_all(dataset: Dataset) -> None:
    for text in dataset.notes:
        note(text)


def _shortened(names: tuple[str, ...], most: int = 20) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"
