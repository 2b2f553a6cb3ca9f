"""The answer in its final form: exported, compared with torch, timed once more, and judged on the test images once."""

from __future__ import annotations

import functools
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from compoundnet.base import (
    CompoundNetError,
    Notify,
    format_bytes,
    ignore,
    make_folder,
    scratch_folder,
    write_whole,
)
from compoundnet.data import Dataset, Split
from compoundnet.data.dataset import UNKNOWN
from compoundnet.fit.candidates import FLOAT, Candidate
from compoundnet.fit.screen import Screened
from compoundnet.fit.state import Answer, Fit, HeldOut, WrongImage
from compoundnet.fit.trainings import LEAST_HELD_OUT
from compoundnet.fit.ways import calibration_images, file_precision, noise, other_ways, time_calls
from compoundnet.models import ModelFolder, read_folder
from compoundnet.models.folder import PREPROCESS
from compoundnet.runtime import Embedder, Export, export, session
from compoundnet.runtime.exports.formats import FORMATS
from compoundnet.runtime.session_source import Run
from compoundnet.train import SingleLabelReport, evaluate
from compoundnet.train.evaluation.evaluation_report import wilson
from compoundnet.train.results import write_result

# How often a file that misses its limit is timed again, unless it takes more than so many times the limit.
_AGAIN, _HOPELESS = 3, 1.1
# The wrong predictions that the report shows.
_MISTAKES = 12


class Judged(NamedTuple):
    """How a model was chosen.

    Attributes:
        screened: The candidate, with what the screen says of it.
        held: The held-out training images, by which a reduced precision is compared with float32; where they are few,
            all training images are.
        fine_tuned: Whether all of the network was trained.
        held_out: Of a fine-tuned network, what the held-out images say.
        on_all: Whether it was trained once more, on all training images.
    """

    screened: Screened
    held: Split
    fine_tuned: bool = False
    held_out: HeldOut | None = None
    on_all: bool = False


class _Form(NamedTuple):
    """A file in one precision, and what was measured of it; `searched` is false if there was no time to look for layers
    that stay in float32."""

    export: Export
    latency: float
    slower: float
    drop: float | None
    searched: bool = True

    @property
    def float32_layers(self) -> int:
        """The layers of int8 that stay in float32 for the accuracy."""
        return 0 if self.export.floor is None else len(self.export.floor.float32_layers)


def file_of(target: Path, form: str) -> Path:
    """Return the deployed file beside a model folder."""
    return target.with_name(f"{target.name}{FORMATS[form].suffix}")


def deploy(
    judged: Judged,
    make: Callable[[Path], ModelFolder],
    state: Fit,
    dataset: Dataset,
    target: Path,
    until: float = math.inf,
) -> tuple[Answer | None, str]:
    """Write a model as the answer if its final form meets the budget; return None and what it misses otherwise.

    Of the precisions that meet it and lose no more accuracy than `max_drop`, float32 is taken; the fastest if an
    accuracy suffices, and the candidate's own where float32 is too large or too slow. Where int8 loses more, the layers
    that lose most stay in float32.

    Args:
        judged: How the model was chosen.
        make: Writes the model folder and returns the model.
        state: The state of the fit.
        dataset: The data.
        target: The model folder of the answer; the deployed file gets its name and the suffix of the format.
        until: The time, by `time.time`, after which layers that stay in float32 are not looked for.
    """
    file = file_of(target, state.format)
    with scratch_folder(target) as scratch:
        model = make(scratch / target.name)
        forms = _Forms(model, judged, state, dataset, scratch, until)
        found, missed = dict[Candidate, _Form](), list[str]()
        for candidate in _ways(judged.screened.candidate, state):
            if found and state.limits.min_accuracy is None:
                break
            form = forms.measure(candidate)
            excess = _excess(form, state)
            if excess is None:
                found[candidate] = form
            else:
                missed.append(excess if candidate.way == f" {FLOAT}" else f"as {candidate.way.strip()} {excess}")
        if not found:
            return None, "; ".join(missed)
        chosen = min(found, key=lambda candidate: found[candidate].latency)
        form = found[chosen]
        _move(scratch, file_precision(chosen.precision), file, target)
    return (
        Answer(
            chosen, str(target), str(file), judged.fine_tuned, judged.screened.accuracy or 0.0, form.latency,
            form.export.bytes, form.export.agreement, form.drop, form.float32_layers, judged.held_out, judged.on_all,
            slower=form.slower,
        ),
        "",
    )  # fmt: skip


def _ways(own: Candidate, state: Fit) -> list[Candidate]:
    """The candidate in the ways to try, in this order. One in another way than the first does not fit in that."""
    if own.way != f" {FLOAT}":
        return [own]
    return [own, *(own.in_precision(precision, backend) for backend, precision in other_ways(state.format))]


class _Forms:
    """The files of a model in the precisions that are tried: what runs in several backends is exported once."""

    def __init__(
        self, model: ModelFolder, judged: Judged, state: Fit, dataset: Dataset, scratch: Path, until: float
    ) -> None:
        self._model, self._state, self._train, self._scratch = model, state, dataset.split("train"), scratch
        self._screened, self._until = judged.screened, until
        # One of few images would decide.
        judges = judged.held if len(judged.held) >= LEAST_HELD_OUT else self._train
        self._held = Dataset("training images", {judges.name: judges})
        self._exports: dict[str, Export] = {}
        # Whether the int8 file stays as it is: others were measured on it, or layers in float32 were tried. Those are
        # for classifiers of one class an image.
        self._settled = dataset.multilabel

    def measure(self, candidate: Candidate) -> _Form:
        kind = file_precision(candidate.precision)
        if kind not in self._exports:
            self._exports[kind] = self._export(kind)
        form = self._measured(candidate, kind)
        if kind == FLOAT or form.drop is None:
            return form
        limit, settled, self._settled = self._state.limits.max_drop, self._settled, True
        if settled or not _drops(form.drop, limit):
            return form
        if time.time() > self._until:
            return form._replace(searched=False)
        try:
            self._exports[kind] = self._export(kind, max_drop=limit, data=self._held)
        except CompoundNetError:  # no choice of layers suffices; the file of before is still there
            return form
        return self._measured(candidate, kind)

    def _file(self, kind: str) -> Path:
        return self._scratch / kind / f"model{FORMATS[self._state.format].suffix}"

    def _export(self, kind: str, **floor: Any) -> Export:
        file = self._file(kind)
        folder = make_folder(file.parent)
        images = calibration_images(self._train, folder) if kind != FLOAT else None
        return export(self._model, file, format=self._state.format, precision=kind, calibrate=images, **floor)

    def _measured(self, candidate: Candidate, kind: str) -> _Form:
        file, backend, precision = self._file(kind), candidate.backend or None, candidate.precision
        run = session(file, backend=backend, precision=precision, threads=self._state.threads)
        latency, slower = self._timed(run)
        if candidate.precision == FLOAT:
            return _Form(self._exports[kind], latency, slower, None)
        (split,) = self._held.splits
        after = evaluate(file, self._held, split=split, backend=backend, precision=precision)
        return _Form(self._exports[kind], latency, slower, self._float32_accuracy - after.result.top1)

    def _timed(self, run: Run) -> tuple[float, float]:
        """Milliseconds of one image, and how many times slower the machine is than when the candidate was screened.
        That is looked at only if the limit is missed: then the network of the screen is timed beside the file, and what
        both take longer is not the file's."""
        image, limit = noise(self._model.preprocess.size), self._state.limits.max_latency
        latency = time_calls({"": lambda: run(image)})[""].median
        before = self._screened.latency
        if limit is None or latency <= limit or before is None:
            return latency, 1.0
        before /= self._state.ratios.get(self._screened.candidate.way, 1.0)
        same, found = self._embedder, []
        for _ in range(_AGAIN):
            timed = time_calls({"": lambda: run(image), "before": lambda: same(image)})
            slower = max(1.0, timed["before"].median / before)
            found.append((timed[""].median / slower, slower))
            if found[-1][0] <= limit or found[-1][0] > _HOPELESS * limit:
                break
        return min(found)

    @functools.cached_property
    def _embedder(self) -> Run:
        """The network as the screen timed it."""
        return Embedder(self._model).open(self._state.threads)

    @functools.cached_property
    def _float32_accuracy(self) -> float:
        """On the held-out images, with which each reduced precision is compared."""
        (split,) = self._held.splits
        whole = self._file(FLOAT) if FLOAT in self._exports else self._model
        return evaluate(whole, self._held, split=split).result.top1


def _excess(form: _Form, state: Fit) -> str | None:
    limits = state.limits
    kept = f" with {form.float32_layers} layers in float32" if form.float32_layers else ""
    if limits.max_latency is not None and form.latency > limits.max_latency:
        return f"takes {form.latency:.3g} ms{kept}"
    if limits.max_size is not None and form.export.bytes > limits.max_size:
        return f"its file has {format_bytes(form.export.bytes)}{kept}"
    if form.drop is not None and _drops(form.drop, limits.max_drop):
        lost = f"loses {100 * form.drop:.1f} points of accuracy, more than --max-drop {100 * limits.max_drop:g}%"
        return lost if form.searched else f"{lost}, and there is no time to look for layers that stay in float32"
    return None


def _drops(drop: float, limit: float) -> bool:
    """Whether an accuracy drops by more than is allowed; both are fractions, which floats hold inexactly."""
    return drop > limit + 1e-9


def _move(scratch: Path, precision: str, file: Path, target: Path) -> None:
    """Give folder and file their final names."""
    if target.exists():
        target.rename(scratch / "replaced")
    (scratch / target.name).rename(target)
    parts = (part for part in (scratch / precision).iterdir() if part.stem == "model")
    for part in sorted(parts):  # .bin before .xml, so that a graph always has its weights
        part.replace(file.with_suffix(part.suffix))


def judge_on_test(state: Fit, dataset: Dataset, notify: Notify = ignore) -> Fit:
    """Evaluate the deployed file of the answer on the test images, which nothing was judged on before.

    Returns:
        The state with the result, the interval and the worst mistakes; the state unchanged if it was judged before.
    """
    answer = state.answer
    if answer is None or state.finished:
        return state
    known = dataset.evaluation != "train" and not (dataset.split(dataset.evaluation).labels == UNKNOWN).any()
    if not known:
        notify("there are no test images with known classes: the accuracy is that on held-out training images")
        return msgspec.structs.replace(state, finished=True)
    candidate = answer.candidate
    found = evaluate(
        answer.file, dataset, backend=candidate.backend or None, precision=candidate.precision, notify=notify
    )
    result = msgspec.structs.replace(found.result, model=answer.file)
    bounds = wilson(round(result.top1 * result.count), result.count)
    write_whole(Path(answer.model) / "result.json", write_result(result))
    answer = msgspec.structs.replace(
        answer, result=result, interval=(bounds.low, bounds.high), mistakes=_mistakes(found.report, found.split),
        several_labels=dataset.multilabel,
    )  # fmt: skip
    return msgspec.structs.replace(state, answer=answer, finished=True)


def _mistakes(report: object, split: Split) -> tuple[WrongImage, ...]:
    if not isinstance(report, SingleLabelReport):
        return ()
    images, labels = report.images, report.labels
    return tuple(
        WrongImage(
            split.image_name(one.image), one.image, labels[images.truth[one.image]],
            labels[images.predicted[one.image]], float(images.probability[one.image]),
        )
        for one in report.mistakes(_MISTAKES)
    )  # fmt: skip


def copied(source: ModelFolder, resolution: int) -> Callable[[Path], ModelFolder]:
    """Return a function that writes a copy of a model folder, for images of a side in pixels, and returns the model."""

    def copy(folder: Path) -> ModelFolder:
        shutil.copytree(source.folder, folder)
        msgspec.structs.replace(source.preprocess, size=resolution).save(folder / PREPROCESS)
        return read_folder(folder)

    return copy
