"""The plot of a fit: accuracy against latency, the Pareto front, and the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compoundnet.fit.screen import Screened
from compoundnet.plots.canvas import OKABE_ITO, QUIET, canvas, encode, log_axis

if TYPE_CHECKING:
    from compoundnet.fit.state import Fit

_COLOURS = tuple(OKABE_ITO[name] for name in ("blue", "vermillion", "green", "purple", "orange", "sky", "black"))
_MARKERS = "os^D"  # of the first line with each colour, of the second, and so on


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
    with canvas(height=4.6 + 0.13 * (len(models) + 3), texts=models) as surface:
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
            colour, marker = look(place)
            across, up = zip(*(point for _, point in line), strict=True)
            axes.plot(across, up, f"{marker}-", color=colour, linewidth=1.2, label=model)
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
            named = "the answer" + ("" if chosen in judged else ", by the probe where it was trained")
            axes.plot(
                [chosen.latency or 0.0], [100 * (chosen.accuracy or 0.0)], "o", markersize=14,
                markerfacecolor="none", markeredgecolor=OKABE_ITO["black"], label=named,
            )  # fmt: skip
        # Below the axes, where it hides no point.
        surface.legend(fontsize=10, edgecolor="none", loc="outside lower left", ncols=2)
        return encode(surface, describe_front(found))


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


def _line(one: Screened) -> str:
    """What a line of the plot joins the resolutions of."""
    candidate = one.candidate
    backend = f", {candidate.backend}" if candidate.backend else ""
    return f"{candidate.shape}{backend}" + ("" if candidate.precision == "float32" else f", {candidate.precision}")
