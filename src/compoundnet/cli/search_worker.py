"""`search worker`: another process that works on a study, on this machine or another one."""

from __future__ import annotations

from typing import Annotated

import typer

from compoundnet import data as datasets
from compoundnet import search, train, trials
from compoundnet.base.machine import keep_freed_memory
from compoundnet.cli.faults import sigterm_as_ctrl_c
from compoundnet.cli.options import AllowMissing, Download, Quiet, SeveralLabels, StudyName, labels_per_image
from compoundnet.cli.output import STOPPED, note


def worker(
    storage: Annotated[
        str,
        typer.Option(
            "--storage",
            metavar="URL",
            envvar="COMPOUNDNET_STORAGE",
            help="Work on the study at postgresql://USER@HOST/DATABASE, or in a STUDY folder of this machine.",
        ),
    ],
    study: StudyName = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="DATA", help="Read the study's images here, if they are elsewhere than at its start."
        ),
    ] = None,
    download: Download = False,
    allow_missing: AllowMissing = False,
    several: SeveralLabels = None,
    quiet: Quiet = False,
) -> None:
    """Join a study, and work on its trials until none is left. Ctrl-C gives the trial back."""
    keep_freed_memory()
    opened = search.open_study(storage, study)
    with sigterm_as_ctrl_c():
        try:
            dataset = datasets.open_dataset(
                data or opened.settings.data,
                download=download,
                allow_missing=allow_missing,
                labels=labels_per_image(several),
            )
            judge = trials.NetworkJudge(opened, dataset)
            finished = trials.work(opened, judge, notify=(lambda _: None) if quiet else note)
        except (train.InterruptedRunError, KeyboardInterrupt) as error:
            note("stopped; another worker runs the trial again")
            raise typer.Exit(STOPPED) from error
        finally:
            opened.close()
    if not quiet:
        note(f"{finished} trial{'s' * (finished != 1)} finished by this worker; none is left")
