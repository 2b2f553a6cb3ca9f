"""The report of a fit: one HTML page with what was tried, the answer, its mistakes, and what to do next."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from compoundnet.base import format_bytes, format_count, write_whole
from compoundnet.base.images import UnreadableImageError
from compoundnet.data import Dataset
from compoundnet.fit.front_plot import answer_of, describe_front, draw_front, judged_of
from compoundnet.fit.screen import Screened
from compoundnet.plots.pages import data_address, jpeg_address, page_templates

if TYPE_CHECKING:
    from compoundnet.fit.state import Answer, Fit

# How much larger a budget is for what "a tenth more" would bring.
_MORE = 1.1
# The longest side of a thumbnail, pixels.
_THUMBNAIL = 160
# What `--max-...` is called for people, and the unit that the option takes.
_BOUNDS = {
    "max_latency": ("latency", "ms", 1.0), "max_size": ("file", "kB", 1e3), "max_macs": ("multiply-adds", "k", 1e3),
    "max_params": ("parameters", "k", 1e3), "max_memory": ("memory", "kB", 1e3), "max_sram": ("SRAM", "kB", 1e3),
    "max_flash": ("flash", "kB", 1e3),
}  # fmt: skip


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
    judged = judged_of(found)
    page = page_templates("compoundnet.fit").get_template("fit.html.j2").render(
        fit=found,
        judged=len(judged),
        rows=[_row(one, found) for one in found.screened],
        rungs=[
            {
                "epochs": f"{rung.epochs:.3g}",
                "of": rung.of,
                "rows": [(str(one), f"{100 * score:.1f}") for one, score in rung.results],
            }
            for rung in found.rungs
        ],
        plot=data_address(draw_front(found)[0], "image/svg+xml") if judged else None,
        alternative=describe_front(found),
        more=what_more_brings(found),
        mistakes=[] if found.answer is None else _thumbnails(found.answer, dataset),
    )  # fmt: skip
    write_whole(path, page.encode(errors="replace"))


def what_more_brings(found: Fit) -> str:
    """Return in words what a budget that is a tenth larger would bring."""
    limits, answer = found.limits, found.answer
    given = [name for name in _BOUNDS if getattr(limits, name) is not None]
    if not given or answer is None:
        return ""
    larger = limits.times(_MORE)
    options = " ".join(
        f"--{name.replace('_', '-')} {getattr(larger, name) / factor:.3g}{unit}"
        for name, (_, unit, factor) in _BOUNDS.items()
        if name in given
    )
    what = _BOUNDS[given[0]][0] if len(given) == 1 else "of the budget"
    beyond = [one for one in found.screened if _is_beyond(one, found)]
    if not beyond:
        return f"A tenth more {what} ({options}) would bring nothing: no candidate that was judged lies between."
    names = ", ".join(
        f"{one.candidate} ({'' if one.accuracy is None else f'{one.accuracy:.1%} cross-validated, '}"
        f"{'' if one.latency is None else f'{one.latency:.3g} ms when screened'})"
        for one in beyond
    )
    own = f"; the answer's probe has {answer.cross_validated:.1%}" if any(one.accuracy for one in beyond) else ""
    return f"A tenth more {what} would admit {names}{own}. {options} would judge it."


def _is_beyond(one: Screened, found: Fit) -> bool:
    """Whether a candidate fits only a budget that is a tenth larger, or missed the budget in its final form alone."""
    limits, answer = found.limits, found.answer
    assert answer is not None
    larger = limits.times(_MORE)
    if one.latency is None and limits.max_latency is not None:
        return False
    slow = limits.max_latency is not None and (one.latency or 0) > limits.max_latency
    too_slow = larger.max_latency is not None and (one.latency or 0) > larger.max_latency
    if one.candidate.exceeds(larger) is not None or too_slow:
        return False
    if slow or one.candidate.exceeds(limits) is not None:
        return one.accuracy is not None or slow
    # More accurate than the answer, and only just fast enough when it was screened.
    near = limits.max_latency is not None and (one.latency or 0) * _MORE**2 > limits.max_latency
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


def _row(one: Screened, found: Fit) -> dict[str, str | bool]:
    candidate = one.candidate
    return {
        "model": candidate.shape,
        "resolution": f"{candidate.resolution}",
        "precision": candidate.way.strip(),
        "params": format_count(candidate.params),
        "macs": format_count(candidate.macs),
        "size": format_bytes(candidate.size_bytes),
        "memory": format_bytes(candidate.memory_bytes),
        "latency": "" if one.latency is None else f"{one.latency:.3g}",
        "accuracy": "" if one.accuracy is None else f"{100 * one.accuracy:.1f}",
        "dropped": one.dropped or "",
        "answer": one == answer_of(found),
    }
