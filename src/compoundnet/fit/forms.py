"""The forms of an answer: a model exported in one precision, timed, and compared with float32."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any, NamedTuple

from compoundnet.base import CompoundNetError, UnwritableError, format_bytes, make_folder
from compoundnet.data import Dataset, Split
from compoundnet.fit.candidates import FLOAT, Candidate
from compoundnet.fit.limits import LITTLE, Limits, drops
from compoundnet.fit.screen import Screened
from compoundnet.fit.state import Fit, HeldOut
from compoundnet.fit.trainings import LEAST_HELD_OUT
from compoundnet.fit.ways import calibration_images, file_precision, noise, time_calls
from compoundnet.models import ModelFolder
from compoundnet.runtime import Embedder, Export, export, session
from compoundnet.runtime.exports.formats import FORMATS
from compoundnet.runtime.session_source import Run
from compoundnet.train import evaluate

# How often a file that misses its limit is timed again, unless it takes more than so many times the limit.
_AGAIN, _HOPELESS = 3, 1.1
# How many times as long as the first export a search for layers takes that stay in float32.
_SEARCH = 10
# The folder of a file in int8 with some layers in float32.
_MIXED = "mixed"


class Finalist(NamedTuple):
    """A model that is to be the answer if its final form meets the budget: its candidate, and how it was chosen.

    Attributes:
        screened: The candidate, with what the screen says of it.
        held: The held-out training images, by which a reduced precision is compared with float32; where they are few,
            all training images are.
        fine_tuned: Whether all of the network was trained.
        held_out: Of a fine-tuned network, what the held-out images say.
        on_all: Whether it was trained once more, on all training images.
        averaged: The number of such trainings whose weights are averaged.
        training: The name of the folder of the training, of those that are averaged of the first.
        instead: The accuracy, on the same images, of what becomes the answer if this is rejected.
    """

    screened: Screened
    held: Split
    fine_tuned: bool = False
    held_out: HeldOut | None = None
    on_all: bool = False
    averaged: int = 1
    training: str = ""
    instead: float = 0.0

    def judging_images(self, train: Split) -> Split:
        """Return the held-out images, or all training images where those are so few that one would decide."""
        return self.held if len(self.held) >= LEAST_HELD_OUT else train

    @property
    def accuracy(self) -> float:
        """In float32: on the held-out images, or of a probe cross-validated."""
        return (self.screened.accuracy or 0.0) if self.held_out is None else self.held_out.accuracy


class Form(NamedTuple):
    """A file in one precision, in a folder of the scratch, and what was measured of it.

    Attributes:
        folder: The folder.
        export: The export.
        latency: Milliseconds of one image.
        slower: How many times slower the machine is than when the candidate was screened.
        drop: The accuracy that a reduced precision loses; None in float32.
        searched: Whether there was time to look for layers that stay in float32, or no need to.
        no_layers: Why none stay in float32, though int8 loses much; "" if some do, or none is needed.
    """

    folder: str
    export: Export
    latency: float
    slower: float
    drop: float | None
    searched: bool = True
    no_layers: str = ""

    @property
    def float32_layers(self) -> int:
        """The layers of int8 that stay in float32 for the accuracy."""
        return 0 if self.export.floor is None else len(self.export.floor.float32_layers)

    @property
    def kept(self) -> str:
        """These layers in words, if there are any."""
        count = self.float32_layers
        return f" with {count} layer{'s' * (count != 1)} in float32" if count else ""


class Forms:
    """The files of a model in the precisions that are tried: what runs in several backends is exported once."""

    def __init__(
        self, model: ModelFolder, finalist: Finalist, state: Fit, dataset: Dataset, scratch: Path, until: float
    ) -> None:
        self._model, self._state, self._train, self._scratch = model, state, dataset.split("train"), scratch
        self._finalist, self._until = finalist, until
        judging = finalist.judging_images(self._train)
        self._held = Dataset("training images", {judging.name: judging})
        # By folder; and the folder of a precision, if it is not named like it.
        self._exports, self._folders = dict[str, Export](), dict[str, str]()
        # Whether the int8 file stays as it is: others were measured on it, or layers in float32 were tried. Those are
        # for classifiers of one class an image, and no part of what a microcontroller computes.
        self._settled = dataset.multilabel or state.limits.microcontroller

    def measure(self, candidate: Candidate) -> Form:
        """Return the form of a candidate's precision; of int8 that with layers in float32 where it loses too much."""
        precision, began = file_precision(candidate.precision), time.monotonic()
        if precision not in self._exports:
            self._exports[precision] = self._export(precision, precision)
        exporting = time.monotonic() - began
        form = self._measured(candidate, self._folders.get(precision, precision))
        if precision == FLOAT or form.drop is None:
            return form
        limits, settled, self._settled = self._state.limits, self._settled, True
        least = LITTLE if limits.max_drop is None else limits.max_drop
        if settled or not drops(form.drop, least) or _is_slow(form, limits):  # layers in float32 are no faster
            return form
        # Without a bound the file is good for something as it is; with one, all would have been for nothing.
        search = _SEARCH * exporting if limits.max_drop is None else 0.0
        if time.time() + search > self._until:
            return form._replace(searched=False, no_layers="there is no time to look for layers that stay in float32")
        try:
            self._exports[_MIXED] = self._export(_MIXED, precision, max_drop=least, data=self._held)
        except UnwritableError:
            raise
        except CompoundNetError:
            return form._replace(no_layers="no choice of layers that stay in float32 is enough")
        mixed = self._measured(candidate, _MIXED)
        if limits.max_drop is None and (excess := _costs(mixed, limits)) is not None:
            return form._replace(no_layers=f"the file {excess}")
        self._folders[precision] = _MIXED
        return mixed

    def _file(self, folder: str) -> Path:
        return self._scratch / folder / f"model{FORMATS[self._state.format].suffix}"

    def _export(self, folder: str, precision: str, **floor: Any) -> Export:
        file = self._file(folder)
        place = make_folder(file.parent)
        images = calibration_images(self._train, place) if precision != FLOAT else None
        return export(self._model, file, format=self._state.format, precision=precision, calibrate=images, **floor)

    def _measured(self, candidate: Candidate, folder: str) -> Form:
        file, backend, precision = self._file(folder), candidate.backend or None, candidate.precision
        run = session(file, backend=backend, precision=precision, threads=self._state.threads)
        latency, slower = self._timed(run)
        if candidate.precision == FLOAT:
            return Form(folder, self._exports[folder], latency, slower, None)
        (split,) = self._held.splits
        after = evaluate(file, self._held, split=split, backend=backend, precision=precision)
        return Form(folder, self._exports[folder], latency, slower, self._float32_accuracy - after.result.top1)

    def _timed(self, run: Run) -> tuple[float, float]:
        """Milliseconds of one image, and how many times slower the machine is than when the candidate was screened.
        That is looked at only if the limit is missed: then the network of the screen is timed beside the file, and what
        both take longer is not the file's."""
        image, limit = noise(self._model.preprocess.size), self._state.limits.max_latency
        latency = time_calls({"": lambda: run(image)})[""].median
        before = self._finalist.screened.latency
        if limit is None or latency <= limit or before is None:
            return latency, 1.0
        before /= self._state.ratios.get(self._finalist.screened.candidate.way, 1.0)
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


def excess_of(form: Form, finalist: Finalist, limits: Limits, *, optional: bool) -> str | None:
    """Return in words by what a form misses its budget, or loses too much; None if it does not.

    Args:
        form: The form.
        finalist: The model's candidate, and how it was chosen.
        limits: The budget.
        optional: Whether another form meets the budget, so that this one may only be faster.
    """
    if (costs := _costs(form, limits)) is not None or form.drop is None:
        return costs
    bound = LITTLE if limits.max_drop is None and optional else limits.max_drop
    lost = f"loses {100 * form.drop:.1f} points of accuracy{form.kept}"
    left = max(0.0, finalist.accuracy - form.drop)  # the drop may be that on other images
    goal = limits.min_accuracy
    if optional and goal is not None and finalist.accuracy >= goal and drops(form.drop, finalist.accuracy - goal):
        return f"{lost}, which leaves {left:.1%}, less than --min-accuracy {goal:.1%}"
    if bound is None:
        if not drops(form.drop, LITTLE) or left >= finalist.instead:
            return None
        return f"{lost}, which leaves {left:.1%}, where another has {finalist.instead:.1%}"
    if not drops(form.drop, bound):
        return None
    lost = f"{lost}, more than {'--max-drop ' if limits.max_drop is not None else ''}{100 * bound:g}%"
    return f"{lost}, and {form.no_layers}" if form.no_layers else lost


def _costs(form: Form, limits: Limits) -> str | None:
    """In words by what the measured costs of a form exceed a budget."""
    if _is_slow(form, limits):
        return f"takes {form.latency:.3g} ms{form.kept}"
    if limits.max_size is not None and form.export.bytes > limits.max_size:
        return f"has {format_bytes(form.export.bytes)}{form.kept}"
    return None


def _is_slow(form: Form, limits: Limits) -> bool:
    return limits.max_latency is not None and form.latency > limits.max_latency
