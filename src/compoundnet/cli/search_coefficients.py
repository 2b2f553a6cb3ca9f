"""`search coefficients`: STEP 1 of the paper's section 4."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compoundnet import data as datasets
from compoundnet import search, train, trials, zoo
from compoundnet.base import CompoundNetError
from compoundnet.cli.options import Json, NetworkName
from compoundnet.cli.output import note
from compoundnet.cli.search_start import Data, Output, RecipeName, Settings, Storage, Workers, Yes, lasting, start


def coefficients(
    network: NetworkName,
    data: Data,
    grid: Annotated[
        str, typer.Option(metavar="LOW:HIGH:STEP", help="Of each of alpha, beta and gamma.")
    ] = "1.0:1.4:0.05",
    tolerance: Annotated[
        str, typer.Option(metavar="T", help="How far alpha * beta^2 * gamma^2 may be from 2.")
    ] = "0.1",
    phi: Annotated[float, typer.Option(help="Compound coefficient at which the points are compared.")] = 1.0,
    seeds: Annotated[int, typer.Option(min=1, metavar="K", help="Trainings of each network, averaged.")] = 1,
    seed: Annotated[int, typer.Option(help="The first of them.")] = 0,
    recipe: RecipeName = "proxy",
    settings: Settings = None,
    storage: Storage = None,
    workers: Workers = 1,
    output: Output = Path("study"),
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Find alpha, beta and gamma of a baseline (STEP 1): train every point of a grid, rank by held-out accuracy.

    STEP 2 is `compoundnet scale --coefficients STUDY/result.toml --phi P`. The same command again goes on.
    """
    chosen = train.override(train.find_recipe(recipe), settings or [])
    # A classifier of the data's classes is what networks are trained and counted with.
    baseline = zoo.find_scalable(network).replace(num_classes=len(datasets.open_dataset(data).classes))
    try:
        settled = search.CoefficientSearch(
            baseline, lasting(data), chosen, grid, tolerance, phi=phi, seeds=seeds, seed=seed
        )
    except CompoundNetError:
        raise
    except ValueError as error:
        raise CompoundNetError(str(error)) from error
    for point in settled.points if not trials.is_begun(output) else ():
        if point.note:
            note(point.note)
    start(settled, output, storage=storage, workers=workers, yes=yes, json=json)
