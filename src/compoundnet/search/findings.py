"""The findings of a finished or unfinished search, in the form that is printed, written and sent as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from compoundnet.search.network_results import NetworkResult, cells, comma_separated, front, headings

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from compoundnet.trials.network_judge import NetworkSearch


class ReportTable(msgspec.Struct, frozen=True):
    """A table of texts. A heading that starts with `>` right-aligns its column."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Return the table in Markdown."""
        head = [heading.removeprefix(">") for heading in self.headings]
        lines = [head, ["---"] * len(head), *self.rows]
        return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


class Remark(msgspec.Struct, frozen=True):
    """A statement about the findings, and the numbers that support it."""

    text: str
    table: ReportTable | None = None


class ReportFigure(NamedTuple):
    """A figure of a report: its file name without suffix, its title, and the plot in two formats."""

    name: str
    title: str
    svg: bytes
    png: bytes


class Findings(msgspec.Struct, frozen=True):
    """The findings of a search so far.

    Attributes:
        kind: "coefficients", "architecture" or "study".
        trials: The number of trials in all; `finished` of them have ended, of which `pruned` ended early.
        title: The title of the report.
        ranking: The trained networks, best first.
        rewards: The reward of each network of the ranking, in an architecture search.
        verdict: Whether the best network is better than the others, in words, for a coefficient search.
        table: All networks, for people; `files` holds the full tables, by file name.
        remarks: Which observations of the paper hold, for a study.
        notes: Remarks that a reader needs to judge the numbers.
        summary: A study's summary, as plain values.
    """

    kind: str
    data: str
    trials: int
    finished: int
    pruned: int
    title: str
    ranking: tuple[NetworkResult, ...]
    table: ReportTable
    files: dict[str, str]
    rewards: tuple[float, ...] = ()
    verdict: str = ""
    remarks: tuple[Remark, ...] = ()
    notes: tuple[str, ...] = ()
    summary: dict[str, Any] | None = None

    @property
    def progress(self) -> str:
        """The progress of the search, in one line."""
        pruned = f", {self.pruned} of them pruned" if self.pruned else ""
        return f"{self.finished} of {self.trials} trials are finished{pruned}"

    def document(self) -> dict[str, Any]:
        """Return the document that `--json` prints."""
        kept = front(self.ranking)
        rewards = self.rewards or [None] * len(self.ranking)
        return {
            "kind": self.kind, "data": self.data, "trials": self.trials, "finished": self.finished,
            "pruned": self.pruned, "verdict": self.verdict, "notes": list(self.notes),
            "ranking": [
                _result(result, result in kept) | {"reward": reward}
                for result, reward in zip(self.ranking, rewards, strict=True)
            ],
            "summary": self.summary,
        }  # fmt: skip

    def body(self) -> str:
        """Return the table, the remarks and the notes in Markdown."""
        parts = [self.table.markdown()]
        for remark in self.remarks:
            parts += [f"{remark.text}\n", *([remark.table.markdown()] if remark.table is not None else [])]
        if self.notes:
            parts.append("".join(f"- {note}\n" for note in self.notes))
        return "\n".join(parts)


def progress_of(settings: NetworkSearch, trials: Sequence[FrozenTrial]) -> dict[str, Any]:
    """Return the fields of `Findings` that describe the progress of a search.

    Args:
        trials: The trials that count.
    """
    pruned = sum(trial.state.name == "PRUNED" for trial in trials)
    kind = type(settings).__struct_config__.tag  # type: ignore[attr-defined]  # a msgspec.Struct
    return {
        "kind": kind, "data": settings.data, "trials": settings.trials(), "finished": len(trials), "pruned": pruned
    }  # fmt: skip


def ranked_findings(
    settings: NetworkSearch,
    trials: Sequence[FrozenTrial],
    ranking: Sequence[NetworkResult],
    *,
    rewards: Sequence[float] = (),
    verdict: str = "",
    notes: Sequence[str] = (),
) -> Findings:
    """Return the findings of a search that ranks networks."""
    kept = front(ranking)
    known: Sequence[float | None] = rewards or [None] * len(ranking)
    rows = tuple(
        (str(rank), *cells(result, reward), "front" if result in kept else "")
        for rank, (result, reward) in enumerate(zip(ranking, known, strict=True), start=1)
    )
    state = progress_of(settings, trials)
    return Findings(
        **state, title=f"Search of {state['kind']}", ranking=tuple(ranking),
        table=ReportTable((">rank", *headings(bool(rewards)), "Pareto front"), rows),
        files={"ranking.csv": comma_separated(ranking)}, rewards=tuple(rewards), verdict=verdict, notes=tuple(notes),
    )  # fmt: skip


def _result(result: NetworkResult, pareto: bool) -> dict[str, Any]:
    return {
        "point": result.point, "network": result.network.name, "values": result.values, "accuracy": result.accuracy,
        "interval": None if result.interval is None else [result.interval.low, result.interval.high],
        "macs": result.macs, "params": result.params, "seeds": result.seeds, "diverged": result.diverged,
        "pareto": pareto,
    }  # fmt: skip
