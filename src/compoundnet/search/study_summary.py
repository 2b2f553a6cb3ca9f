"""What a scaling study has found so far: its table, and what the paper's observations come to in it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from compoundnet.base import format_count
from compoundnet.search.finished import Entry, entries
from compoundnet.search.observations import Dot, Observation, first, second, second_on_curves
from compoundnet.search.study_points import Multipliers, label
from compoundnet.trials.statistics import CONFIDENCE, Interval, difference

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from compoundnet.search.study_figures import Place, ScalingStudy

# Costs of a budget that differ by more are not called equal.
_EQUAL = 1.1


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """A network of the table. `accuracy` is None until a seed is finished; `gain` is over the baseline, where there is
    one; `macs` and `params` are of the network as it was trained."""

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


class Summary(msgspec.Struct, frozen=True):
    """Of a study, finished or not. `notes` say what a reader must know to believe the figures."""

    title: str
    source: str
    data: str
    rows: tuple[Row, ...]
    observations: tuple[Observation, ...]
    notes: tuple[str, ...]

    def as_toml(self) -> str:
        """Everything, as TOML; what is not known yet is left out."""
        return msgspec.toml.encode(self).decode()

    def markdown(self) -> str:
        """A table, the observations, the notes."""
        return "\n".join([*_table(self.rows), "", *_told(self.observations), *(f"- {note}" for note in self.notes), ""])

    def comma_separated(self) -> str:
        """The table with all digits; accuracies as fractions."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            ["line", "depth", "width", "resolution", "network", "pixels", "blocks", "macs", "params", "accuracy",
             "standard_error", "low", "high", "gain", "gain_low", "gain_high", "seeds"]
        )  # fmt: skip
        for row in self.rows:
            one, gain = row.accuracy, row.gain
            cells = [
                row.line, *row.multipliers, row.network, row.resolution, row.blocks, row.macs, row.params,
                *((one.mean, one.error, one.low, one.high) if one else (None,) * 4),
                *((gain.mean, gain.low, gain.high) if gain else (None,) * 3), len(row.accuracies),
            ]  # fmt: skip
            writer.writerow("" if cell is None else cell for cell in cells)
        return text.getvalue()


def summarise(study: ScalingStudy, trials: Sequence[FrozenTrial]) -> Summary:
    """Of the counted trials."""
    found = {entry.network: entry for entry in entries(trials)}
    base = found.get(study.network)
    rows = tuple(_row(place, found.get(place.network), base) for place in study.places())
    curves = [(line.name, _dots(study, line.name, found)) for line in study.lines.lines]
    return Summary(
        study.lines.title, study.lines.source, study.data, rows, _observe(study, curves, found),
        tuple(_notes(study, list(found.values()), trials)),
    )  # fmt: skip


def _row(place: Place, entry: Entry | None, base: Entry | None) -> Row:
    network = place.network
    row = Row(place.line or "baseline", place.multipliers, network.name, network.resolution, network.blocks)
    if entry is None or entry.sample is None:
        return row
    gain = None
    if base is not None and base is not entry and base.sample is not None:
        gain = difference(entry.sample, base.sample)
    return msgspec.structs.replace(
        row, macs=entry.macs, params=entry.params, accuracies=entry.sample.accuracies, accuracy=entry.interval,
        gain=gain,
    )  # fmt: skip


def _dots(study: ScalingStudy, line: str, found: dict[Any, Entry]) -> list[Dot]:
    there = [found[place.network] for place in study.curve(line) if place.network in found]
    return [Dot(entry.macs, entry.sample) for entry in there if entry.sample is not None]


def _observe(
    study: ScalingStudy, curves: list[tuple[str, list[Dot]]], found: dict[Any, Entry]
) -> tuple[Observation, ...]:
    """Figure 3 shows the first; Figures 4 and 8 both, the last of their lines being the balanced one."""
    if study.figure == 3:
        return (first([curve for curve in curves if curve[1]]),)
    *rivals, balanced = curves
    if study.figure == 4:
        return first([curve for curve in curves if curve[1]]), second_on_curves(balanced, rivals)
    pairs = [(name, _pairs(study, balanced[0], name, found)) for name, _ in rivals]
    return first([curve for curve in rivals if curve[1]]), second(pairs)


def _pairs(study: ScalingStudy, balanced: str, rival: str, found: dict[Any, Entry]) -> list[tuple[Dot, Dot]]:
    """Networks of the same budget, in the order of the lines' points, where both are finished."""
    lines = {line.name: line.points for line in study.lines.lines}
    pairs = []
    for ours, theirs in zip(lines[balanced], lines[rival], strict=False):
        both = [found.get(study.at(multipliers).network) for multipliers in (ours, theirs)]
        dots = [Dot(entry.macs, entry.sample) for entry in both if entry is not None and entry.sample is not None]
        if len(dots) == 2:
            pairs.append((dots[0], dots[1]))
    return pairs


def _notes(study: ScalingStudy, found: list[Entry], trials: Sequence[FrozenTrial]) -> list[str]:
    notes = []
    done = len(trials)
    if done < study.trials():
        notes.append(f"Not finished: {done} of {study.trials()} trainings are done.")
    pictures = {entry.sample.pictures for entry in found if entry.sample is not None}
    for count in pictures:
        notes.append(
            f"Accuracy is of the {count:,} test pictures, after the last epoch: the study describes how networks"
            " compare, and chooses none by it."
        )
    noise = (
        f"over {study.seeds} seeds (Student's t, Welch for differences): the noise of training, on these pictures"
        if study.seeds > 1
        else "of a single seed: the binomial noise of so many test pictures. How much another seed would change is not"
        " known"
    )
    notes.append(f"Intervals are {CONFIDENCE:.0%} confidence intervals {noise}. A difference whose interval holds zero"
                 " is called noise.")  # fmt: skip
    diverged = sum(entry.diverged for entry in found)
    if diverged:
        left_out = "1 training diverged and is" if diverged == 1 else f"{diverged} trainings diverged and are"
        notes.append(f"{left_out} left out.")
    if study.figure == 8:
        notes += _unequal(study, {entry.network: entry.macs for entry in found})
    return notes


def _unequal(study: ScalingStudy, macs: dict[Any, int]) -> list[str]:
    """Where the networks of one budget do not cost the same."""
    notes = []
    for points in zip(*(line.points for line in study.lines.lines), strict=False):
        costs = {label(point): macs.get(study.at(point).network) for point in points}
        known = {name: cost for name, cost in costs.items() if cost is not None}
        if known and max(known.values()) > _EQUAL * min(known.values()):
            listed = ", ".join(f"{name} {format_count(cost)}" for name, cost in known.items())
            notes.append(f"Costs of one budget differ: {listed} multiply-adds.")
    return notes


def _table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| line | d | w | r | input | blocks | FLOPs (multiply-adds) | parameters | top-1, % | gain, points | seeds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row.line, *(f"{value:.4g}" for value in row.multipliers), f"{row.resolution} px", str(row.blocks)]
        cells += ["" if count is None else format_count(count) for count in (row.macs, row.params)]
        cells += [percent(row.accuracy), points(row.gain), str(len(row.accuracies))]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _told(observations: Sequence[Observation]) -> list[str]:
    lines = []
    for observation in observations:
        lines += [f"**Observation {observation.number}** ({observation.statement}). {observation.verdict}", ""]
        if observation.findings:
            lines += ["| compared | difference of top-1 | says |", "|---|---|---|"]
            lines += [f"| {one.what} | {points(one.difference)} | {one.says} |" for one in observation.findings]
            lines.append("")
    return lines


def percent(accuracy: Interval | None) -> str:
    """`61.20 % (60.91 to 61.49)`."""
    if accuracy is None:
        return ""
    return f"{accuracy.mean:.2%} ({100 * accuracy.low:.2f} to {100 * accuracy.high:.2f})"


def points(gap: Interval | None) -> str:
    """A difference in points of percent: `+1.20 (+0.80 to +1.60)`."""
    if gap is None:
        return ""
    return f"{100 * gap.mean:+.2f} ({100 * gap.low:+.2f} to {100 * gap.high:+.2f})"
