"""The finish: the winner of the race against the probe, taught by a better model, and trained on all images."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError
from compoundnet.base.units import format_duration
from compoundnet.data import Split
from compoundnet.fit.candidates import FLOAT, Candidate
from compoundnet.fit.deployment import copied, deploy
from compoundnet.fit.distilling import FineTuned, Student, best_teacher, distilled
from compoundnet.fit.ending import seconds_after_training
from compoundnet.fit.forms import Finalist
from compoundnet.fit.held_out import HeldOutComparison, is_ahead, right_by_network, right_by_probe
from compoundnet.fit.in_time import reason_of
from compoundnet.fit.job import FitJob
from compoundnet.fit.lowering import lower_resolutions
from compoundnet.fit.race_plan import LONGEST, PLANNED, WRITING, epoch_by, length_on_all
from compoundnet.fit.raising import raise_resolution
from compoundnet.fit.screen import probe_of
from compoundnet.fit.state import Fit, HeldOut
from compoundnet.fit.trainings import LEAST_HELD_OUT, Lesson, Trainings
from compoundnet.models import ModelFolder
from compoundnet.train import InterruptedRunError, Task
from compoundnet.train.evaluation.evaluation_report import wilson


class Winner(NamedTuple):
    """The network that became the answer.

    Attributes:
        candidate: The candidate that was trained.
        finalist: What was deployed: the candidate, perhaps at another resolution or in another precision.
        model: The network, trained on all images.
        lesson: Its teacher, if it had one.
    """

    candidate: Candidate
    finalist: Finalist
    model: ModelFolder
    lesson: Lesson | None


class Finish:
    """Makes the answer of the winners of a race.

    Args:
        job: What the fit was asked for.
        state: The state of the fit, with the answer of a probe.
        trainings: The trainings.
        seconds: The time that each candidate's training of the usual length takes, as estimated.

    Attributes:
        state: The state, with the answer and with what was said.
        trainings: The trainings, which may last longer once their winner is known.
        winner: After `run`, the network that is the answer, if it was trained on all images.
    """

    def __init__(self, job: FitJob, state: Fit, trainings: Trainings, seconds: Mapping[Candidate, float]) -> None:
        self._job, self.state, self.trainings, self._seconds = job, state, trainings, seconds
        self._dataset = trainings.dataset
        self.winner: Winner | None = None

    def run(self, winners: Sequence[Candidate]) -> None:
        """Make the answer of the first winner that meets the budget in its final form and is not worse than the probe;
        the answer of before stays if there is none.

        Raises:
            TimeIsUpError: The time was up before a winner was trained.
            InterruptedRunError: This process was asked to stop.
        """
        for candidate in winners:
            if self._settles(candidate):
                return

    def _settles(self, candidate: Candidate) -> bool:
        """Finish a winner, and return whether the answer is settled: not if it misses the budget in its final form."""
        model, task = self.trainings.finish(candidate, self._say), self.trainings.task(candidate)
        assert task.held is not None
        # Of unequal classes it is the mean per class, which says nothing of the fraction of images.
        cross_validated = self.state.ranking[0].accuracy if task.recipe.balance == "none" else None
        found = HeldOutComparison(right_by_network(model, task.held), self._right_by_probe(task), cross_validated)
        held = HeldOut(float(found.tuned.mean()), float(found.probed.mean()), len(task.held))
        if self._probe_stays(candidate, found, held):
            return True
        student, stopped = self._taught(FineTuned(candidate, model, task, found.tuned, held))
        if student is not None:
            model, held = student.model, student.held
        finalist = self._at_best_resolution(candidate, model, task.held, held)
        if self._earlier_stays(finalist):
            return True
        end = seconds_after_training(finalist.screened, self.state, self._dataset)
        self.trainings = self.trainings._replace(until=self._job.deadline - end)
        lesson = None if student is None else student.lesson
        on_all = None if stopped else self._on_all(candidate, model, lesson)
        finalist = finalist._replace(on_all=on_all is not None)
        finalist, final = finalist._replace(instead=max(finalist.instead, self._of_probe(finalist))), on_all or model
        deployed = self._deployed(finalist, final) or self._deployed_lower(finalist, candidate, model, final)
        if deployed is None:
            self._say(f"{candidate}: the next takes its place")
            return False
        if on_all is not None:
            self.winner = Winner(candidate, deployed, on_all, lesson)
        return True

    def _probe_stays(self, candidate: Candidate, found: HeldOutComparison, held: HeldOut) -> bool:
        """Compare a network with the probe on the held-out images, say so, and return whether it is not taken."""
        best = self.state.ranking[0]
        (own,) = (one for one in self.state.screened if one.candidate == candidate)
        if self._suffices(held.accuracy) and (own.latency or 0.0) <= (best.latency or 0.0):
            stays = False
        elif self._suffices(best.accuracy or 0.0):
            stays = True
        else:
            stays = not found.better(self._epochs_on_all(candidate) is not None)
        self._say(
            f"{candidate}, fine-tuned: {held.accuracy:.1%} of {held.images:,} held-out training images right, the probe"
            f" {held.probe:.1%}{f', so {self.state.standing} stays' if stays else ''}"
        )
        return stays

    def _suffices(self, accuracy: float) -> bool:
        """Whether an accuracy was asked for, and this reaches it."""
        enough = self.state.limits.min_accuracy
        return enough is not None and accuracy >= enough

    def _earlier_stays(self, finalist: Finalist) -> bool:
        """Return whether the answer of an earlier race is better than a network, and say so."""
        answer, found, network = self.state.answer, finalist.held_out, finalist.screened
        if answer is None or answer.held_out is None or found is None:
            return False
        before, now = (self._suffices(held.accuracy) for held in (answer.held_out, found))
        if before and now and answer.candidate.key != network.candidate.key:
            stays = network.latency is None or answer.latency <= network.latency
        else:
            stays = before > now or (before == now and is_ahead(answer.held_out, found))
        if stays:
            self._say(
                f"{self.state.standing} stays: {answer.candidate} has {answer.held_out.accuracy:.1%} of"
                f" {answer.held_out.images:,} held-out images right, {network.candidate} {found.accuracy:.1%} of"
                f" {found.images:,}"
            )
        return stays

    def _at_best_resolution(self, candidate: Candidate, model: ModelFolder, held: Split, found: HeldOut) -> Finalist:
        """How a network is judged, at the resolution that is best for it."""
        (one,) = (one for one in self.state.screened if one.candidate == candidate)
        finalist = Finalist(one, held, fine_tuned=True, held_out=found)
        if time.time() > self._job.deadline:
            self._say("the time is up, so no higher resolution is tried", passing=True)
            return finalist
        base = self._job.starts.opened[candidate.model].network
        judging = finalist.judging_images(self._dataset.split("train"))
        raised = raise_resolution(one, model, base, held, judging, self.state, self._say)
        if raised is None:
            return finalist
        # If it is too slow there in float32, int8 must not cost more than the resolution gains.
        instead = found.accuracy if candidate.precision == FLOAT else 0.0
        found = msgspec.structs.replace(found, accuracy=float(raised.right.mean()))
        return finalist._replace(screened=raised.screened, held_out=found, instead=instead)

    def _of_probe(self, finalist: Finalist) -> float:
        """The accuracy on the held-out images that a network must keep in a reduced precision, or the probe stays.

        That of the probe, which is in float32, less its standard error. A network that was trained on all images, or a
        probe that would lose in a reduced precision too, leaves the probe in its place only if it is worse than its
        95 % interval. No more than what was asked for, if the network has that.
        """
        found, enough = finalist.held_out, self.state.limits.min_accuracy
        assert found is not None
        if not finalist.on_all and self.state.ranking[0].candidate.precision == FLOAT:
            least = found.probe - math.sqrt(found.probe * (1 - found.probe) / found.images)
        else:
            least = wilson(round(found.probe * found.images), found.images).low
        return min(least, enough) if enough is not None and self._suffices(found.accuracy) else least

    def _deployed(self, finalist: Finalist, model: ModelFolder) -> Finalist | None:
        """Deploy a network, and return what it was deployed as; None if its final form misses the budget."""
        finalist = finalist._replace(training=model.folder.name)
        if self._is_answer(finalist):
            return finalist  # of an earlier call
        candidate = finalist.screened.candidate
        make = copied(model, candidate.resolution)
        answer, excess = deploy(finalist, make, self.state, self._dataset, self._job.target, self._job.deadline)
        if answer is None:
            self._say(f"{candidate} is fine-tuned, but in its final form {excess}")
            return None
        self.state = msgspec.structs.replace(self.state, answer=answer, finished=False)
        return finalist

    def _deployed_lower(
        self, missed: Finalist, trained: Candidate, model: ModelFolder, final: ModelFolder
    ) -> Finalist | None:
        """Deploy a network that misses its budget at a lower resolution that fits, the highest that does, if more of
        the held-out images are right there than with the probe. `model` has not seen these, `final` may have."""
        candidate, found, tried = missed.screened.candidate, missed.held_out, False
        assert found is not None
        if self.state.limits.max_latency is None:
            return None  # no resolution makes a file smaller
        base = self._job.starts.opened[candidate.model]
        for one in lower_resolutions(missed.screened, base, self.state, len(self._dataset.classes)):
            if tried and time.time() > self._job.deadline:
                self._say(f"the time is up, so {candidate} is not tried at still lower resolutions", passing=True)
                return None
            tried = True
            side = one.candidate.resolution
            right = right_by_network(model.at_resolution(side), missed.held)
            said = f"trained at {trained.resolution} px, at {side} px {right.mean():.1%} of the held-out images right"
            worse = right.mean() <= found.probe and not self._suffices(float(right.mean()))
            if side < trained.resolution and worse:  # at its own it was taken
                self._say(f"{said}, the probe {found.probe:.1%}, so it is not taken")
                return None
            self._say(f"{said}, the probe {found.probe:.1%}")
            held = msgspec.structs.replace(found, accuracy=float(right.mean()))
            finalist = missed._replace(screened=one, held_out=held, instead=self._of_probe(missed))
            deployed = self._deployed(finalist, final)
            if deployed is not None:
                return deployed
        return None

    def _is_answer(self, finalist: Finalist) -> bool:
        """Whether the answer so far is this network, in whatever precision, trained as now."""
        answer = self.state.answer
        if answer is None:
            return False
        return (answer.candidate.key, answer.training) == (finalist.screened.candidate.key, finalist.training)

    def _taught(self, network: FineTuned) -> tuple[Student | None, bool]:
        """The winner taught by a better model, if that helps, and whether this process was asked to stop meanwhile."""
        teacher = self._teacher(network.candidate, network.held.images)
        if teacher is None:
            return None, False
        try:
            return distilled(network, teacher, self.trainings, self._job.starts, self._say), False
        except InterruptedRunError:
            self._say("distillation was stopped, and is left out; the same command goes on", passing=True)
            return None, True
        except CompoundNetError as error:
            self._say(f"distillation: {reason_of(error)}; it is left out", passing=True)
            return None, False

    def _teacher(self, candidate: Candidate, held: int) -> Candidate | None:
        """A better model, if there is one, held-out images enough to tell whether it helps, and time."""
        best = best_teacher(candidate, self.state.screened)
        if best is None:
            return None
        if held < LEAST_HELD_OUT:
            self._say(f"no distillation from {best.candidate}: {held} held-out images do not tell whether it helps")
            return None
        # Training longer on all images is known to help, so that it goes before.
        on_all = LONGEST / epoch_by(self.trainings.held_out) / PLANNED
        needed, left = (self.trainings.length + on_all) * self._seconds[candidate] + WRITING, self._left
        if needed > left:
            self._say(
                f"no distillation from {best.candidate}: with training on all images, it would take about"
                f" {format_duration(needed)}, and {format_duration(left)} are left",
                passing=True,
            )
            return None
        return best.candidate

    def _on_all(self, candidate: Candidate, model: ModelFolder, lesson: Lesson | None) -> ModelFolder | None:
        """The network trained further on all images, for as long as there is time for; None if it was not."""
        try:
            return self._trained_on_all(candidate, model, lesson)
        except InterruptedRunError:
            self._say(
                "training on all images was stopped; the network that was trained on the others is the answer, and the"
                " same command goes on",
                passing=True,
            )
        except CompoundNetError as error:
            self._say(
                f"training on all images: {reason_of(error)}; the network that was trained on the others is the answer",
                passing=True,
            )
        return None

    def _trained_on_all(self, candidate: Candidate, model: ModelFolder, lesson: Lesson | None) -> ModelFolder | None:
        epochs = self.trainings.begun_on_all(candidate, lesson) or self._epochs_on_all(candidate)
        if epochs is None:
            self._say(
                f"{format_duration(self._left)} are left, too short to go on with all images, the held-out ones too",
                passing=True,
            )
            return None
        text = f"going on with all images, the held-out ones too, for {epochs} epochs"
        if text not in self.state.notes:  # of an earlier call
            self._say(text)
        return self.trainings.on_all(candidate, model, epochs, self._say, lesson)

    def _epochs_on_all(self, candidate: Candidate) -> int | None:
        """For how many epochs there is time; None if for too few."""
        length = length_on_all(self._seconds[candidate], self.trainings.held_out, PLANNED * self._left)
        return None if length is None else max(1, int(length * self.trainings.usual(candidate)))

    @property
    def _left(self) -> float:
        return max(0.0, self.trainings.until - time.time())

    def _right_by_probe(self, task: Task) -> NDArray[np.bool_]:
        best = self.state.ranking[0].candidate
        return right_by_probe(probe_of(best, self._dataset, self._job.starts(best)), task, self._say)

    def _say(self, text: str, *, passing: bool = False) -> None:
        self.state = self._job.told(self.state, text, passing=passing)
