"""The results of a scaling study, as a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from compoundnet.base import CompoundNetError
from compoundnet.search.findings import Findings, Remark, ReportFigure, ReportTable, progress_of
from compoundnet.search.network_results import network_results, ranking
from compoundnet.search.study.plot import draw_study
from compoundnet.search.study.settings import ScalingStudy
from compoundnet.search.study.summary import StudySummary, comma_separated, study_table, summarise
from compoundnet.trials.statistics import points

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def find(settings: ScalingStudy, trials: Sequence[FrozenTrial]) -> Findings:
    """Return the findings of the counted trials."""
    summary = summarise(settings, trials)
    # A study leaves diverged trainings out, here as in its table.
    compared = [msgspec.structs.replace(one, sample=one.reached or one.sample) for one in network_results(trials)]
    found = Findings(
        **progress_of(settings, trials), title=summary.title, ranking=tuple(ranking(compared)),
        table=study_table(summary.rows), files={"table.csv": comma_separated(summary.rows)},
        remarks=_remarks(summary), notes=(*summary.notes, f"Multipliers: {summary.source}."),
        summary=msgspec.to_builtins(summary),
    )  # fmt: skip
    return msgspec.structs.replace(found, files=found.files | {"table.md": found.body()})


def figures(settings: ScalingStudy, trials: Sequence[FrozenTrial], findings: Findings) -> list[ReportFigure]:
    """Return the figure of the report: accuracy against cost, one curve for each line."""
    if all(result.reached is None for result in findings.ranking):
        return []
    return [
        ReportFigure(
            f"figure{settings.figure}", settings.lines.title, *draw_study(settings, summarise(settings, trials))
        )
    ]


def result(settings: ScalingStudy, trials: Sequence[FrozenTrial]) -> str:
    """Return result.toml: the table's numbers, and whether the observations hold.

    Raises:
        CompoundNetError: No trial is finished, or every training diverged.
    """
    summary = summarise(settings, trials)
    if trials and not any(row.accuracy for row in summary.rows):
        raise CompoundNetError(
            f"every training diverged, so there is nothing to compare; give a lower learning rate"
            f" (--set lr={settings.recipe.lr / 3:.2g}) and another output (-o)"
        )
    if not trials:
        raise CompoundNetError("no trial of this study is finished")
    return msgspec.toml.encode(summary).decode()


def _remarks(summary: StudySummary) -> tuple[Remark, ...]:
    return tuple(
        Remark(
            f"**Observation {one.number}** ({one.statement}). {one.verdict}",
            ReportTable(
                ("compared", ">difference of top-1", "says"),
                tuple((found.what, points(found.difference), found.says) for found in one.findings),
            )
            if one.findings
            else None,
        )
        for one in summary.observations
    )
