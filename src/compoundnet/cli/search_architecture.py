"""`search architecture`: section 4 of the paper, a baseline for your own data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from compoundnet import data as datasets
from compoundnet import search, train
from compoundnet.base import parse_count
from compoundnet.cli.options import DataName, Json
from compoundnet.cli.search_start import Output, RecipeName, Settings, Storage, Workers, Yes, lasting, start


def architecture(
    data: DataName,
    target_macs: Annotated[
        str,
        typer.Option(metavar="400M", help="T: multiply-adds per image at which the cost does not change the reward."),
    ],
    exponent: Annotated[float, typer.Option(help="w of the reward ACC * (MACS / T)^w; 0 ignores the cost.")] = -0.07,
    sampler: Annotated[
        Literal["reinforce", "evolution", "nsga2", "random"] | None,
        typer.Option(help="What proposes networks [default: reinforce; with --pareto nsga2].", show_default=False),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, metavar="N", help="Networks to propose.")] = 100,
    space: Annotated[
        str, typer.Option(metavar="NAME", help="mnasnet, small (for images of 32 px), or a TOML file.")
    ] = "mnasnet",
    resolution: Annotated[
        int | None, typer.Option(min=32, metavar="PIXELS", help="The resolution of the space's base, if not its own.")
    ] = None,
    width: Annotated[float, typer.Option(help="The factor of all channels of the space's base.")] = 1.0,
    pruner: Annotated[
        Literal["median", "hyperband", "none"] | None,
        typer.Option(help="What stops trainings early [default: median; with --pareto none].", show_default=False),
    ] = None,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="Optimise accuracy and multiply-adds instead of the reward.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="The seed of the proposals, and of every network's weights.")] = 0,
    recipe: RecipeName = "proxy",
    settings: Settings = None,
    storage: Storage = None,
    workers: Workers = 1,
    output: Output = Path("study"),
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Search a network for your data: proposals from a space, each trained by the recipe, judged by accuracy and cost.

    STUDY/result.toml is the best, a NETWORK for describe, plan, scale and train. The same command continues a study.
    """
    chosen = train.override(train.find_recipe(recipe), settings or [])
    place = search.find_space(space)
    dataset = datasets.open_dataset(data)
    settled = search.ArchitectureSearch(
        # Networks are trained, and their cost counted, with a classifier of the data's classes.
        place.fitted(num_classes=len(dataset.classes), resolution=resolution, width=width), lasting(data), chosen,
        search.Objective(parse_count(target_macs), exponent), trials,
        sampler or ("nsga2" if pareto else "reinforce"), pruner or ("none" if pareto else "median"), pareto, seed,
    )  # fmt: skip
    start(settled, dataset, output, storage=storage, workers=workers, yes=yes, json=json)
