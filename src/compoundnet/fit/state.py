"""The state of a fit: what was screened, and the answer, as in `fit.json`."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from compoundnet.base import CompoundNetError, format_bytes
from compoundnet.fit.candidates import Candidate, Limits
from compoundnet.fit.screen import Screened
from compoundnet.train import Result

FIT_FILE = "fit.json"


class Answer(msgspec.Struct, frozen=True):
    """The classifier that was found, measured in its final form.

    Attributes:
        candidate: What it is made of.
        model: The model folder.
        file: The deployed file.
        fine_tuned: Whether all of the network was trained; otherwise it is a probe.
        cross_validated: Of the probe, accuracy on the training images, each judged by a classifier that was not fitted
            to it.
        latency: Milliseconds of one image of the deployed file, the median.
        size_bytes: Of the deployed file.
        agreement: Fraction of the images of the comparison of the deployed file with torch that have the same class.
        result: The accuracy of the deployed file on the test images; None if there are none.
        interval: Its 95 % interval.
    """

    candidate: Candidate
    model: str
    file: str
    fine_tuned: bool
    cross_validated: float
    latency: float
    size_bytes: int
    agreement: float | None
    result: Result | None
    interval: tuple[float, float] | None

    def text(self) -> str:
        """Return the answer in a sentence."""
        accuracy = ""
        if self.result is not None and self.interval is not None:
            accuracy = (
                f"{self.result.top1:.1%} of {self.result.count:,} test images right (95 % interval"
                f" {100 * self.interval[0]:.1f} to {100 * self.interval[1]:.1f}), "
            )
        how = "fine-tuned" if self.fine_tuned else "probe"
        probe = "" if self.fine_tuned else f"{self.cross_validated:.1%} cross-validated, "
        return f"{self.candidate}, {how}: {accuracy}{probe}{self.latency:.3g} ms, {format_bytes(self.size_bytes)}"


class Fit(msgspec.Struct, frozen=True):
    """A fit so far, as in `fit.json`.

    Attributes:
        data: The name of the data.
        understood: What was understood of it, in words.
        identity: Digest of the images and labels; results of others are not used again.
        limits: The budget.
        threads: Threads of the network that is timed.
        processor: The machine.
        screened: All candidates that were looked at.
        left: The number of candidates that were not screened.
        answer: The answer; None before the end.
        notes: What the user was told about choices.
        made_at: Date and time, ISO 8601.
        version: Of compoundnet.
    """

    data: str
    understood: str
    identity: str
    limits: Limits
    threads: int
    processor: str
    screened: tuple[Screened, ...] = ()
    left: int = 0
    answer: Answer | None = None
    notes: tuple[str, ...] = ()
    made_at: str = ""
    version: str = ""

    @property
    def ranking(self) -> list[Screened]:
        """What fits, the best first: by accuracy, or by latency among those that are accurate enough."""
        fitting = [one for one in self.screened if one.accuracy is not None and one.dropped is None]
        wanted = self.limits.min_accuracy
        enough = [one for one in fitting if wanted is not None and (one.accuracy or 0) >= wanted]
        rest = [one for one in fitting if one not in enough]
        return [
            *sorted(enough, key=lambda one: one.latency or 0.0),
            *sorted(rest, key=lambda one: (-(one.accuracy or 0.0), one.candidate.macs)),
        ]


def fit_folder(target: Path) -> Path:
    """Return the folder with the results and the report, next to the model folder."""
    return target.with_name(f"{target.name}.fit")


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
