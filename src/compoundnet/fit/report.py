"""The report of a fit: one HTML page with what was tried, the Pareto front, and the answer (templates/fit.html.j2)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from compoundnet.base import format_bytes, format_count, write_whole
from compoundnet.fit.screen import Screened
from compoundnet.plots.canvas import OKABE_ITO, QUIET, canvas, encode, log_axis
from compoundnet.plots.pages import data_address, page_templates

if TYPE_CHECKING:
    from compoundnet.fit.state import Fit

_COLOURS = tuple(OKABE_ITO[name] for name in ("blue", "vermillion", "green", "purple", "orange", "sky", "black"))
# How much larger a budget is for what "a tenth more" would bring.
_MORE = 1.1


def write_fit_report(found: Fit, path: str | os.PathLike[str]) -> None:
    """Write the page, self-contained and without a script."""
    judged = [one for one in found.screened if one.accuracy is not None and one.latency is not None]
    page = page_templates("compoundnet.fit").get_template("fit.html.j2").render(
        fit=found,
        judged=len(judged),
        rows=[_row(one, found) for one in found.screened],
        plot=data_address(draw_front(found)[0], "image/svg+xml") if judged else None,
        alternative=describe_front(found),
        more=what_more_brings(found),
    )  # fmt: skip
    write_whole(path, page.encode(errors="replace"))


def pareto(found: Fit) -> list[Screened]:
    """Return the candidates than which none is both faster and as accurate, from fast to slow."""
    judged = [one for one in found.screened if one.accuracy is not None and one.latency is not None]
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
    judged = [one for one in found.screened if one.accuracy is not None and one.latency is not None]
    models = list(dict.fromkeys(one.candidate.model for one in judged))
    front = pareto(found)
    with canvas(height=5.2, texts=models) as surface:
        axes = surface.add_subplot()
        axes.set_title("Accuracy against latency")
        axes.set_xlabel("latency of one image, ms")
        axes.set_ylabel("cross-validated accuracy, %")
        for place, model in enumerate(models):
            line = sorted(
                ((one.latency or 0.0, 100 * (one.accuracy or 0.0), one.candidate.resolution) for one in judged
                 if one.candidate.model == model),
            )  # fmt: skip
            colour = _COLOURS[place % len(_COLOURS)]
            axes.plot([x for x, _, _ in line], [y for _, y, _ in line], "o-", color=colour, linewidth=1.2, label=model)
            for x, y, resolution in line:
                axes.annotate(f"{resolution}", (x, y), (0, 10), textcoords="offset points", ha="center", fontsize=9,
                              color=colour)  # fmt: skip
        axes.step(
            [one.latency or 0.0 for one in front], [100 * (one.accuracy or 0.0) for one in front], where="post",
            color=QUIET, linestyle="--", linewidth=1.2, label="Pareto front",
        )  # fmt: skip
        limit = found.limits.max_latency
        if limit is not None:
            axes.axvline(limit, color=OKABE_ITO["black"], linewidth=1, label=f"limit, {limit:g} ms")
        log_axis(axes, "x", [*(one.latency or 0.0 for one in judged), *([limit] if limit else [])], "{:g}".format)
        if found.answer is not None:
            chosen = next((one for one in judged if one.candidate == found.answer.candidate), None)
            if chosen is not None:
                axes.plot(
                    [chosen.latency or 0.0], [100 * (chosen.accuracy or 0.0)], "o", markersize=14,
                    markerfacecolor="none", markeredgecolor=OKABE_ITO["black"], label="the answer",
                )  # fmt: skip
        axes.legend(fontsize=10, frameon=False, loc="lower right")
        return encode(surface, describe_front(found))


def what_more_brings(found: Fit) -> str:
    """Return in words what a tenth more time would bring."""
    limit, answer = found.limits.max_latency, found.answer
    if limit is None or answer is None:
        return ""
    # Slower ones, and more accurate ones that missed the limit only in their final form.
    beyond = [
        one for one in found.screened
        if one.latency is not None and one.latency <= _MORE * limit
        and (one.latency > limit or (one.accuracy or 0) > answer.cross_validated)
    ]  # fmt: skip
    if not beyond:
        return (
            f"A tenth more time ({_MORE * limit:.3g} ms) would bring nothing: no candidate that was timed lies between."
        )
    names = ", ".join(f"{one.candidate} ({one.latency:.3g} ms when screened)" for one in beyond)
    more = f"{_MORE * limit:.3g}"
    return f"A tenth more time ({more} ms) would admit {names}, which `--max-latency {more}ms` would judge."


def _row(one: Screened, found: Fit) -> dict[str, str | bool]:
    candidate = one.candidate
    return {
        "model": candidate.model,
        "resolution": f"{candidate.resolution}",
        "precision": candidate.precision,
        "params": format_count(candidate.params),
        "macs": format_count(candidate.macs),
        "size": format_bytes(candidate.size_bytes),
        "memory": format_bytes(candidate.memory_bytes),
        "latency": "" if one.latency is None else f"{one.latency:.3g}",
        "accuracy": "" if one.accuracy is None else f"{100 * one.accuracy:.1f}",
        "dropped": one.dropped or "",
        "answer": found.answer is not None and candidate == found.answer.candidate,
    }
