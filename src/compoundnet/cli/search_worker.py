"""`search worker`: one more process, on this machine or another, that works on a study."""

from __future__ import annotations

from typing import Annotated

import typer

from compoundnet import data as datasets
from compoundnet import search, train, trials
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
        typer.Option("--study", metavar="NAME", help="At a URL: the name of the folder it was started with."),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DATA", help="Where the study's pictures are on this machine.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing of finished trials.")] = False,
) -> None:
    """Join a study: work on its trials until none is left. Ctrl-C gives the trial back."""
    opened = search.open_study(storage, study)
    try:
        judge = trials.NetworkJudge(opened, datasets.open_dataset(data or opened.settings.data))
        finished = trials.work(opened, judge, notify=(lambda _: None) if quiet else note)
    except train.InterruptedRunError as error:
        note("stopped, as asked; the trial is run again by another worker")
        raise typer.Exit(3) from error
    finally:
        opened.close()
    if not quiet:
        note(f"{finished} trial{'s' * (finished != 1)} finished here; none is left")
