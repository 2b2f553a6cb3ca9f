"""The networks that a search has found, from the best down, and which of them no other beats in both accuracy and
cost."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from compoundnet.arch.units import format_count
from compoundnet.search.finished import Entry
from compoundnet.search.study_summary import percent


def ranking(found: Sequence[Entry], directions: Sequence[str]) -> list[Entry]:
    """By what the study was told, where that is one value; by accuracy where it is several. Of equals the cheaper."""
    if len(directions) > 1:
        return sorted(found, key=lambda entry: (-entry.accuracy, entry.macs))
    sign = -1 if directions[0] == "maximize" else 1
    return sorted(found, key=lambda entry: (sign * entry.values[0], entry.macs))


def front(found: Sequence[Entry]) -> list[Entry]:
    """The Pareto front, from the cheapest up: every cheaper network is less accurate."""
    best, kept = -1.0, []
    for entry in sorted(found, key=lambda entry: (entry.macs, -entry.accuracy)):
        if entry.accuracy > best:
            best = entry.accuracy
            kept.append(entry)
    return kept


def cells(entry: Entry, reward: bool) -> list[str]:
    """A row for people: point, reward where it differs from the accuracy, accuracy, cost, size, seeds."""
    shown = [entry.point]
    if reward:
        shown.append(f"{entry.values[0]:.4f}")
    return [*shown, percent(entry.interval) or "diverged", format_count(entry.macs), format_count(entry.params),
            str(entry.seeds)]  # fmt: skip


def headings(reward: bool) -> list[str]:
    """Of `cells`."""
    return [
        "point", *(["reward"] if reward else []), "top-1 (95 % interval)", "FLOPs (multiply-adds)", "parameters",
        "seeds",
    ]  # fmt: skip


def comma_separated(ranked: Sequence[Entry]) -> str:
    """All of it with all digits."""
    kept = {entry.point for entry in front(ranked)}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["rank", "point", "network", "values", "accuracy", "low", "high", "macs", "params", "seeds", "pareto"]
    )
    for rank, entry in enumerate(ranked, start=1):
        between = entry.interval
        writer.writerow(
            [rank, entry.point, entry.network.name, " ".join(map(repr, entry.values)), entry.accuracy,
             *((between.low, between.high) if between else ("", "")), entry.macs, entry.params, entry.seeds,
             entry.point in kept]
        )  # fmt: skip
    return text.getvalue()
