"""The common part of commands that start a search: options, the estimate and its confirmation, the run, the output."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from compoundnet import search as searches
from compoundnet import train, trials
from compoundnet.base import CompoundNetError, format_count
from compoundnet.base.machine import cores
from compoundnet.cli.output import STOPPED, UNCONFIRMED, note
from compoundnet.cli.search_show import print_outcome

if TYPE_CHECKING:
    from compoundnet.data import Dataset
    from compoundnet.search.kinds import Search


def lasting(data: str) -> str:
    """Return DATA with an absolute path, which is valid for a worker in another folder."""
    path = Path(data).expanduser()
    return str(path.absolute()) if path.exists() else data


def search_recipe(name: str, settings: list[str] | None, *, allow_truncated: bool) -> train.Recipe:
    """Return the recipe of a search, with what the options change of it.

    Raises:
        CompoundNetError: they change the resolution of training, which is that of each network.
    """
    flags = ["allow_truncated=true"] if allow_truncated else []
    asked = train.find_recipe(name)
    recipe = train.override(asked, [*(settings or []), *flags])
    if recipe.resolution != asked.resolution or recipe.train_resolution is not None or recipe.progressive is not None:
        raise CompoundNetError(
            "a search trains each network at its own resolution: leave out resolution, train_resolution and progressive"
            " (`compoundnet scale NETWORK --resolution 64 -o small.toml` makes a smaller NETWORK)"
        )
    return recipe


def start(
    search: Search, dataset: Dataset, folder: Path, *, storage: str | None, workers: int, yes: bool, json: bool
) -> None:
    """Print the estimate, ask, run, and print what `search show` prints. A study that exists continues at once."""
    trials.check_folder(folder, storage)
    if storage is not None:
        trials.StudyDatabase(storage).close()  # fails before the estimate if the server cannot be reached
    if trials.is_begun(folder):
        note(f"continuing the study in {folder}")
    else:
        note(dataset.text())
        _confirm(search, dataset, workers, yes)
    try:
        opened = searches.run(search, dataset, folder, storage=storage, workers=workers, notify=note)
    except train.InterruptedRunError as error:
        note("stopped; the same command continues")
        raise typer.Exit(STOPPED) from error
    print_outcome(opened, json)
    opened.close()


def _confirm(search: Search, dataset: Dataset, workers: int, yes: bool) -> None:
    found = trials.estimate(search, dataset, workers)
    span = format_count(found.smallest)
    if found.largest != found.smallest:
        span += f" to {format_count(found.largest)}"
    note(
        f"{found.trials:,} trials of {found.networks:,} networks ({span} multiply-adds per image),"
        f" {format_count(round(found.macs))} multiply-adds of training, about {_duration(found.hours)} with"
        f" {workers} worker{'s' * (workers != 1)} on this machine's {cores()} cores"
    )
    if yes:
        return
    if not sys.stdin.isatty():
        note("not started: there is no terminal to ask for confirmation; give --yes to start")
        raise typer.Exit(UNCONFIRMED)
    if not typer.confirm("Start?", default=True, err=True):
        note("not started")
        raise typer.Exit(UNCONFIRMED)


def _duration(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.1f} hours"
    minutes = max(1, round(hours * 60))
    return f"{minutes} minute{'s' * (minutes != 1)}"
