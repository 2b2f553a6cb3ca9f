"""The plot of a fit: accuracy against latency, the Pareto front, and the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compoundnet.fit.screen import Screened
from compoundnet.plots.canvas import OKABE_ITO, QUIET, canvas, encode, log_axis

if TYPE_CHECKING:
    from compoundnet.fit.state import Fit

_COLOURS = tuple(OKABE_ITO[name] for name in ("blue", "vermillion", "green", "purple", "orange", "sky", "black"))


def pareto(found: Fit) -> list[Screened]:
    """Return the candidates than which none is both faster and as accurate, from fast to slow."""
    judged = judged_of(found)
    front: list[Screened] = []
    for one in sorted(judged, key=lambda one: (one.latency or 0.0, -(one.accuracy or 0.0))):
        if not front or (one.accuracy or 0.0) > (front[-1].accuracy or 0.0):
            front.append(one)
    return front


def describe_front(found: Fit) -> str:
    """Return the Pareto front in words."""
    parts = [f"{one.candidate} {one.accuracy:.1%} in {one.latency:.3g} ms" for one in pareto(found)]
    return f"Cross-validated accuracy against latency. The Pareto front: {'; '.join(parts)}."


def draw_front(found: Fit) -> tuple[bytes, bytes]:
    """Draw accuracy against latency, a line over the resolutions of each model, with the front and the answer: (SVG,
    PNG)."""
    judged = judged_of(found)
    models = list(dict.fromkeys(_line(one) for one in judged))
    front = pareto(found)
    with canvas(height=5.2, texts=models) as surface:
        axes = surface.add_subplot()
        axes.set_title("Accuracy against latency")
        axes.set_xlabel("latency of one image, ms")
        axes.set_ylabel("cross-validated accuracy, %")
        for place, model in enumerate(models):
            line = [
                (one, (one.latency or 0.0, 100 * (one.accuracy or 0.0)))
                for one in sorted(judged, key=lambda one: one.candidate.resolution)
                if _line(one) == model
            ]
            colour = _COLOURS[place % len(_COLOURS)]
            axes.plot(*zip(*(point for _, point in line), strict=True), "o-", color=colour, linewidth=1.2, label=model)
            for one, point in line:
                if one in front:  # all labels would overlap
                    axes.annotate(f"{one.candidate.resolution}", point, (0, 10), textcoords="offset points",
                                  ha="center", fontsize=9, color=colour)  # fmt: skip
        axes.step(
            [one.latency or 0.0 for one in front], [100 * (one.accuracy or 0.0) for one in front], where="post",
            color=QUIET, linestyle="--", linewidth=1.2, label="Pareto front (resolutions in px)",
        )  # fmt: skip
        limit = found.limits.max_latency
        if limit is not None:
            axes.axvline(limit, color=OKABE_ITO["black"], linewidth=1, label=f"limit, {limit:g} ms")
        log_axis(axes, "x", [*(one.latency or 0.0 for one in judged), *([limit] if limit else [])], "{:g}".format)
        chosen = answer_of(found)
        if chosen is not None:
            axes.plot(
                [chosen.latency or 0.0], [100 * (chosen.accuracy or 0.0)], "o", markersize=14,
                markerfacecolor="none", markeredgecolor=OKABE_ITO["black"], label="the answer",
            )  # fmt: skip
        axes.legend(fontsize=10, framealpha=1, edgecolor="none", loc="lower right")
        return encode(surface, describe_front(found))


def judged_of(found: Fit) -> list[Screened]:
    """Return the candidates that were timed and judged."""
    return [one for one in found.screened if one.accuracy is not None and one.latency is not None]


def answer_of(found: Fit) -> Screened | None:
    """Return what was judged of the answer: as it is computed, or else in another way; None if there is neither."""
    if found.answer is None:
        return None
    own = found.answer.candidate
    answers = [one for one in judged_of(found) if one.candidate.in_precision("") == own.in_precision("")]
    return min(answers, key=lambda one: one.candidate != own, default=None)


def _line(one: Screened) -> str:
    """What a line of the plot joins the resolutions of."""
    candidate = one.candidate
    shape = f", width {candidate.width:.2g}" if candidate.width < 1 else ""
    shape += f", depth {candidate.depth:.2g}" if candidate.depth < 1 else ""
    shape += f", {candidate.backend}" if candidate.backend else ""
    return f"{candidate.model}{shape}" + ("" if candidate.precision == "float32" else f", {candidate.precision}")
