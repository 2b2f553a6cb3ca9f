"""`search study`: the paper's scaling studies (Figures 3, 4, 8) on one's own network and data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from compoundnet import data as datasets
from compoundnet import search, train, zoo
from compoundnet.base import CompoundNetError, read_toml
from compoundnet.cli.options import Json, NetworkName
from compoundnet.cli.search_start import Data, Output, RecipeName, Settings, Storage, Workers, Yes, lasting, start


def study(
    network: NetworkName,
    data: Data,
    figure: Annotated[
        int,
        typer.Option(
            metavar="3|4|8",
            help="3: one dimension at a time; 4: width on four baselines; 8: each way at equal cost (Table 7).",
        ),
    ],
    seeds: Annotated[int, typer.Option(min=1, metavar="K", help="Trainings of each network, for the intervals.")] = 3,
    seed: Annotated[int, typer.Option(help="The first of them.")] = 0,
    budgets: Annotated[
        str | None,
        typer.Option(metavar="2,4,8", help="Figure 8 at these multiples of the baseline's cost, matched."),
    ] = None,
    points: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Other multipliers than the paper's, as TOML; docs/search.md has one."),
    ] = None,
    recipe: RecipeName = "quick",
    settings: Settings = None,
    storage: Storage = None,
    workers: Workers = 1,
    output: Output = Path("study"),
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Train a network scaled in the ways a figure of the paper compares; say whether the paper's observations hold.

    Every network is trained alike and judged on the test pictures. Figure 8 keeps its networks in STUDY/models, for
    `compoundnet explain`. The same command again goes on where it stopped.
    """
    known: dict[int, Any] = {3: 3, 4: 4, 8: 8}
    if figure not in known:
        raise typer.BadParameter(f"must be 3, 4 or 8, got {figure}", param_hint="--figure")
    if budgets is not None and figure != 8:
        raise typer.BadParameter("is for --figure 8, which compares at equal cost", param_hint="--budgets")
    chosen = train.override(train.find_recipe(recipe), settings or [])
    # A classifier of the data's classes is what costs are matched with.
    baseline = zoo.find_scalable(network).replace(num_classes=len(datasets.open_dataset(data).classes))
    lines = read_toml(points, search.StudyLines) if points is not None else search.paper_lines(known[figure])
    if budgets is not None:
        lines = search.at_budgets(baseline, lines, _numbers(budgets))
    settled = search.ScalingStudy(known[figure], baseline, lines, lasting(data), chosen, seeds, seed)
    start(settled, output, storage=storage, workers=workers, yes=yes, json=json)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise CompoundNetError(f"--budgets {text}: expected multiples of the baseline's cost, such as 2,4,8") from None
