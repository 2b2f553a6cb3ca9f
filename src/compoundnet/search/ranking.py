"""The networks that a search has found, from the best down, and which of them no other beats in both accuracy and
cost."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from compoundnet.base import format_count
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


def cells(entry: Entry, reward: float | None) -> list[str]:
    """A row for people: point, reward where there is one, accuracy, cost, size, seeds."""
    told = [entry.point, *([] if reward is None else [f"{reward:.4f}"])]
    counts = [format_count(entry.macs), format_count(entry.params), str(entry.seeds)]
    return [*told, percent(entry.interval) or "diverged", *counts]


def headings(reward: bool) -> list[str]:
    """Of `cells`."""
    told = ["reward"] if reward else []
    return ["point", *told, "top-1 (95 % interval)", "FLOPs (multiply-adds)", "parameters", "seeds"]


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
