"""The state of a fit: what was screened, and the answer, as in `fit.json`."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from compoundnet.base import CompoundNetError, format_bytes
from compoundnet.fit.candidates import Candidate
from compoundnet.fit.limits import LITTLE, Limits, drops
from compoundnet.fit.pace import Reference
from compoundnet.fit.race_plan import RacePlan
from compoundnet.fit.screen import Screened
from compoundnet.train import Result

FIT_FILE = "fit.json"


class HeldOut(msgspec.Struct, frozen=True):
    """What held-out training images say of a network that was fine-tuned on the others.

    Attributes:
        accuracy: Fraction of the held-out images that it classifies correctly.
        probe: The same of the best probe, fitted to the other images.
        images: The number of held-out images.
        teacher: The candidate that taught it; "" if none did.
    """

    accuracy: float
    probe: float
    images: int
    teacher: str = ""


class WrongImage(msgspec.Struct, frozen=True):
    """A test image that the answer classifies wrongly.

    Attributes:
        image: Its name.
        index: Its number in the split.
        truth: Its class.
        predicted: The class that was predicted.
        probability: The probability of that class.
    """

    image: str
    index: int
    truth: str
    predicted: str
    probability: float


class Answer(msgspec.Struct, frozen=True):
    """The classifier that was found, measured in its final form.

    Attributes:
        candidate: What it is made of.
        model: The model folder.
        file: The deployed file.
        fine_tuned: Whether all of the network was trained; otherwise it is a probe.
        cross_validated: Of the probe, accuracy on the training images, each judged by a classifier that was not fitted
            to it. Of a network that is deployed at another resolution than it was trained at, which the screen did not
            judge, that of its probe where it was trained.
        latency: Milliseconds of one image of the deployed file, the median.
        size_bytes: Of the deployed file.
        agreement: Fraction of the images of the comparison of the deployed file with torch that have the same class.
        drop: What a reduced precision loses against float32, as a fraction of the held-out images, or of all training
            images where those are few; None in float32.
        float32_layers: Of int8, the number of layers that stay in float32 for the accuracy.
        held_out: Of a fine-tuned network, what the held-out images say.
        on_all: Whether the network was then trained once more, on all training images.
        result: The accuracy of the deployed file on the test images; None if there are none, or before the end.
        interval: Its 95 % interval.
        mistakes: The wrong predictions of the highest probability on the test images.
        several_labels: Whether an image may have several labels, or none.
        layers_sought: Whether there was time to look for layers that lose less in float32, if int8 loses much.
        no_layers: Why none stay in float32, though int8 loses much; "" otherwise.
        averaged: The number of trainings on all training images, each with another seed, whose weights are averaged.
        training: The name of the folder of the training, of those that are averaged of the first; "" of a probe.
        slower: How many times slower the machine was at the end than when the candidate was screened, by which the
            latency is corrected; 1 if it met the limit as it was measured.
        seconds: What it took to write, export and measure it.
    """

    candidate: Candidate
    model: str
    file: str
    fine_tuned: bool
    cross_validated: float
    latency: float
    size_bytes: int
    agreement: float | None
    drop: float | None = None
    float32_layers: int = 0
    held_out: HeldOut | None = None
    on_all: bool = False
    result: Result | None = None
    interval: tuple[float, float] | None = None
    mistakes: tuple[WrongImage, ...] = ()
    several_labels: bool = False
    slower: float = 1.0
    layers_sought: bool = True
    no_layers: str = ""
    averaged: int = 1
    training: str = ""
    seconds: float = 0.0

    @property
    def expected_accuracy(self) -> float:
        """The accuracy on held-out images, or of a probe cross-validated, less what its precision loses."""
        whole = self.cross_validated if self.held_out is None else self.held_out.accuracy
        return whole - (self.drop or 0.0)

    def kept(self, limits: Limits) -> float:
        """Return the cross-validated accuracy less what its precision loses of it, unless that is little."""
        little = LITTLE if limits.max_drop is None else limits.max_drop
        lost = self.drop if self.drop is not None and drops(self.drop, little) else 0.0
        return self.cross_validated - lost

    def text(self) -> str:
        """Return the answer in a sentence."""
        accuracy = ""
        if self.result is not None and self.interval is not None:
            right = "with all labels right" if self.several_labels else "right"
            accuracy = (
                f"{self.result.top1:.1%} of {self.result.count:,} test images {right} (95 % interval"
                f" {100 * self.interval[0]:.1f} to {100 * self.interval[1]:.1f}), "
            )
        how = "fine-tuned" if self.fine_tuned else "probe"
        if self.averaged > 1:
            how += f", {self.averaged} trainings averaged"
        if self.float32_layers:
            how += f", {self.float32_layers} layer{'s' * (self.float32_layers != 1)} in float32"
        judged = f"{self.cross_validated:.1%} cross-validated, "
        if self.held_out is not None:
            judged = f"{self.held_out.accuracy:.1%} of {self.held_out.images:,} held-out training images, "
        if self.drop is not None and self.drop > 0:
            why = f" ({self.no_layers})" if self.no_layers else ""
            judged += f"{100 * self.drop:.1f} points lost in {self.candidate.precision}{why}, "
        latency = f"{self.latency:.3g} ms"
        if self.slower > 1:
            now = self.latency * self.slower
            latency += f" ({now:.3g} now, as this machine is {self.slower:.2f} times slower than when it was screened)"
        return f"{self.candidate}, {how}: {accuracy}{judged}{latency}, {format_bytes(self.size_bytes)}"


class Rung(msgspec.Struct, frozen=True):
    """A rung of the race: candidates that were fine-tuned for as many epochs.

    Attributes:
        epochs: The epochs after which they were judged: fewer than planned if the time would not have sufficed.
        of: The epochs of the whole schedule.
        results: Each candidate with its accuracy on the held-out training images (the mean per class if training is
            balanced), in the order in which they go on.
    """

    epochs: float
    of: int
    results: tuple[tuple[Candidate, float], ...]


class Fit(msgspec.Struct, frozen=True):
    """A fit so far, as in `fit.json`.

    Attributes:
        data: The name of the data.
        understood: What was understood of it, in words.
        identity: Digest of the images and labels; results of others are not used again.
        limits: The budget.
        threads: Threads of the network that is timed.
        processor: The machine.
        format: The format of the deployed file.
        weights: The SHA-256 of the weights of each model that candidates start from, by its name.
        new_weights: Whether no pretrained model was at hand, so that candidates start from new weights.
        unreadable: The training images that cannot be read, and are left out.
        ratios: The time in each other way to compute a network (`way_key`) divided by that in float32 on ONNX Runtime,
            as measured.
        reference: The network beside which candidates were timed; None without a limit of latency.
        screened: All candidates that were looked at.
        left: The number of candidates that were not screened.
        flip: Whether training may mirror the images; None before that is known.
        plan: The race that was planned; None before that.
        seconds: The time that it was planned for.
        seed: The seed that it was planned with.
        rungs: The rungs that are finished.
        answer: The answer so far; None before the first.
        finished: Whether the answer was judged on the test images, if there are any.
        notes: What the user was told about choices.
        passing: Those of the notes that are of one call alone, such as those on its time: the next has its own.
        made_at: Date and time, ISO 8601.
        version: Of compoundnet.
    """

    data: str
    understood: str
    identity: str
    limits: Limits
    threads: int
    processor: str
    format: str = "onnx"
    weights: dict[str, str] = {}
    new_weights: bool = False
    unreadable: tuple[str, ...] = ()
    ratios: dict[str, float] = {}
    reference: Reference | None = None
    screened: tuple[Screened, ...] = ()
    left: int = 0
    flip: bool | None = None
    plan: RacePlan | None = None
    seconds: float = 0.0
    seed: int = 0
    rungs: tuple[Rung, ...] = ()
    answer: Answer | None = None
    finished: bool = False
    notes: tuple[str, ...] = ()
    passing: tuple[str, ...] = ()
    made_at: str = ""
    version: str = ""

    @property
    def ranking(self) -> list[Screened]:
        """What fits, the best first: by accuracy, or by latency among those that are accurate enough."""
        fitting = [one for one in self.screened if one.fits]
        wanted = self.limits.min_accuracy
        enough = [one for one in fitting if wanted is not None and (one.accuracy or 0) >= wanted]
        rest = [one for one in fitting if one not in enough]
        return [
            *sorted(enough, key=lambda one: one.latency or 0.0),
            *sorted(rest, key=lambda one: (-(one.accuracy or 0.0), one.candidate.macs)),
        ]

    @property
    def standing(self) -> str:
        """What the answer is while nothing better is found, in words."""
        tuned = self.answer is not None and self.answer.fine_tuned
        return "the fine-tuned network of before" if tuned else "the probe"

    def goes_on(self, seconds: float, seed: int) -> bool:
        """Return whether a call with so much time, and a seed, goes on with the race that was planned, if its
        candidates are still there."""
        if self.plan is None or self.seed != seed:
            return False
        if seconds < self.seconds:  # it may not end in this time, unless it has ended
            return self.answer is not None and self.answer.fine_tuned
        return seconds == self.seconds

    def noted(self, text: str, *, passing: bool = False) -> Fit:
        """Return this state with one more note; `passing` if it is of this call alone."""
        if text in self.notes:
            return self
        kept = (*self.passing, text) if passing else self.passing
        return msgspec.structs.replace(self, notes=(*self.notes, text), passing=kept)


def fit_folder(target: Path) -> Path:
    """Return the folder with the results and the report, next to the model folder."""
    return target.with_name(f"{target.name}.fit")


def work_folder(target: Path, identity: str) -> Path:
    """Return the folder of what is made of the images of an identity alone: trainings, races, inherited weights.

    A fit of other images into the same output does not find them.
    """
    return fit_folder(target) / f"images-{identity}"


def read_fit(folder: str | os.PathLike[str]) -> Fit:
    """Read the results in a folder that `fit` wrote. Raises CompoundNetError if there are none."""
    file = Path(folder) / FIT_FILE
    try:
        return msgspec.json.decode(file.read_bytes(), type=Fit)
    except FileNotFoundError as error:
        raise CompoundNetError(
            f"there is no {file}: give the folder NAME.fit that `compoundnet fit -o NAME` writes"
        ) from error
    except (OSError, msgspec.DecodeError) as error:
        raise CompoundNetError(f"{file} cannot be read, or it is damaged: {error}") from error
