"""The report of a fit: one HTML page with what was tried, the answer, its mistakes, and what to do next."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from compoundnet.base import format_bytes, format_count, write_whole
from compoundnet.base.images import UnreadableImageError
from compoundnet.data import Dataset
from compoundnet.fit.bounds import BOUNDS, LATENCY, BoundedFigure
from compoundnet.fit.front_plot import (
    answer_of,
    bounded,
    describe_cost,
    describe_front,
    draw_cost,
    draw_front,
    judged_of,
    trained_resolution,
    tuned_of,
)
from compoundnet.fit.limits import SAFE
from compoundnet.fit.next_commands import next_commands
from compoundnet.fit.report_data import counts_table, counts_text, sizes_text
from compoundnet.fit.screen import Screened
from compoundnet.plots.pages import data_address, jpeg_address, page_templates

if TYPE_CHECKING:
    from compoundnet.fit.limits import Limits
    from compoundnet.fit.state import Answer, Fit

# How much larger a budget is for what "a tenth more" would bring.
_MORE = 1.1
# The longest side of a thumbnail, pixels.
_THUMBNAIL = 160


class _Thumbnail(msgspec.Struct, frozen=True):
    """A wrong prediction, for the template: its image as an address; None if it cannot be read any more."""

    address: str | None
    name: str
    truth: str
    predicted: str
    probability: str


def write_fit_report(found: Fit, path: str | os.PathLike[str], dataset: Dataset | None = None) -> None:
    """Write the page, self-contained and without a script.

    Args:
        found: The fit.
        path: The HTML file.
        dataset: The data, for thumbnails of the worst mistakes; without it they are only named.
    """
    judged, marked = judged_of(found), _marked(found)
    page = page_templates("compoundnet.fit").get_template("fit.html.j2").render(
        fit=found,
        judged=len(judged),
        rows=[_row(one, _mark(one, found) if one == marked else "") for one in found.screened],
        rungs=[
            {
                "epochs": f"{rung.epochs:.3g}",
                "of": rung.of,
                "rows": [(str(one), f"{100 * score:.1f}") for one, score in rung.results],
            }
            for rung in found.rungs
        ],
        plots=_plots(found) if judged else [],
        tuned=bool(tuned_of(found)),
        costs=costs_text(found),
        trained=trained_resolution(found),
        facts=[] if dataset is None else [counts_text(dataset), sizes_text(dataset)],
        classes=([], []) if dataset is None else counts_table(dataset),
        more=what_more_brings(found),
        mistakes=[] if found.answer is None else _thumbnails(found.answer, dataset),
        commands=next_commands(found),
    )  # fmt: skip
    write_whole(path, page.encode(errors="replace"))


def costs_text(found: Fit) -> str:
    """Return in words what the network of the answer costs besides time; "" before there is one."""
    if found.answer is None:
        return ""
    own = found.answer.candidate
    words = [f"{format_count(own.params)} parameters", f"{format_count(own.macs)} multiply-adds"]
    words.append(f"{format_bytes(own.memory_bytes)} of memory")
    if found.limits.microcontroller:
        words.append(f"{format_bytes(own.sram_bytes)} of SRAM and {format_bytes(own.flash_bytes)} of flash in int8")
    return ", ".join(words)


def what_more_brings(found: Fit) -> str:
    """Return in words what a budget that is a tenth larger would bring; "" without bounds or an answer."""
    limits, answer = found.limits, found.answer
    given = [bound for bound in BOUNDS if getattr(limits, bound.name) is not None]
    if not given or answer is None:
        return ""
    larger = {bound: bound.typed(_MORE * getattr(limits, bound.name)) for bound in given}
    # That of the texts, which are rounded.
    budget = msgspec.structs.replace(limits, **{bound.name: bound.parse(text) for bound, text in larger.items()})
    what = given[0].noun if len(given) == 1 else "of the budget"
    how = _how_to_give(larger, limits.device)
    beyond = [one for one in found.screened if _is_beyond(one, found, budget)]
    if not beyond:
        return f"A tenth more {what} ({how}) would bring nothing: no candidate that was judged lies between."
    names = ", ".join(
        f"{one.candidate} ({'' if one.accuracy is None else f'{one.accuracy:.1%} cross-validated, '}"
        f"{'' if one.latency is None else f'{one.latency:.3g} ms when screened'})"
        for one in beyond
    )
    own = f"; the answer's probe has {answer.cross_validated:.1%}" if any(one.accuracy for one in beyond) else ""
    return f"A tenth more {what} would admit {names}{own}. To judge it: {how}."


def _how_to_give(larger: dict[BoundedFigure, str], device: str) -> str:
    """How larger bounds are given: as options, or in the profile of a device, which bounds beside all options."""
    options, fields = list[str](), list[str]()
    for bound, text in larger.items():
        if device and bound is not LATENCY:  # a profile bounds the multiply-adds in its place
            also = " or a tenth more max_latency" if bound.name == "max_macs" else ""
            fields.append(f'{bound.name} = "{text}"{also}')
        else:
            options.append(f"{bound.option} {text}")
    profile = f"in the profile of {device}, or the option that is tighter: {', '.join(fields)}" if fields else ""
    return "; ".join(filter(None, (" ".join(options), profile)))


def _is_beyond(one: Screened, found: Fit, larger: Limits) -> bool:
    """Whether a candidate fits only a larger budget, or missed the budget in its final form alone."""
    limits, answer = found.limits, found.answer
    assert answer is not None
    if one.latency is None and limits.max_latency is not None:
        return False
    slow = limits.max_latency is not None and (one.latency or 0) > limits.max_latency
    too_slow = larger.max_latency is not None and (one.latency or 0) > larger.max_latency
    if one.candidate.exceeds(larger) is not None or too_slow:
        return False
    if slow or one.candidate.exceeds(limits) is not None:
        return one.accuracy is not None or slow
    # More accurate than the answer, and only just fast enough when it was screened: so close to the limit that it was
    # not fine-tuned, or of probes, which rank by accuracy, so that it missed the limit in the end.
    close = SAFE if answer.fine_tuned else 1 / _MORE**2
    near = limits.max_latency is not None and (one.latency or 0) > close * limits.max_latency
    return near and (one.accuracy or 0) > answer.cross_validated


def _thumbnails(answer: Answer, dataset: Dataset | None) -> list[_Thumbnail]:
    found = []
    for wrong in answer.mistakes:
        address = None
        if dataset is not None:
            try:
                image = dataset.split(dataset.evaluation).image(wrong.index)
                # Small images are enlarged, without smoothing, so that there is something to see.
                factor = _THUMBNAIL // max(image.size)
                if factor > 1:
                    image = image.resize((image.width * factor, image.height * factor), 0)
                address = jpeg_address(image, _THUMBNAIL)
            except UnreadableImageError:
                address = None
        found.append(_Thumbnail(address, wrong.image, wrong.truth, wrong.predicted, f"{100 * wrong.probability:.0f}"))
    return found


def _plots(found: Fit) -> list[dict[str, str]]:
    """Accuracy against latency, and against what else the budget bounds."""
    front = {"title": "Accuracy against latency", "text": describe_front(found),
             "address": data_address(draw_front(found)[0], "image/svg+xml")}  # fmt: skip
    others = [
        {"title": f"Accuracy against {cost.noun}", "text": describe_cost(found, cost),
         "address": data_address(draw_cost(found, cost), "image/svg+xml")}
        for cost in bounded(found)
    ]  # fmt: skip
    return [front, *others]


def _marked(found: Fit) -> Screened | None:
    """The row of the answer; if it was not screened at its resolution, that of its network where it was trained."""
    chosen = answer_of(found)
    if chosen is None or chosen in found.screened:
        return chosen
    own, side = chosen.candidate, trained_resolution(found) or chosen.candidate.resolution
    same = [one for one in judged_of(found) if one.candidate.shape == own.shape]
    return min(same, key=lambda one: (abs(one.candidate.resolution - side), one.candidate.way != own.way), default=None)


def _mark(one: Screened, found: Fit) -> str:
    """What the table says beside the row of the answer: that it is, and in what it differs from the row."""
    assert found.answer is not None
    row, own, trained = one.candidate, found.answer.candidate, trained_resolution(found)
    words = ["the answer"]
    if own.resolution != row.resolution:
        words.append(f"deployed at {own.resolution} px")
    elif trained is not None and trained != row.resolution:
        words.append(f"trained at {trained} px")
    if own.way != row.way:
        words.append(f"deployed in {own.precision}" + (f" on {own.backend}" if own.backend else ""))
    return f" ({', '.join(words)})"


def _row(one: Screened, mark: str) -> dict[str, str]:
    candidate = one.candidate
    return {
        "model": candidate.shape,
        "resolution": f"{candidate.resolution}",
        "precision": candidate.way_text,
        "params": format_count(candidate.params),
        "macs": format_count(candidate.macs),
        "size": format_bytes(candidate.size_bytes),
        "memory": format_bytes(candidate.memory_bytes),
        "latency": "" if one.latency is None else f"{one.latency:.3g}",
        "accuracy": "" if one.accuracy is None else f"{100 * one.accuracy:.1f}",
        "dropped": one.dropped or "",
        "answer": mark,
    }
