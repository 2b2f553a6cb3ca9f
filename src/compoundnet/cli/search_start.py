"""The common part of commands that start a search: options, the estimate and its confirmation, the run, the output."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from compoundnet import search as searches
from compoundnet import train, trials
from compoundnet.arch import canonical
from compoundnet.base import CompoundNetError, format_count
from compoundnet.base.machine import cores, keep_freed_memory
from compoundnet.cli.faults import sigterm_as_ctrl_c
from compoundnet.cli.output import STOPPED, UNCONFIRMED, note
from compoundnet.cli.search_show import print_outcome

if TYPE_CHECKING:
    from compoundnet.data import Dataset
    from compoundnet.search.kinds import Search


def lasting(data: str) -> str:
    """Return DATA with an absolute path, which is valid for a worker in another folder."""
    from compoundnet.data.catalogue import known_datasets  # noqa: PLC0415  numpy, which the help does without

    name, _, folder = data.partition(":")
    if folder and canonical(name) in known_datasets():
        return f"{name}:{Path(folder).expanduser().absolute()}"
    path = Path(data).expanduser()
    return str(path.absolute()) if path.exists() else data


def search_recipe(name: str, settings: list[str] | None, *, allow_truncated: bool) -> train.Recipe:
    """Return the recipe of a search, with what the options change of it.

    Raises:
        CompoundNetError: they set the resolution of training, which is that of each network.
    """
    flags = ["allow_truncated=true"] if allow_truncated else []
    recipe = train.override(train.find_recipe(name), [*(settings or []), *flags])
    # The included recipes have a resolution, which may be the one that is set: only the settings tell.
    is_set = any(setting.partition("=")[0].strip() == "resolution" for setting in settings or [])
    if is_set or recipe.train_resolution is not None or recipe.progressive is not None:
        raise CompoundNetError(
            "a search trains each network at its own resolution: leave out resolution, train_resolution and progressive"
            " (`compoundnet scale NETWORK --resolution 64 -o small.toml` makes a smaller NETWORK)"
        )
    if recipe.resolution is not None and name not in train.recipes():
        note(f"resolution = {recipe.resolution} of {name} is not used: a search trains each network at its own")
    return recipe


def start(
    search: Search, dataset: Dataset, folder: Path, *, storage: str | None, workers: int, yes: bool, json: bool
) -> None:
    """Print the estimate, ask, run, and print what `search show` prints. A study that exists continues at once."""
    keep_freed_memory()
    trials.check_folder(folder, storage)
    if storage is not None:
        trials.StudyDatabase(storage).close()  # fails before the estimate if the server cannot be reached
    if trials.is_begun(folder):
        note(f"continuing the study in {folder}")
    else:
        note(dataset.text())
        _confirm(search, dataset, workers, yes)
    with sigterm_as_ctrl_c():
        try:
            opened = searches.run(search, dataset, folder, storage=storage, workers=workers, notify=note)
        except (train.InterruptedRunError, KeyboardInterrupt) as error:
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
