"""`search study`: the paper's scaling studies (Figures 3, 4, 8) on your own network and data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from compoundnet import data as datasets
from compoundnet import search, zoo
from compoundnet.base import CompoundNetError, read_toml
from compoundnet.cli.options import (
    AllowMissing,
    AllowTruncated,
    CoefficientsFile,
    DataName,
    Download,
    Json,
    NetworkName,
    RecipeName,
    RuleName,
    Seed,
    Seeds,
    Settings,
    SeveralLabels,
    Storage,
    StudyFolder,
    TrialWorkers,
    WidthShare,
    Yes,
    chosen_rule,
    labels_per_image,
)
from compoundnet.cli.output import note
from compoundnet.cli.search_start import lasting, search_recipe, start


def study(
    network: NetworkName,
    data: DataName,
    figure: Annotated[
        int,
        typer.Option(
            metavar="3|4|8",
            help="3: one dimension at a time; 4: width on four baselines; 8: each way at equal cost (Table 7).",
        ),
    ],
    seeds: Seeds = 3,
    seed: Seed = 0,
    budgets: Annotated[
        str | None,
        typer.Option(metavar="2,4,8", help="Match Figure 8's networks at these multiples of the baseline's cost."),
    ] = None,
    rule: RuleName = None,
    width_share: WidthShare = None,
    coefficients: CoefficientsFile = None,
    points: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Read other multipliers than the paper's from this TOML file (see docs/search.md)."
        ),
    ] = None,
    recipe: RecipeName = "quick",
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
    """Train a network scaled in the ways that a figure of the paper compares, and test the paper's observations.

    All networks are trained alike and compared on the test images. Figure 8 keeps its networks in STUDY/models,
    for `compoundnet explain`, but not with --storage; --rule or --coefficients adds a line of that rule to it.
    To continue after an interruption, give the same command again.
    """
    known: dict[int, Any] = {3: 3, 4: 4, 8: 8}
    if figure not in known:
        raise typer.BadParameter(f"must be 3, 4 or 8, got {figure}", param_hint="--figure")
    if budgets is not None and figure != 8:
        raise typer.BadParameter("is for --figure 8, which compares at equal cost", param_hint="--budgets")
    added = chosen_rule(rule, width_share, coefficients)
    if added is not None and figure != 8:
        raise typer.BadParameter("is for --figure 8, which compares at equal cost", param_hint="--rule")
    chosen = search_recipe(recipe, settings, allow_truncated=allow_truncated)
    dataset = datasets.open_dataset(
        data, download=download, allow_missing=allow_missing, labels=labels_per_image(several)
    )
    # Costs are matched, and networks trained, with a classifier of the data's classes.
    baseline = zoo.find_scalable(network).replace(num_classes=len(dataset.classes))
    lines = read_toml(points, search.StudyLines) if points is not None else search.paper_lines(known[figure])
    if budgets is not None:
        lines = search.at_budgets(baseline, lines, _numbers(budgets))
    if added is not None:
        lines = search.with_rule(baseline, lines, added)
    settled = search.ScalingStudy(known[figure], baseline, lines, lasting(data), chosen, seeds, seed)
    if figure == 8 and storage is not None:
        from compoundnet.search.study.settings import NO_MODELS  # noqa: PLC0415  loads much that --help does not need

        note(NO_MODELS)
    start(settled, dataset, output, storage=storage, workers=workers, yes=yes, json=json)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise CompoundNetError(f"--budgets {text}: expected multiples of the baseline's cost, such as 2,4,8") from None
