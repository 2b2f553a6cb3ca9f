"""What the commands that start a search share: their options, the cost said and confirmed, the run, what is printed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compoundnet import data as datasets
from compoundnet import search as searches
from compoundnet import train, trials
from compoundnet.base import format_count
from compoundnet.cli.output import note
from compoundnet.cli.search_show import print_outcome

if TYPE_CHECKING:
    from compoundnet.data import Dataset
    from compoundnet.search.kinds import Search

Data = Annotated[str, typer.Argument(metavar="DATA", help="A name of `compoundnet data list`, a folder or a manifest.")]
RecipeName = Annotated[str, typer.Option("--recipe", metavar="NAME", help="Of every trial: a name or a TOML file.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Another value of a recipe's field.")
]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage", metavar="URL", envvar="COMPOUNDNET_STORAGE",
        help="postgresql://USER@HOST/DATABASE, for many machines; a file in STUDY unless given.",
    ),
]  # fmt: skip
Workers = Annotated[int, typer.Option("--workers", min=1, metavar="N", help="Processes; each trains in one thread.")]
Output = Annotated[Path, typer.Option("-o", "--output", metavar="STUDY", help="The study's folder.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Start without asking, whatever it costs.")]
# The exit codes of a run that was used wrongly, and of one that was asked to stop and goes on when it is called again.
_UNCONFIRMED, _STOPPED = 2, 3


def lasting(data: str) -> str:
    """DATA as a worker started elsewhere finds it: a path from the root."""
    path = Path(data).expanduser()
    return str(path.absolute()) if path.exists() else data


def start(search: Search, folder: Path, *, storage: str | None, workers: int, yes: bool, json: bool) -> None:
    """Say what it costs, ask, run, print what `search show` prints. A study that is begun goes on without asking."""
    trials.check_folder(folder, storage)
    if storage is not None:
        trials.StudyDatabase(storage).close()  # before anyone waits or is asked: can it be reached?
    dataset = datasets.open_dataset(search.data)
    if trials.is_begun(folder):
        note(f"going on with the study in {folder}")
    else:
        _confirm(search, dataset, workers, yes)
    try:
        opened = searches.run(search, dataset, folder, storage=storage, workers=workers, notify=note)
    except train.InterruptedRunError as error:
        note("stopped, as asked; the same command goes on")
        raise typer.Exit(_STOPPED) from error
    print_outcome(opened, json)
    opened.close()


def _confirm(search: Search, dataset: Dataset, workers: int, yes: bool) -> None:
    found = trials.estimate(search, dataset, workers)
    span = format_count(found.smallest)
    if found.largest != found.smallest:
        span += f" to {format_count(found.largest)}"
    note(
        f"{found.trials:,} trials of {found.networks:,} networks ({span} multiply-adds an image),"
        f" {format_count(round(found.macs))} multiply-adds of training, about {_duration(found.hours)} with"
        f" {workers} worker{'s' * (workers != 1)} on this machine's {os.cpu_count()} cores"
    )
    if yes:
        return
    if not sys.stdin.isatty():
        note("nothing was started: there is no terminal to ask on; give --yes to start")
        raise typer.Exit(_UNCONFIRMED)
    typer.confirm("Start?", default=True, abort=True, err=True)


def _duration(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.1f} hours"
    minutes = max(1, round(hours * 60))
    return f"{minutes} minute{'s' * (minutes != 1)}"
