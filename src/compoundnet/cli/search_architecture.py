"""`search architecture`: section 4 of the paper, a baseline for your own data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from compoundnet import data as datasets
from compoundnet import search
from compoundnet.base import parse_count
from compoundnet.cli.options import (
    AllowMissing,
    AllowTruncated,
    DataName,
    Download,
    Json,
    RecipeName,
    Seed,
    Settings,
    SeveralLabels,
    Storage,
    StudyFolder,
    TrialWorkers,
    Yes,
    labels_per_image,
)
from compoundnet.cli.search_start import lasting, search_recipe, start


def architecture(
    data: DataName,
    target_macs: Annotated[
        str, typer.Option(metavar="400M", help="T of the reward: multiply-adds per image that leave it unchanged.")
    ],
    exponent: Annotated[float, typer.Option(help="w of the reward ACC * (MACS / T)^w. 0: ignore the cost.")] = -0.07,
    sampler: Annotated[
        Literal["reinforce", "evolution", "nsga2", "random"] | None,
        typer.Option(help="What proposes networks.", show_default="reinforce; nsga2 with --pareto"),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, metavar="N", help="Number of networks to propose.")] = 100,
    space: Annotated[
        str, typer.Option(metavar="NAME", help="Search space: mnasnet, small (for images of 32 px), or a TOML file.")
    ] = "mnasnet",
    resolution: Annotated[
        int | None, typer.Option(min=32, metavar="PIXELS", help="Side of the input.", show_default="the space's")
    ] = None,
    width: Annotated[float, typer.Option(help="Multiply the channels of the space by this.")] = 1.0,
    pruner: Annotated[
        Literal["median", "hyperband", "none"] | None,
        typer.Option(help="What stops bad trials early.", show_default="median; none with --pareto"),
    ] = None,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="Optimise accuracy and multiply-adds as two values.")
    ] = False,
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
    """Search a network for a data set: train proposals from a space, and reward accuracy at low cost.

    STUDY/result.toml is the best one, a NETWORK for describe, plan, scale and train.
    To continue after an interruption, give the same command again.
    """
    chosen = search_recipe(recipe, settings, allow_truncated=allow_truncated)
    place = search.find_space(space)
    dataset = datasets.open_dataset(
        data, download=download, allow_missing=allow_missing, labels=labels_per_image(several)
    )
    settled = search.ArchitectureSearch(
        # Networks are trained, and their cost counted, with a classifier of the data's classes.
        place.fitted(num_classes=len(dataset.classes), resolution=resolution, width=width), lasting(data), chosen,
        search.Objective(parse_count(target_macs), exponent), trials,
        sampler or ("nsga2" if pareto else "reinforce"), pruner or ("none" if pareto else "median"), pareto, seed,
    )  # fmt: skip
    start(settled, dataset, output, storage=storage, workers=workers, yes=yes, json=json)
