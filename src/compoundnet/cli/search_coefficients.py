"""`search coefficients`: STEP 1 of the paper's section 4."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compoundnet import data as datasets
from compoundnet import search, trials, zoo
from compoundnet.cli.options import (
    AllowMissing,
    AllowTruncated,
    DataName,
    Download,
    Json,
    NetworkName,
    RecipeName,
    Seed,
    Seeds,
    Settings,
    SeveralLabels,
    Storage,
    StudyFolder,
    TrialWorkers,
    Yes,
    labels_per_image,
)
from compoundnet.cli.output import note
from compoundnet.cli.search_start import lasting, search_recipe, start


def coefficients(
    network: NetworkName,
    data: DataName,
    grid: Annotated[
        str, typer.Option(metavar="LOW:HIGH:STEP", help="Values of alpha, beta and gamma to try.")
    ] = "1.0:1.4:0.05",
    tolerance: Annotated[
        str, typer.Option(metavar="T", help="Largest distance of alpha * beta^2 * gamma^2 from 2.")
    ] = "0.1",
    phi: Annotated[float, typer.Option(help="Compare the points at this compound coefficient.")] = 1.0,
    seeds: Seeds = 1,
    seed: Seed = 0,
    recipe: RecipeName = "proxy",
    settings: Settings = None,
    download: Download = False,
    allow_missing: AllowMissing = False,
    allow_truncated: AllowTruncated = False,
    several: SeveralLabels = None,
    storage: Storage = None,
    workers: TrialWorkers = 1,
    output: StudyFolder = Path("study"),
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Find alpha, beta and gamma of a baseline (STEP 1): train a network for every point of a grid, and rank them.

    STEP 2 is `compoundnet scale --coefficients STUDY/result.toml --phi P`.
    To continue after an interruption, give the same command again.
    """
    chosen = search_recipe(recipe, settings, allow_truncated=allow_truncated)
    dataset = datasets.open_dataset(
        data, download=download, allow_missing=allow_missing, labels=labels_per_image(several)
    )
    # Networks are trained, and their cost counted, with a classifier of the data's classes.
    baseline = zoo.find_scalable(network).replace(num_classes=len(dataset.classes))
    settled = search.CoefficientSearch(
        baseline, lasting(data), chosen, grid, tolerance, phi=phi, seeds=seeds, seed=seed
    )
    for point in settled.points if not trials.is_begun(output) else ():
        if point.note:
            note(point.note)
    start(settled, dataset, output, storage=storage, workers=workers, yes=yes, json=json)
