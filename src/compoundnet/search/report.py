"""What a search has found so far, for people: tables and pictures in a folder. Of an unfinished one too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from compoundnet.base import make_folder, write_whole
from compoundnet.search.architecture import Architecture
from compoundnet.search.coefficients import CoefficientSearch
from compoundnet.search.finished import Entry, entries
from compoundnet.search.network_plot import draw_network
from compoundnet.search.plots import draw_coefficients, draw_cost, draw_progress
from compoundnet.search.ranking import cells, comma_separated, front, headings, ranking
from compoundnet.search.study_figures import ScalingStudy
from compoundnet.search.study_plots import draw_study
from compoundnet.search.study_summary import Summary, summarise
from compoundnet.trials.measuring import outcome_of
from compoundnet.trials.settings import position

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from compoundnet.search.kinds import Search
    from compoundnet.trials.studies import OpenedStudy

# A report's picture: file name, what stands over it, and the two formats.
Picture = tuple[str, str, tuple[bytes, bytes]]


class Found(msgspec.Struct, frozen=True):
    """State of a search.

    kind      coefficients, architecture or study
    trials    how many there will be; `finished` of them are, `pruned` of those before their end
    ranking   networks that are trained, the best first
    rewards   of an architecture search: what each network of the ranking is ranked by
    summary   of a scaling study
    verdict   in words, of a coefficient search: whether the best can be told from the others
    notes     of a coefficient search: which points of the grid stand for others
    """

    kind: str
    data: str
    trials: int
    finished: int
    pruned: int
    ranking: tuple[Entry, ...]
    rewards: tuple[float, ...] = ()
    summary: Summary | None = None
    verdict: str = ""
    notes: tuple[str, ...] = ()

    def rows(self) -> list[tuple[Entry, float | None]]:
        """The ranking with each network's reward, None where there is none."""
        return list(zip(self.ranking, self.rewards or [None] * len(self.ranking), strict=True))

    @property
    def progress(self) -> str:
        """In a line."""
        pruned = f", {self.pruned} of them pruned" if self.pruned else ""
        return f"{self.finished} of {self.trials} trials are finished{pruned}"


def find(opened: OpenedStudy[Search]) -> Found:
    """Read the study once."""
    from optuna.trial import TrialState

    search, trials = opened.settings, opened.counted()
    reached = entries(trials)
    ranked = tuple(
        search.ranked(reached) if isinstance(search, Architecture) else ranking(reached, search.directions())
    )
    states = [trial.state for trial in trials]
    return Found(
        type(search).__struct_config__.tag, search.data, search.trials(),  # type: ignore[attr-defined]  # a Struct
        len(states), states.count(TrialState.PRUNED), ranked,
        tuple(search.reward(entry) for entry in ranked) if isinstance(search, Architecture) else (),
        summarise(search, trials) if isinstance(search, ScalingStudy) else None,
        _verdict(opened, ranked),
        tuple(point.note for point in search.points if point.note) if isinstance(search, CoefficientSearch) else (),
    )  # fmt: skip


def _verdict(opened: OpenedStudy[Search], ranked: Sequence[Entry]) -> str:
    if not isinstance(opened.settings, CoefficientSearch) or not ranked:
        return ""
    if all(entry.sample is None for entry in ranked):
        return "Every training diverged, so there is nothing to rank."
    return opened.settings.verdict(opened.counted())


def write_report(opened: OpenedStudy[Search], folder: Path) -> None:
    """report.md, the tables as CSV, and the pictures as SVG and PNG. Where no trial is finished, report.md alone."""
    found = find(opened)
    pictures = _pictures(opened, found) if found.ranking else []
    make_folder(folder)
    for name, _, (svg, png) in pictures:
        write_whole(folder / f"{name}.svg", svg)
        write_whole(folder / f"{name}.png", png)
    if found.summary is not None:
        write_whole(folder / "table.md", found.summary.markdown().encode())
        write_whole(folder / "table.csv", found.summary.comma_separated().encode())
    else:
        write_whole(folder / "ranking.csv", comma_separated(found.ranking).encode())
    write_whole(folder / "report.md", _markdown(found, pictures).encode())


def _pictures(opened: OpenedStudy[Search], found: Found) -> list[Picture]:
    search, ranked = opened.settings, found.ranking
    if isinstance(search, ScalingStudy):
        if found.summary is None or not any(entry.sample is not None for entry in ranked):
            return []
        return [(f"figure{search.figure}", search.lines.title, draw_study(search, found.summary))]
    pictures: list[Picture] = [("cost", "Accuracy against cost", draw_cost(ranked, f"Search on {search.data}"))]
    if len(search.directions()) == 1:
        what = "reward" if found.rewards else "top-1, a fraction"
        trials = opened.counted()
        pruned = [position(trial) for trial in trials if trial.state.name == "PRUNED"]
        pictures.append(("progress", "Progress", draw_progress(_rewards(trials), pruned, what)))
    if isinstance(search, CoefficientSearch):
        of = {entry.network: entry for entry in ranked}
        grid = [(point, of[point.network]) for point in search.points if point.network in of]
        pictures.append(("coefficients", "Grid", draw_coefficients(grid)))
    pictures.append(("network", "The best network", draw_network(ranked[0].network, f"The best: {ranked[0].point}")))
    return pictures


def _rewards(trials: Sequence[FrozenTrial]) -> list[tuple[int, float]]:
    return [(position(trial), trial.values[0]) for trial in trials if outcome_of(trial) is not None]


def _markdown(found: Found, pictures: Sequence[Picture]) -> str:
    title = found.summary.title if found.summary is not None else f"Search of {found.kind}"
    lines = [f"# {title}", "", f"On {found.data}. {found.progress}.", ""]
    if found.verdict:
        lines += [found.verdict, ""]
    if found.notes:
        lines += [*(f"- {note}" for note in found.notes), ""]
    for name, heading, _ in pictures:
        lines += [f"![{heading}]({name}.png)", ""]
    if found.summary is not None:
        return "\n".join([*lines, f"Multipliers: {found.summary.source}.", "", found.summary.markdown()])
    head = headings(bool(found.rewards))
    lines += ["## Ranking", "", f"| rank | {' | '.join(head)} | Pareto front |", f"|{'---|' * (len(head) + 2)}"]
    kept = front(found.ranking)
    for rank, (entry, reward) in enumerate(found.rows(), start=1):
        mark = "yes" if entry in kept else ""
        lines.append(f"| {rank} | {' | '.join(cells(entry, reward))} | {mark} |")
    return "\n".join([*lines, ""])
