"""A finished scaling study's folder, with made-up accuracies and, where asked, models of random weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from random_net import random_net
from small_train import small_network
from told_study import told_study

from compoundnet.arch import cost
from compoundnet.models import Preprocess, write_folder
from compoundnet.search.report import write_result
from compoundnet.search.study.lines import FigureNumber, StudyLines, paper_lines
from compoundnet.search.study.settings import ScalingStudy
from compoundnet.train import find_recipe
from compoundnet.trials.measurement import TrainingJob


def figure_study(
    folder: Path,
    figure: FigureNumber,
    *,
    data: str = "digits",
    labels: Sequence[str] = "0123456789",
    lines: StudyLines | None = None,
    balanced: float = 0.1,
    finished: bool = True,
    models: bool = False,
) -> ScalingStudy:
    """Of the paper's lines by default. Gains saturate with cost; a network scaled in more than one
    dimension is `balanced` better."""
    network = small_network(num_classes=len(labels))
    search = ScalingStudy(figure, network, lines or paper_lines(figure), data, find_recipe("quick"))

    def accuracy(job: TrainingJob) -> float:
        scaling = job.network.scaling
        dimensions = (scaling.depth, scaling.width, scaling.resolution) if scaling else ()
        extra = balanced if sum(value != 1 for value in dimensions) > 1 else 0.0
        doublings = math.log2(cost(job.network).macs / cost(network).macs)
        return 0.6 + 0.2 * (1 - math.exp(-doublings)) + extra + 0.001 * (job.seed - 1)

    opened = told_study(search, folder, accuracy, trials=None if finished else 1)
    if finished:
        write_result(opened, folder)
    opened.close()
    for place in search.places() if models else ():
        size = place.network.resolution
        write_folder(
            folder / "models" / place.name,
            place.network,
            random_net(place.network).state_dict(),
            Preprocess.authors(size),
            labels=list(labels),
            readme="For tests.\n",
        )
    return search
