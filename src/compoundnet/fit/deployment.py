"""The answer in its final form: exported, compared with torch, timed once more, and judged on the test images once."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from compoundnet.base import CompoundNetError, Notify, ignore, replace_together, scratch_folder, write_whole
from compoundnet.data import Dataset, Split
from compoundnet.data.dataset import UNKNOWN
from compoundnet.fit.candidates import FLOAT, Candidate, way_key
from compoundnet.fit.forms import Finalist, Form, Forms, excess_of
from compoundnet.fit.images import left_out, unreadable, without
from compoundnet.fit.state import Answer, Fit, WrongImage
from compoundnet.fit.ways import other_ways
from compoundnet.models import ModelFolder, read_folder
from compoundnet.models.folder import PREPROCESS
from compoundnet.runtime.exports.formats import FORMATS
from compoundnet.train import Evaluation, SingleLabelReport, evaluate, find_recipe
from compoundnet.train.evaluation.evaluation_report import wilson
from compoundnet.train.results import write_result

# The wrong predictions that the report shows.
_MISTAKES = 12
# A folder of the scratch, which no model folder is named like.
_FORMS = ".forms"


def file_of(target: Path, form: str) -> Path:
    """Return the deployed file beside a model folder."""
    return target.with_name(f"{target.name}{FORMATS[form].suffix}")


def deploy(
    finalist: Finalist,
    make: Callable[[Path], ModelFolder],
    state: Fit,
    dataset: Dataset,
    target: Path,
    until: float = math.inf,
) -> tuple[Answer | None, str]:
    """Write a model as the answer if its final form meets the budget; return None and what it misses otherwise.

    Of the precisions that meet it, float32 is taken; the fastest if an accuracy suffices, and the candidate's own where
    float32 is too large or too slow. Where int8 loses more accuracy than `max_drop`, or without that than a point, the
    layers that lose most stay in float32, but for a microcontroller. Without `max_drop`, the only precision that meets
    the budget is taken whatever it loses, if it is better than what would be the answer instead. What is only faster
    must keep the accuracy that suffices, where float32 reaches it.

    Args:
        finalist: The model's candidate, and how it was chosen.
        make: Writes the model folder and returns the model.
        state: The state of the fit.
        dataset: The data.
        target: The model folder of the answer; the deployed file gets its name and the suffix of the format.
        until: The time, by `time.time`, at which a search for layers that stay in float32 is to be over; one that is
            not expected to be is not begun.
    """
    file, began = file_of(target, state.format), time.monotonic()
    with scratch_folder(target) as scratch:
        model = make(scratch / target.name)
        forms = Forms(model, finalist, state, dataset, scratch / _FORMS, until)
        found, missed = dict[Candidate, Form](), list[str]()
        for candidate in _ways(finalist.screened.candidate, state):
            if found and state.limits.min_accuracy is None:
                break
            form = forms.measure(candidate)
            excess = excess_of(form, finalist, state.limits, optional=bool(found))
            if excess is None:
                found[candidate] = form
            else:
                how = "" if candidate == finalist.screened.candidate else f"in {candidate.way_text} "
                missed.append(f"{how}it {excess}")
        if not found:
            return None, "; ".join(missed)
        chosen = min(found, key=lambda candidate: found[candidate].latency)
        form = found[chosen]
        _move(scratch, scratch / _FORMS / form.folder, file, target)
    answer = Answer(
        candidate=chosen,
        model=str(target),
        file=str(file),
        fine_tuned=finalist.fine_tuned,
        cross_validated=finalist.screened.accuracy or 0.0,
        latency=form.latency,
        size_bytes=form.export.bytes,
        agreement=form.export.agreement,
        drop=form.drop,
        float32_layers=form.float32_layers,
        held_out=finalist.held_out,
        on_all=finalist.on_all,
        slower=form.slower,
        layers_sought=form.searched,
        no_layers=form.no_layers,
        averaged=finalist.averaged,
        training=finalist.training,
        seconds=time.monotonic() - began,
    )
    return answer, ""


def _ways(own: Candidate, state: Fit) -> list[Candidate]:
    """The candidate in the ways to try, in this order. One in another way than the first does not fit in that."""
    if own.way != way_key("", FLOAT):
        return [own]
    return [own, *(own.in_precision(precision, backend) for backend, precision in other_ways(state.format))]


def _move(scratch: Path, exported: Path, file: Path, target: Path) -> None:
    """Give folder and file their final names."""
    parts = (part for part in exported.iterdir() if part.stem == "model")
    files = {part: file.with_suffix(part.suffix) for part in sorted(parts)}  # .bin before .xml, which needs it
    replace_together(scratch, {scratch / target.name: target} | files)


def judge_on_test(state: Fit, dataset: Dataset, notify: Notify = ignore) -> Fit:
    """Evaluate the deployed file of the answer on the test images, which nothing was judged on before.

    Images that cannot be read are left out, as many as a training tolerates.

    Returns:
        The state with the result, the interval and the worst mistakes; the state unchanged if it was judged before.
    """
    answer = state.answer
    if answer is None or state.finished:
        return state
    known = dataset.evaluation != "train" and not (dataset.split(dataset.evaluation).labels == UNKNOWN).any()
    if not known:
        text = "there are no test images with known classes: the accuracy is that on training images"
        notify(text)
        return msgspec.structs.replace(state.noted(text), finished=True)
    try:
        found = _evaluated(answer, dataset, notify)
    except CompoundNetError:
        bad = unreadable(dataset.split(dataset.evaluation))
        if not 0 < len(bad) <= find_recipe("probe").max_bad:
            raise
        text = left_out(bad, "test")
        notify(text)
        state, found = state.noted(text), _evaluated(answer, without(dataset, bad, dataset.evaluation), notify)
    result = msgspec.structs.replace(found.result, model=answer.file)
    bounds = wilson(round(result.top1 * result.count), result.count)
    write_whole(Path(answer.model) / "result.json", write_result(result))
    answer = msgspec.structs.replace(
        answer, result=result, interval=(bounds.low, bounds.high),
        mistakes=_mistakes(found.report, found.split, dataset.split(dataset.evaluation)),
        several_labels=dataset.multilabel,
    )  # fmt: skip
    return msgspec.structs.replace(state, answer=answer, finished=True)


def _evaluated(answer: Answer, dataset: Dataset, notify: Notify) -> Evaluation:
    own = answer.candidate
    return evaluate(answer.file, dataset, backend=own.backend or None, precision=own.precision, notify=notify)


def _mistakes(report: object, judged: Split, whole: Split) -> tuple[WrongImage, ...]:
    """The worst mistakes on the images that were judged, with their numbers among all of them."""
    if not isinstance(report, SingleLabelReport):
        return ()
    images, labels = report.images, report.labels
    numbers = {whole.image_name(index): index for index in range(len(whole))}
    return tuple(
        WrongImage(
            judged.image_name(one.image), numbers[judged.image_name(one.image)], labels[images.truth[one.image]],
            labels[images.predicted[one.image]], float(images.probability[one.image]),
        )
        for one in report.mistakes(_MISTAKES)
    )  # fmt: skip


def copied(source: ModelFolder, resolution: int) -> Callable[[Path], ModelFolder]:
    """Return a function that writes a copy of a model folder, for images of a side in pixels, and returns the model."""

    def copy(folder: Path) -> ModelFolder:
        shutil.copytree(source.folder, folder)
        source.at_resolution(resolution).preprocess.save(folder / PREPROCESS)
        return read_folder(folder)

    return copy
