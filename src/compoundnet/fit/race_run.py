"""The race of a fit and what follows from it: its plan, its trainings, and the winner that becomes the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from compoundnet.base import CompoundNetError
from compoundnet.base.machine import default_threads
from compoundnet.base.units import format_duration
from compoundnet.data import Dataset
from compoundnet.fit.averaging import Averaging
from compoundnet.fit.candidates import Candidate
from compoundnet.fit.entry import Entry, NoRaceError
from compoundnet.fit.finish import Finish
from compoundnet.fit.images import without
from compoundnet.fit.in_time import TimeIsUpError, reason_of
from compoundnet.fit.job import FitJob
from compoundnet.fit.mirroring import compare_mirrored
from compoundnet.fit.race import run_race
from compoundnet.fit.race_plan import RacePlan, cheaper_first, effective_images, larger_first
from compoundnet.fit.starts import StartingModels, is_from_scratch
from compoundnet.fit.state import Fit, Rung
from compoundnet.fit.trainings import FEW_IMAGES, Trainings, fresh_keys
from compoundnet.train import InterruptedRunError
from compoundnet.trials.database import without_password

# Seconds that must be left to find out whether training may mirror the images, which takes about ten.
_TO_LOOK = 60.0


def trainings_of(
    dataset: Dataset,
    folder: Path,
    starts: StartingModels,
    candidates: Sequence[Candidate],
    workers: int,
    until: float,
    seed: int = 0,
) -> Trainings:
    """Return the fine-tunings of candidates, kept in the `work_folder` of a fit."""
    fresh = fresh_keys(candidates, lambda one: is_from_scratch(starts.opened[one.model]))
    models = {one.key: starts(one) for one in candidates}
    each = max(1, default_threads() // workers)
    return Trainings(dataset, folder / "trainings", models, fresh, each, until, seed)


class RaceRun:
    """Fine-tunes candidates in a race, and makes its winner the answer.

    Args:
        job: What the fit was asked for, with a limited time.
        state: The state of the fit, with the answer of a probe.
        keep: Called with the state where a kill would lose something; `report`: also the report is written.
    """

    def __init__(self, job: FitJob, state: Fit, keep: Callable[..., object]) -> None:
        self._job, self._state, self._keep = job, state, keep

    def run(self) -> Fit:
        """Return the state with the answer of a fine-tuned network, or with that of before if it is no better.

        Raises:
            NoRaceError: There is no fine-tuned network; the error says why, and has the state so far.
        """
        try:
            self._race()
        except (CompoundNetError, KeyboardInterrupt) as error:  # whatever it is, there is an answer
            raise NoRaceError(self._state, _why_none(error)) from error
        return self._state

    def _race(self) -> None:
        job, dataset = self._job, without(self._job.dataset, self._state.unreadable)
        plan, trainings = self._planned(dataset)
        rungs: list[Rung] = []

        def done(rung: Rung) -> None:
            rungs.append(rung)
            self._state = msgspec.structs.replace(self._state, rungs=tuple(rungs))
            if len(rungs) == len(plan.rungs) and rung.epochs < rung.of:
                text = f"epochs took longer than planned: {rung.epochs:.3g} of {rung.of} were trained"
                self._state = self._state.noted(text)
            self._keep(self._state)
            left = format_duration(max(0.0, trainings.until - time.time()))
            job.notify(f"rung {len(rungs)} of {len(plan.rungs)} is done; {left} are left")

        pace = run_race(
            plan, trainings, job.work / "race", images=self._state.identity, unreadable=self._state.unreadable,
            weights=self._state.weights, name=job.target.name, workers=job.workers, storage=job.storage,
            order=partial(_in_order, self._state, _told_by(trainings, plan.entrants[0])), notify=job.notify, done=done,
        )  # fmt: skip
        ranked = dict.fromkeys(one for rung in reversed(rungs) for one, _ in rung.results)
        costs = {one: pace * cost for one, cost in zip(plan.entrants, plan.costs, strict=True)}
        self._finish(list(ranked), trainings, costs)

    def _planned(self, dataset: Dataset) -> tuple[RacePlan, Trainings]:
        """The race, confirmed and kept in the state, and its trainings.

        Raises:
            NoRaceError: No race is possible, or it was not confirmed.
        """
        job, entry = self._job, Entry(self._job, dataset, self._state)
        try:
            promising = entry.promising()
            entry.state = self._mirrored(entry.state, dataset)
            entrants = [one.candidate for one in promising]
            trainings = trainings_of(dataset, job.work, job.starts, entrants, job.workers, job.deadline, job.seed)
            trainings = trainings._replace(flip=entry.state.flip is not False)
            plan = entry.planned(trainings, promising)
            until = entry.until(plan.entrants)
        finally:
            self._state = entry.state
        for text, passing in self._about(plan, trainings):
            self._state = job.told(self._state, text, passing=passing)
        about = f"fine-tuning {plan.text()}; {format_duration(max(0.0, until - time.time()))} of --time are left"
        job.notify(about)
        if plan is not self._state.plan:  # one that goes on was confirmed, and stays that of its time
            if not job.confirm(about):
                raise NoRaceError(self._state, "fine-tuning was not confirmed")
            self._state = msgspec.structs.replace(self._state, plan=plan, seconds=job.seconds or 0.0, seed=job.seed)
        self._keep(self._state)  # or it would be planned anew after a kill
        return plan, trainings._replace(length=plan.length, held_out=plan.held_out, until=until)

    def _mirrored(self, state: Fit, dataset: Dataset) -> Fit:
        """A state in which it is known whether training may mirror the images, if there is time to find out; if it may
        not, that is said."""
        job = self._job
        begun = job.seconds is not None and state.goes_on(job.seconds, job.seed)  # with trainings that mirror, or not
        if state.flip is not None or begun or job.deadline - time.time() < _TO_LOOK:
            return state
        best = state.ranking[0].candidate
        found = compare_mirrored(best, dataset, self._job.starts(best))
        if found is None:
            text = "the images are too few to see whether mirrored ones keep their class: training mirrors half of them"
            return self._job.told(msgspec.structs.replace(state, flip=True), text)
        state = msgspec.structs.replace(state, flip=not found.harms)
        return self._job.told(state, f"{found}, so training mirrors none") if found.harms else state

    def _about(self, plan: RacePlan, trainings: Trainings) -> Iterator[tuple[str, bool]]:
        """Yield what is to be said of a race besides its plan, and whether that is of this call alone."""
        if self._state.flip is None:
            text = "there is no time to see whether mirrored images keep their class: training mirrors half of them"
            yield text, True
        if trainings.is_of_few(plan.entrants[0]):
            yield FEW_IMAGES, False
        frozen = _frozen([trainings.task(one).recipe.frozen_stages for one in plan.entrants])
        if frozen is not None:
            yield frozen, False
        if self._job.storage is not None:
            where = without_password(self._job.storage)
            yield f"the race is kept at {where}, for `compoundnet fit join` on other machines", True

    def _finish(self, winners: Sequence[Candidate], trainings: Trainings, costs: Mapping[Candidate, float]) -> None:
        """Make the answer of the winners, the best first, and average it with further trainings."""
        trainings = trainings._replace(threads=default_threads())  # they are one at a time from here on
        finish = Finish(self._job, self._state, trainings, costs)
        try:
            finish.run(winners)
        finally:
            self._state = finish.state
        if finish.winner is None:
            return
        self._keep(self._state, report=True)  # what follows may take long
        averaging = Averaging(self._job, self._state, finish.trainings, costs[finish.winner.candidate])
        try:
            averaging.run(finish.winner)
        finally:
            self._state = averaging.state


def _why_none(error: CompoundNetError | KeyboardInterrupt) -> str:
    """Why a race has ended without a network."""
    if isinstance(error, TimeIsUpError):
        return f"{error}; the same command goes on"
    if isinstance(error, InterruptedRunError | KeyboardInterrupt):
        return "fine-tuning was stopped; the same command goes on"
    return f"fine-tuning has failed: {reason_of(error)}"


def _frozen(stages: Sequence[int]) -> str | None:
    """What is not trained, in words, by the stages that stay as they are of each candidate; None if all is trained."""
    if not any(stages):
        return None
    stay = "as they were pretrained: that saves time"
    if len(set(stages)) == 1:
        first = f"the first {stages[0]} stages" if stages[0] > 1 else "the first stage"
        return f"the stem and {first} stay {stay}"
    whole = "; networks with inherited weights are trained throughout" if not all(stages) else ""
    return f"the stem and the stages whose maps have a quarter of the image's side or more stay {stay}{whole}"


def _told_by(trainings: Trainings, candidate: Candidate) -> float:
    """The held-out images, as `effective_images` counts them; they are the same of all candidates."""
    task = trainings.task(candidate)
    assert task.held is not None and task.recipe.balance != "auto"
    return effective_images(task.held, task.recipe.balance)


def _in_order(state: Fit, images: float, scores: Mapping[Candidate, float]) -> list[Candidate]:
    """Candidates of a race in the order in which they go on, by their accuracy on so many held-out images."""
    enough = state.limits.min_accuracy
    if enough is None:
        return larger_first(scores, images)
    return cheaper_first(scores, enough, {one.candidate: one.latency or 0.0 for one in state.screened})
