"""`search worker`: another process that works on a study, on this machine or another one."""

from __future__ import annotations

from typing import Annotated

import typer

from compoundnet import data as datasets
from compoundnet import search, train, trials
from compoundnet.cli.options import Quiet
from compoundnet.cli.output import note


def worker(
    storage: Annotated[
        str,
        typer.Option(
            "--storage",
            metavar="URL",
            envvar="COMPOUNDNET_STORAGE",
            help="postgresql://USER@HOST/DATABASE, or a STUDY folder of this machine.",
        ),
    ],
    study: Annotated[
        str | None,
        typer.Option("--study", metavar="NAME", help="The study at a URL: the name of the folder it was started with."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="DATA", help="The study's images on this machine [default: as in the study]."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Join a study and work on its trials until none is left. After Ctrl-C another worker runs the trial again."""
    opened = search.open_study(storage, study)
    try:
        judge = trials.NetworkJudge(opened, datasets.open_dataset(data or opened.settings.data))
        finished = trials.work(opened, judge, notify=(lambda _: None) if quiet else note)
    except train.InterruptedRunError as error:
        note("stopped; another worker runs the trial again")
        raise typer.Exit(3) from error
    finally:
        opened.close()
    if not quiet:
        note(f"{finished} trial{'s' * (finished != 1)} finished by this worker; none is left")
