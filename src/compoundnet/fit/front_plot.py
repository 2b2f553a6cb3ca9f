"""The plots of a fit: accuracy against latency, with the Pareto front, and against what else the budget bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from compoundnet.fit.bounds import COSTS, BoundedFigure
from compoundnet.fit.candidates import HIGHEST, Candidate
from compoundnet.fit.screen import Screened
from compoundnet.plots.canvas import OKABE_ITO, QUIET, canvas, encode, log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from compoundnet.fit.state import Fit

_COLOURS = tuple(OKABE_ITO[name] for name in ("blue", "vermillion", "green", "purple", "orange", "sky", "black"))
_APART = 1.05  # how many times as slow the next point of the front is at the least, where both have labels
_MARKERS = "os^D"  # of the first line with each colour, of the second, and so on


def pareto(found: Fit) -> list[Screened]:
    """Return the candidates than which none is both faster and as accurate, from fast to slow."""
    judged = judged_of(found)
    front: list[Screened] = []
    for one in sorted(judged, key=lambda one: (one.latency or 0.0, -(one.accuracy or 0.0))):
        if not front or (one.accuracy or 0.0) > (front[-1].accuracy or 0.0):
            front.append(one)
    return front


def _labelled(front: Sequence[Screened]) -> list[Screened]:
    """The points of the front whose labels do not overlap: of two side by side the more accurate one."""
    following = [one.latency or 0.0 for one in front[1:]]
    return [
        one for one, after in zip(front, [*following, math.inf], strict=True) if after > _APART * (one.latency or 0.0)
    ]


def describe_front(found: Fit) -> str:
    """Return the Pareto front, and what was fine-tuned, in words."""
    parts = [f"{one.candidate} {one.accuracy:.1%} in {one.latency:.3g} ms" for one in pareto(found)]
    tuned = [f"{one.candidate} {one.accuracy:.1%}" for one in tuned_of(found)]
    more = f" Fine-tuned, on held-out images: {'; '.join(tuned)}." if tuned else ""
    return f"Cross-validated accuracy against latency. The Pareto front: {'; '.join(parts)}.{more}"


def draw_front(found: Fit) -> tuple[bytes, bytes]:
    """Draw accuracy against latency, a line over the resolutions of each model, with the front and the answer: (SVG,
    PNG)."""
    judged, front, tuned = judged_of(found), pareto(found), tuned_of(found)
    models = _lines(judged)
    with canvas(height=4.6 + 0.13 * (len(models) + 3 + bool(tuned)), texts=models) as surface:
        axes = surface.add_subplot()
        axes.set_title("Accuracy against latency")
        axes.set_xlabel("latency of one image, ms")
        _draw_points(axes, judged, tuned, lambda one: one.latency or 0.0, named=True)
        for one in _labelled(front):  # all labels would overlap
            axes.annotate(f"{one.candidate.resolution}", (one.latency or 0.0, 100 * (one.accuracy or 0.0)), (0, 10),
                          textcoords="offset points", ha="center", fontsize=9,
                          color=look(models.index(_line(one.candidate)))[0])  # fmt: skip
        axes.step(
            [one.latency or 0.0 for one in front], [100 * (one.accuracy or 0.0) for one in front], where="post",
            color=QUIET, linestyle="--", linewidth=1.2, label="Pareto front (resolutions in px)",
        )  # fmt: skip
        limit, chosen = found.limits.max_latency, _point_of_answer(found)
        if limit is not None:
            _draw_limit(axes, limit, f"{limit:g} ms")
        if chosen is not None:
            _draw_answer(axes, chosen, chosen.latency or 0.0)
        amounts = [one.latency or 0.0 for one in (*judged, *tuned, *([chosen] if chosen else []))]
        log_axis(axes, "x", [*amounts, *([limit] if limit else [])], "{:g}".format)
        # Below the axes, where it hides no point.
        surface.legend(fontsize=10, edgecolor="none", loc="outside lower left", ncols=2)
        return encode(surface, describe_front(found))


def bounded(found: Fit) -> list[BoundedFigure]:
    """Return what the budget bounds besides latency."""
    return [cost for cost in COSTS if getattr(found.limits, cost.name) is not None]


def describe_cost(found: Fit, cost: BoundedFigure) -> str:
    """Return in words what `draw_cost` shows."""
    costs = [cost.of(one.candidate) for one in judged_of(found)]
    chosen = _point_of_answer(found)
    answer = "" if chosen is None else f", that of the answer {cost.text(cost.of(chosen.candidate))}"
    return (
        f"Accuracy against {cost.noun} of {len(costs)} candidate{'s' * (len(costs) != 1)}: {cost.text(min(costs))} to"
        f" {cost.text(max(costs))}; the limit is {cost.text(getattr(found.limits, cost.name))}{answer}."
    )


def draw_cost(found: Fit, cost: BoundedFigure) -> bytes:
    """Draw accuracy against what else the budget bounds, with the colours and markers of `draw_front`, as SVG."""
    judged, tuned, chosen = judged_of(found), tuned_of(found), _point_of_answer(found)
    with canvas(height=3.8) as surface:
        axes = surface.add_subplot()
        axes.set_title(f"Accuracy against {cost.noun}")
        axes.set_xlabel(cost.noun)
        _draw_points(axes, judged, tuned, lambda one: cost.of(one.candidate), named=False)
        limit = getattr(found.limits, cost.name)
        _draw_limit(axes, limit, cost.text(limit))
        if chosen is not None:
            _draw_answer(axes, chosen, cost.of(chosen.candidate))
        amounts = [cost.of(one.candidate) for one in (*judged, *tuned, *([chosen] if chosen else []))]
        log_axis(axes, "x", [*amounts, limit], cost.text)
        surface.legend(fontsize=10, edgecolor="none", loc="outside lower left", ncols=3)
        return encode(surface, describe_cost(found, cost))[0]


def _draw_points(
    axes: Axes, judged: list[Screened], tuned: list[Screened], of: Callable[[Screened], float], *, named: bool
) -> None:
    """Draw the probes, a line over the resolutions of each model, and a star for what was fine-tuned."""
    axes.set_ylabel("accuracy, %" if tuned else "cross-validated accuracy, %")
    models = _lines(judged)
    for place, model in enumerate(models):
        line = sorted(
            (one for one in judged if _line(one.candidate) == model), key=lambda one: one.candidate.resolution
        )
        colour, marker = look(place)
        up = [100 * (one.accuracy or 0.0) for one in line]
        axes.plot([of(one) for one in line], up, f"{marker}-", color=colour, linewidth=1.2,
                  label=model if named else None)  # fmt: skip
    star: dict[str, Any] = {"markersize": 13, "markeredgecolor": OKABE_ITO["black"], "markeredgewidth": 0.7}
    for one in tuned:
        colour = look(models.index(_line(one.candidate)))[0] if _line(one.candidate) in models else QUIET
        axes.plot([of(one)], [100 * (one.accuracy or 0.0)], "*", color=colour, **star)
    if tuned:
        axes.plot([], [], "*", color=QUIET, label="fine-tuned, on held-out images", **star)


def _draw_limit(axes: Axes, limit: float, text: str) -> None:
    axes.axvline(limit, color=OKABE_ITO["black"], linewidth=1, label=f"limit, {text}")


def _draw_answer(axes: Axes, chosen: Screened, across: float) -> None:
    axes.plot(
        [across], [100 * (chosen.accuracy or 0.0)], "o", markersize=17, markerfacecolor="none",
        markeredgecolor=OKABE_ITO["black"], label="the answer",
    )  # fmt: skip


def look(place: int) -> tuple[str, str]:
    """Return the colour and the marker of a line; no two of the first 28 are alike."""
    turn, number = divmod(place, len(_COLOURS))
    return _COLOURS[number], _MARKERS[turn % len(_MARKERS)]


def judged_of(found: Fit) -> list[Screened]:
    """Return the candidates that were timed and judged."""
    return [one for one in found.screened if one.accuracy is not None and one.latency is not None]


def answer_of(found: Fit) -> Screened | None:
    """Return what was judged of the answer: as it is computed, or else in another way; of a resolution at which it was
    not screened, its latency with the accuracy of the probe of that of training. None if there is no answer."""
    answer = found.answer
    if answer is None:
        return None
    own = answer.candidate
    answers = [one for one in judged_of(found) if one.candidate.in_precision("") == own.in_precision("")]
    unscreened = Screened(own, answer.latency, answer.cross_validated)
    return min(answers, key=lambda one: one.candidate != own, default=unscreened)


def tuned_of(found: Fit) -> list[Screened]:
    """Return what was fine-tuned, with its accuracy on held-out images as far as it was trained: the candidates of the
    race, and the answer as it was measured."""
    latencies = {one.candidate: one.latency for one in found.screened if one.latency is not None}
    scores = {one: score for rung in found.rungs for one, score in rung.results if one in latencies}
    answer, tuned = _point_of_answer(found), list[Screened]()
    if found.answer is not None and found.answer.held_out is not None and answer is not None:
        scores.pop(found.answer.candidate, None)
        tuned = [answer]
    return [*(Screened(one, latencies[one], score) for one, score in scores.items()), *tuned]


def trained_resolution(found: Fit) -> int | None:
    """Return the resolution at which the answer was trained; None if it is a probe, or no race is known.

    It may be deployed at a higher one, or at a lower one that is fast enough.
    """
    answer = found.answer
    if answer is None or not answer.fine_tuned:
        return None
    own = answer.candidate
    raced = [one for rung in reversed(found.rungs) for one, _ in rung.results if one.shape == own.shape]
    likely = [one for one in raced if one.resolution <= own.resolution <= HIGHEST * one.resolution]
    return next((one.resolution for one in (*likely, *raced)), None)


def _point_of_answer(found: Fit) -> Screened | None:
    """Where the plots show the answer: what was measured of it, its accuracy on held-out images; of a probe what was
    judged of it. The size is that of its file."""
    answer, chosen = found.answer, answer_of(found)
    if answer is None or chosen is None:
        return None
    if answer.held_out is not None:
        chosen = Screened(answer.candidate, answer.latency, answer.held_out.accuracy)
    measured = msgspec.structs.replace(chosen.candidate, size_bytes=answer.size_bytes)
    return msgspec.structs.replace(chosen, candidate=measured)


def _lines(judged: list[Screened]) -> list[str]:
    return list(dict.fromkeys(_line(one.candidate) for one in judged))


def _line(candidate: Candidate) -> str:
    """What a line of the plots joins the resolutions of."""
    backend = f", {candidate.backend}" if candidate.backend else ""
    return f"{candidate.shape}{backend}" + ("" if candidate.precision == "float32" else f", {candidate.precision}")
