"""The results of a scaling study: its table, and whether the paper's observations hold in it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from compoundnet.arch import cost
from compoundnet.base import format_count
from compoundnet.search.findings import ReportTable
from compoundnet.search.network_results import NetworkResult, network_results
from compoundnet.search.study.lines import Multipliers, label, scaled
from compoundnet.search.study.observations import CostedSample, Observation, first, second, second_on_curves
from compoundnet.trials.statistics import CONFIDENCE, Interval, difference, interval, percent, points

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from compoundnet.search.study.settings import ScalingStudy, StudyNetwork

# Networks whose costs differ by a larger factor are reported as unequal.
_EQUAL = 1.1


class StudyRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A network of the table.

    Attributes:
        line: The line that contains it, or "baseline".
        multipliers: (depth, width, resolution).
        network: The name of the network.
        resolution: In pixels.
        blocks: The number of blocks.
        macs: Multiply-adds of one image, with the classes of the data set; None until a seed is finished.
        params: Parameters, with the classes of the data set; None until a seed is finished.
        accuracies: The accuracies of the finished seeds.
        accuracy: Their mean with its interval; None until a seed is finished.
        gain: The accuracy minus the baseline's; None for the baseline.
    """

    line: str
    multipliers: Multipliers
    network: str
    resolution: int
    blocks: int
    macs: int | None = None
    params: int | None = None
    accuracies: tuple[float, ...] = ()
    accuracy: Interval | None = None
    gain: Interval | None = None


class StudySummary(msgspec.Struct, frozen=True):
    """The results of a study, finished or not. `notes` state how the numbers were obtained."""

    title: str
    source: str
    data: str
    rows: tuple[StudyRow, ...]
    observations: tuple[Observation, ...]
    notes: tuple[str, ...]


def summarise(study: ScalingStudy, trials: Sequence[FrozenTrial]) -> StudySummary:
    """Return the results of the counted trials."""
    found = {entry.network: entry for entry in network_results(trials)}
    base = found.get(study.network)
    rows = tuple(_row(place, found.get(place.network), base) for place in study.places())
    curves = [(line.name, _dots(study, line.name, found)) for line in study.lines.lines]
    return StudySummary(
        study.lines.title, study.lines.source, study.data, rows,
        _observe(study, curves, found, finished=len(trials) >= study.trials()),
        tuple(_notes(study, list(found.values()), trials)),
    )  # fmt: skip


def _row(place: StudyNetwork, entry: NetworkResult | None, base: NetworkResult | None) -> StudyRow:
    network = place.network
    row = StudyRow(place.line or "baseline", place.multipliers, network.name, network.resolution, network.blocks)
    if entry is None or entry.reached is None:
        return row
    gain = None
    if base is not None and base is not entry and base.reached is not None:
        gain = difference(entry.reached, base.reached)
    return msgspec.structs.replace(
        row, macs=entry.macs, params=entry.params, accuracies=entry.reached.accuracies,
        accuracy=interval(entry.reached), gain=gain,
    )  # fmt: skip


def _dots(study: ScalingStudy, line: str, found: dict[Any, NetworkResult]) -> list[CostedSample]:
    there = [found[place.network] for place in study.curve(line) if place.network in found]
    return [CostedSample(entry.macs, entry.reached) for entry in there if entry.reached is not None]


def _observe(
    study: ScalingStudy, curves: list[tuple[str, list[CostedSample]]], found: dict[Any, NetworkResult], finished: bool
) -> tuple[Observation, ...]:
    """Figure 3 shows the first observation; Figures 4 and 8 show both, and their last line is the balanced one."""
    if study.figure == 3:
        return (first([curve for curve in curves if curve[1]], finished=finished),)
    *rivals, balanced = curves
    if study.figure == 4:
        own = first([curve for curve in curves if curve[1]], finished=finished)
        return own, second_on_curves(balanced, rivals, finished=finished)
    lines = study.lines.lines[:-1]
    alone = {line.name for line in lines if not line.added and all(_one_dimension(point) for point in line.points)}
    # Lines of one's own may scale several dimensions each; then all of them are compared.
    decisive = alone or {line.name for line in lines if not line.added}
    budgets = _budgets(study)
    pairs = [(line.name, _pairs(study, balanced[0], line.name, budgets, found)) for line in lines]
    own = first([curve for curve in rivals if curve[1] and curve[0] in decisive], finished=finished)
    return own, second(pairs, decisive, finished=finished)


def _one_dimension(multipliers: Multipliers) -> bool:
    return sum(multiplier != 1 for multiplier in multipliers) <= 1


def _budgets(study: ScalingStudy) -> list[dict[str, Multipliers]]:
    """Return, for each point of the balanced line, the point of each line that is compared with it.

    Lines of as many points are compared point by point. A line with more or fewer is compared by cost: each of its
    points belongs to the balanced one whose cost is nearest, and of several the nearest is taken.
    """
    balanced = study.lines.lines[-1]
    budgets = [{balanced.name: point} for point in balanced.points]
    wanted = [_log_cost(study, point) for point in balanced.points]
    for line in study.lines.lines[:-1]:
        if len(line.points) == len(budgets):
            for budget, point in zip(budgets, line.points, strict=True):
                budget[line.name] = point
            continue
        nearest: dict[int, tuple[float, Multipliers]] = {}
        for point in line.points:
            own = _log_cost(study, point)
            distances = [abs(other - own) for other in wanted]
            distance = min(distances)
            index = distances.index(distance)
            if index not in nearest or distance < nearest[index][0]:
                nearest[index] = distance, point
        for index, (_, point) in nearest.items():
            budgets[index][line.name] = point
    return budgets


def _log_cost(study: ScalingStudy, multipliers: Multipliers) -> float:
    return math.log(cost(scaled(study.network, multipliers)).macs)


def _pairs(
    study: ScalingStudy,
    balanced: str,
    rival: str,
    budgets: Sequence[dict[str, Multipliers]],
    found: dict[Any, NetworkResult],
) -> list[tuple[CostedSample, CostedSample]]:
    """Return the pairs of networks of the same budget that are both finished, in the order of the balanced points."""
    pairs = []
    for budget in budgets:
        if rival not in budget:
            continue
        both = [found.get(study.at(budget[line]).network) for line in (balanced, rival)]
        dots = [
            CostedSample(entry.macs, entry.reached) for entry in both if entry is not None and entry.reached is not None
        ]
        if len(dots) == 2:
            pairs.append((dots[0], dots[1]))
    return pairs


def _notes(study: ScalingStudy, found: list[NetworkResult], trials: Sequence[FrozenTrial]) -> list[str]:
    notes = []
    done = len(trials)
    if done < study.trials():
        notes.append(f"Not finished: {done} of {study.trials()} trainings are.")
    for count in {entry.reached.images for entry in found if entry.reached is not None}:
        notes.append(
            f"Accuracy is that on the {count:,} test images after the last epoch. The study describes how networks"
            " compare, and selects none."
        )
    noise = (
        f"over {study.seeds} seeds (Student's t, Welch for differences): the noise of training, on these images"
        if study.seeds > 1
        else "of a single seed: the binomial noise of the number of test images, without the variance between seeds"
    )
    notes.append(
        f"Intervals are {CONFIDENCE:.0%} confidence intervals {noise}. A difference whose interval contains zero is"
        " called noise."
    )
    diverged = sum(entry.diverged for entry in found)
    if diverged:
        left_out = "1 training diverged and is" if diverged == 1 else f"{diverged} trainings diverged and are"
        notes.append(f"{left_out} left out.")
    if study.figure == 8:
        notes += _compared(study, {entry.network: entry.macs for entry in found})
    return notes


def _compared(study: ScalingStudy, macs: dict[Any, int]) -> list[str]:
    """Return notes on what Figure 8 compares: lines of other lengths, networks that stand for several budgets, and the
    budgets whose networks differ in cost."""
    notes, lines = [], study.lines.lines
    for line in lines:
        if len(line.points) != len(lines[-1].points):
            notes.append(
                f"{line.name} has {_count(len(line.points), 'point')} and {lines[-1].name} has"
                f" {_count(len(lines[-1].points), 'point')}: those of nearest cost are compared."
            )
        different = len({study.at(point) for point in line.points})
        if different < len(line.points):
            networks = _count(different, "network")
            notes.append(f"{line.name}: {_count(len(line.points), 'point')} give {networks} after rounding.")
        for point in line.points:
            place = study.at(point)
            if place.line != line.name:
                other = f"{place.line} {label(place.multipliers)}".strip()
                notes.append(f"{line.name} {label(point)} is the network of {other} after rounding, trained once.")
    for budget in _budgets(study):
        points = [budget[line.name] for line in lines if line.name in budget]
        costs = {label(point): macs.get(study.at(point).network) for point in points}
        known = {name: count for name, count in costs.items() if count is not None}
        if known and max(known.values()) > _EQUAL * min(known.values()):
            listed = ", ".join(f"{name} {format_count(count)}" for name, count in known.items())
            notes.append(f"Costs of one budget differ: {listed} multiply-adds.")
    return notes


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def study_table(rows: Sequence[StudyRow]) -> ReportTable:
    """Return the table for people."""
    headings = ("line", ">d", ">w", ">r", ">input", ">blocks", ">FLOPs (multiply-adds)", ">parameters", ">top-1, %",
                ">gain, points", ">seeds")  # fmt: skip
    return ReportTable(
        headings,
        tuple(
            (
                row.line, *(f"{value:.4g}" for value in row.multipliers), f"{row.resolution} px", str(row.blocks),
                *("" if count is None else format_count(count) for count in (row.macs, row.params)),
                percent(row.accuracy), points(row.gain), str(len(row.accuracies)),
            )
            for row in rows
        ),
    )  # fmt: skip


def comma_separated(rows: Sequence[StudyRow]) -> str:
    """Return the table with all digits as CSV; accuracies are fractions."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["line", "depth", "width", "resolution", "network", "pixels", "blocks", "macs", "params", "accuracy",
         "standard_error", "low", "high", "gain", "gain_low", "gain_high", "seeds"]
    )  # fmt: skip
    for row in rows:
        one, gain = row.accuracy, row.gain
        cells = [
            row.line, *row.multipliers, row.network, row.resolution, row.blocks, row.macs, row.params,
            *((one.mean, one.error, one.low, one.high) if one else (None,) * 4),
            *((gain.mean, gain.low, gain.high) if gain else (None,) * 3), len(row.accuracies),
        ]  # fmt: skip
        writer.writerow("" if cell is None else cell for cell in cells)
    return text.getvalue()
