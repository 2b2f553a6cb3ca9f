"""`data list`, `describe`, `check` and `shard`: the data sets that are known by name, and your own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from compoundnet import base
from compoundnet.base.image_values import parse_range
from compoundnet.cli.options import (
    AllowMissing,
    AllowTruncated,
    DataName,
    Download,
    Json,
    SeveralLabels,
    Threads,
    ValueRange,
    labels_per_image,
    output_option,
)
from compoundnet.cli.output import note, print_json, show, table
from compoundnet.cli.progress import Display
from compoundnet.data.catalogue import DatasetFacts, dataset_facts, known_datasets
from compoundnet.data.check import DataCheck, check_data
from compoundnet.data.dataset import Dataset
from compoundnet.data.lookup import open_dataset
from compoundnet.data.shards import write_shards

_LEVELS = {"stop": "error", "warning": "warning", "note": "note"}
# Examples of a finding that are printed.
_SHOWN = 5

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
    several: SeveralLabels = None,
    json: Json = False,
) -> None:
    """Describe a data set: what is published about a name, or what your copy, folder or list holds."""
    if data in known_datasets() or not (":" in data or Path(data).expanduser().exists()):
        facts = dataset_facts(data)
        if json:
            print_json(facts)
        else:
            show(*_published(facts))
        return
    dataset = open_dataset(data, allow_missing=True, labels=labels_per_image(several))
    _note_all(dataset)
    if json:
        print_json(dataset.facts())
        return
    what = "label" if dataset.multilabel else "class"
    printed = table("split", ">images", f">smallest {what}", f">largest {what}", title=dataset.name)
    for split in dataset.splits.values():
        counts = split.counts()
        printed.add_row(split.name, f"{len(split):,}", f"{counts.min():,}", f"{counts.max():,}")
    names = (
        f"{len(dataset.classes):,} labels, several an image"
        if dataset.multilabel
        else f"{len(dataset.classes):,} classes"
    )
    show(printed, f"{names}: {base.shortened(dataset.classes, 20)}")


@app.command()
def check(
    data: DataName,
    output: Annotated[Path | None, output_option("REPORT.html", "Write a report with images to this file.")] = None,
    near: Annotated[
        bool, typer.Option("--near", help="Look for near copies too: resized, compressed again, brightened.")
    ] = False,
    threads: Threads = None,
    allow_missing: AllowMissing = False,
    allow_truncated: AllowTruncated = False,
    value_range: ValueRange = None,
    several: SeveralLabels = None,
    download: Download = False,
    json: Json = False,
) -> None:
    """Open every image, compare them, and say what training will do. Exit code 1 if training would stop."""
    if output is not None:
        base.check_output_file(output)
        base.need("jinja2", "the report of `data check`", "train")
    dataset = open_dataset(data, allow_missing=allow_missing, download=download, labels=labels_per_image(several))
    if not json:
        show(dataset.text())
    reading, found_range = dataset.reading(value_range=parse_range(value_range), allow_truncated=allow_truncated)
    if found_range is not None:
        note(found_range)
    dataset = dataset.read_with(reading)
    with Display("checking", _count(dataset)) as display:
        found = check_data(dataset, near=near, workers=threads, progress=display.advance)
    if output is not None:
        from compoundnet.data.check_page import check_page  # noqa: PLC0415  only -o needs jinja2

        base.write_whole(output, check_page(found))
        note(f"wrote {output}")
    if json:
        print_json(found.fields() | {"notes": [*dataset.notes, *filter(None, [found_range])]})
    else:
        _print_check(found)
    if not found.trains:
        raise typer.Exit(1)


@app.command()
def shard(
    data: DataName,
    output: Annotated[Path, output_option("FOLDER", "Write the tar files to this new folder.")],
    megabytes: Annotated[int, typer.Option(min=1, metavar="N", help="Approximate size of each tar file.")] = 256,
    download: Download = False,
    allow_missing: AllowMissing = False,
    several: SeveralLabels = None,
    json: Json = False,
) -> None:
    """Write a data set as few large tar files (WebDataset): a cluster's file system reads them faster."""
    dataset = open_dataset(data, download=download, allow_missing=allow_missing, labels=labels_per_image(several))
    _note_all(dataset)
    with Display("writing", _count(dataset)) as display:
        folder = write_shards(dataset, output, shard_bytes=megabytes << 20, progress=display.advance)
    files = sorted(folder.glob("*.tar"))
    if json:
        print_json({"folder": str(folder), "shards": [file.name for file in files]} | dataset.facts())
        return
    note(f"wrote {folder}: {len(files)} shards, {sum(file.stat().st_size for file in files) / 1e6:,.1f} MB")


def _print_check(found: DataCheck) -> None:
    show(f"Images: {found.sizes_text()}.")
    for finding in found.findings:
        training = f": {finding.training}" if finding.training else ""
        show(f"{_LEVELS[finding.level]}: {finding.text}{training}")
        examples = [" = ".join(names) for names in finding.examples[:_SHOWN]]
        rest = max(0, len(finding.examples) - _SHOWN)
        for line in [*examples, *(["... (--json and -o list more)"] if rest else [])]:
            show(f"    {line.replace(chr(10), ' ')}")
    counts = Counter(finding.level for finding in found.findings)
    warnings = f"{counts['warning']} warning{'s' * (counts['warning'] != 1)}"
    errors = f"{counts['stop']} error{'s' * (counts['stop'] != 1)}"
    show(f"Training would {'run' if found.trains else 'stop'}: {errors}, {warnings}.")


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


def _note_all(dataset: Dataset) -> None:
    note(dataset.text())
