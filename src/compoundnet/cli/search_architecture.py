"""`search architecture`: the paper's section 4, a baseline for one's own data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from compoundnet import data as datasets
from compoundnet import search, train
from compoundnet.base import CompoundNetError, parse_count
from compoundnet.cli.options import Json
from compoundnet.cli.search_start import Data, Output, RecipeName, Settings, Storage, Workers, Yes, lasting, start


def architecture(
    data: Data,
    target_macs: Annotated[
        str, typer.Option(metavar="400M", help="T: multiply-adds of an image at which cost neither adds nor takes.")
    ],
    exponent: Annotated[float, typer.Option(help="w of the reward ACC * (MACS / T)^w; 0 ignores cost.")] = -0.07,
    sampler: Annotated[
        Literal["reinforce", "evolution", "nsga2", "random"] | None,
        typer.Option(help="Who proposes networks: reinforce unless given, with --pareto nsga2.", show_default=False),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, metavar="N", help="Networks to propose.")] = 100,
    space: Annotated[
        str, typer.Option(metavar="NAME", help="mnasnet, small (for 32 px pictures), or a TOML file of one's own.")
    ] = "mnasnet",
    resolution: Annotated[
        int | None, typer.Option(min=32, metavar="PIXELS", help="Other than the space's base.")
    ] = None,
    width: Annotated[float, typer.Option(help="All channels of the space's base times this.")] = 1.0,
    pruner: Annotated[
        Literal["median", "hyperband", "none"] | None,
        typer.Option(help="Who gives networks up early: median unless given, with --pareto none.", show_default=False),
    ] = None,
    pareto: Annotated[bool, typer.Option("--pareto", help="Two values, accuracy and multiply-adds.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the proposals, and of every network's weights.")] = 0,
    recipe: RecipeName = "proxy",
    settings: Settings = None,
    storage: Storage = None,
    workers: Workers = 1,
    output: Output = Path("study"),
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Search a network for one's data: proposals from a space, each trained by the recipe, valued by accuracy and cost.

    STUDY/result.toml is the best, a NETWORK for describe, plan, scale and train. The same command again goes on.
    """
    chosen = train.override(train.find_recipe(recipe), settings or [])
    place = search.find_space(space)
    # A classifier of the data's classes is what networks are trained and counted with.
    classes = len(datasets.open_dataset(data).classes)
    try:
        settled = search.ArchitectureSearch(
            place.fitted(num_classes=classes, resolution=resolution, width=width), lasting(data), chosen,
            search.Objective(parse_count(target_macs), exponent), trials,
            sampler or ("nsga2" if pareto else "reinforce"), pruner or ("none" if pareto else "median"), pareto, seed,
        )  # fmt: skip
    except CompoundNetError:
        raise
    except ValueError as error:
        raise CompoundNetError(str(error)) from error
    start(settled, output, storage=storage, workers=workers, yes=yes, json=json)
