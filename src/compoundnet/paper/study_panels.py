"""A scaling study of the user as a panel of a figure, and its verdict on the claim of the figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compoundnet.paper.reproduction import Verdict
from compoundnet.search.study.plot import data_name, draw_curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from compoundnet.search.study.folder import StudyFolder

HEIGHT = 4.0  # inches


def study_points(study: StudyFolder) -> list[dict[str, Any]]:
    """Return the results of a study as plain data: accuracies as fractions, intervals of 95 % confidence."""
    return [
        {
            "measured in": str(study.folder),
            "line": line.name,
            "network": place.network.name,
            "macs": row.macs,
            "top1": row.accuracy.mean,
            "top1_low": row.accuracy.low,
            "top1_high": row.accuracy.high,
            "seeds": len(row.accuracies),
        }
        for line in study.study.lines.lines
        for place in study.study.curve(line.name)
        if (row := study.row(place)) is not None and row.accuracy is not None
    ]


def draw_panel(axes: Axes, study: StudyFolder) -> None:
    """Draw a study in the style of `search study`, with its network, data and seeds as the title."""
    axes.set_title(
        f"Measured here: {study.study.network.name} on {data_name(study.study)}, {_seeds(study)}", fontsize=12
    )
    if draw_curves(axes, study.study, study.summary):
        axes.legend(frameon=False, loc="lower right")


def judge(number: int, studies: Sequence[StudyFolder]) -> tuple[Verdict, str]:
    """Judge the claim of Figure 3, 4 or 8 by the last finished study of it: (verdict, reason).

    Figure 3 claims the paper's Observation 1, Figures 4 and 8 its Observation 2.
    """
    command = f"compoundnet search study NETWORK DATA --figure {number} -o RESULTS/figure{number}"
    done = [study for study in studies if study.summary is not None]
    if not done:
        unfinished = f"{studies[-1].folder} is not finished: run the same command to continue. " if studies else ""
        return "needs data", f"{unfinished}It takes trainings: {command}"
    study = done[-1]
    assert study.summary is not None
    wanted = 1 if number == 3 else 2
    observation = next((one for one in study.summary.observations if one.number == wanted), None)
    where = f"Of {study.study.network.name} on {data_name(study.study)}, {_seeds(study)}: "
    if observation is None or observation.holds is None:
        verdict = observation.verdict if observation is not None else "it says nothing about this claim."
        return "needs data", f"{where}{verdict}"
    return ("agrees" if observation.holds else "differs"), f"{where}{observation.verdict}"


def _seeds(study: StudyFolder) -> str:
    return f"{study.study.seeds} seed{'s' if study.study.seeds > 1 else ''}"
