"""The steps of a fit: the screen, the race and its finish, and the probe that is the answer if nothing is better."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from compoundnet.base import CompoundNetError, Notify, Progress, write_whole
from compoundnet.base.machine import cores, default_threads
from compoundnet.base.units import format_duration
from compoundnet.data import Dataset
from compoundnet.data.holdout import hold_out
from compoundnet.fit.averaging import Averaging
from compoundnet.fit.candidates import FLOAT, HIGHEST, Candidate
from compoundnet.fit.deployment import deploy, judge_on_test
from compoundnet.fit.entry import Entry, NoRaceError
from compoundnet.fit.finish import Finish
from compoundnet.fit.forms import Judged
from compoundnet.fit.images import identity_of, without
from compoundnet.fit.in_time import TimeIsUpError, reason_of
from compoundnet.fit.limits import Limits, drops
from compoundnet.fit.race import fresh_keys, run_race
from compoundnet.fit.race_plan import RacePlan, cheaper_first, larger_first
from compoundnet.fit.report import write_fit_report
from compoundnet.fit.screen import Screened, probe_of
from compoundnet.fit.screen_run import ScreenRun
from compoundnet.fit.starts import StartingModels, is_from_scratch
from compoundnet.fit.state import FIT_FILE, STAYS, Answer, Fit, Rung, fit_folder, read_fit
from compoundnet.fit.trainings import FEW_IMAGES, HELD_OUT, Trainings, key
from compoundnet.models import ModelFolder
from compoundnet.train import InterruptedRunError, find_recipe, plan_task, train
from compoundnet.trials.database import without_password

# The part of the time for the screen.
_SCREEN = 1 / 6
# Seconds to write and export an answer, before it was measured.
_DEPLOYMENT = 8.0
# Seconds to judge a network at higher resolutions: 8 of Lite1, raised from 112 px, on 189 images and two cores.
_RAISING = 8.0
# Seconds to fit the temperature of a network and to compare it with the probe, on 100 held-out images.
_COMPARING = 9.0
# The part of the time that is worth a word if it is left over.
_MUCH = 0.2
# How many times as long deployment takes in int8, and where layers must be sought that stay in float32.
_INT8, _SOUGHT = 3, 6
# Asked before the race starts, with what it is about to do.
Confirm = Callable[[str], bool]


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
    models = {key(one): starts(one) for one in candidates}
    each = max(1, default_threads() // workers)
    return Trainings(dataset, folder / "trainings", models, fresh, each, until, seed)


class Steps:
    """The steps of a fit, each of which takes a state and returns the next.

    Args:
        dataset: The data.
        target: The model folder of the answer.
        work: The folder of what is made of these images alone, from `work_folder`.
        starts: The models of the candidates.
        began: When it began, by `time.monotonic`.
        seconds: The time for all of it; None: all candidates are screened, and none is fine-tuned.
        workers: The number of fine-tunings at a time.
        storage: A PostgreSQL URL for the race.
        seed: The seed of the fine-tunings.
        confirm: Asked before a race, unless an earlier call has begun it.
        progress: Called with the number of images whose features are computed.
        notify: Called with a line for each choice.
    """

    def __init__(
        self,
        dataset: Dataset,
        target: Path,
        work: Path,
        starts: StartingModels,
        began: float,
        seconds: float | None,
        workers: int,
        storage: str | None,
        seed: int,
        confirm: Confirm,
        progress: Progress,
        notify: Notify,
    ) -> None:
        self._dataset, self._target, self._folder, self._work = dataset, target, fit_folder(target), work
        self._starts, self._began, self._seconds = starts, began, seconds
        self._workers, self._storage, self._seed = workers, storage, seed
        self._deadline = math.inf if seconds is None else time.time() + began + seconds - time.monotonic()
        self._deployment = _DEPLOYMENT
        # Whether fit.json holds an answer that is not of this budget: it stays until there is another.
        self._replaces = False
        self._confirm, self._progress, self._notify = confirm, progress, notify

    def run(self, state: Fit) -> Fit:
        """Return the state with the answer, judged on the test images."""
        self._replaces = state.answer is None and _has_answer(self._folder)
        chosen = {
            name: plan_task(find_recipe("probe"), self._dataset, start=model).preprocess.size
            for name, model in self._starts.opened.items()
        }
        until = None if self._seconds is None else self._began + _SCREEN * self._seconds
        screen = ScreenRun(
            state, self._dataset, self._starts, chosen, until, self._first, self._keep, self._progress, self._notify
        )
        state = screen.run()
        if state.answer is None:  # no candidate met its budget in its final form yet
            state = self._best_probe(state)
        if screen.stopped:
            state = state.noted("the screen was stopped; the same command goes on")
        elif self._seconds is not None:
            self._keep(state, report=True)
            state = self._improved(state, self._deadline - time.time() - self._end(state))
        state = self._unused(self._best_probe(state))
        self._keep(state, report=True)
        state = self._for_board(self._short_of_goal(self._unchanged(self._judged(state))))
        self._keep(state, report=True)
        return state

    def _told(self, state: Fit, text: str) -> Fit:
        """Say something, and return the state with it as a note."""
        self._notify(text)
        return state.noted(text)

    def _readable(self, state: Fit) -> Dataset:
        """The data without the training images that cannot be read, as far as the screen has found them."""
        return without(self._dataset, state.unreadable)

    def _keep(self, state: Fit, *, report: bool = False) -> None:
        if state.answer is None and self._replaces:
            return
        write_whole(self._folder / FIT_FILE, msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n")
        if report:
            write_fit_report(state, self._folder / "report.html", self._dataset)

    def _end(self, state: Fit) -> float:
        """Seconds that the end takes: comparing the network with the probe, judging it at higher resolutions, writing
        and exporting the answer, and judging it on the test images."""
        images = 0 if self._dataset.evaluation == "train" else len(self._dataset.split(self._dataset.evaluation))
        best = state.ranking[0]
        assert state.answer is not None and best.latency is not None
        int8 = _SOUGHT if state.limits.max_drop is not None else _INT8
        last = int8 if best.candidate.precision == "int8" else 1
        first = _INT8 if state.answer.candidate.precision == "int8" else 1  # which is not sought in
        slowest = min(HIGHEST**2 * best.latency, state.limits.max_latency or math.inf)
        raising = _RAISING if state.limits.min_accuracy is None else 0.0
        return _COMPARING + raising + last / first * self._deployment + images * slowest / 1e3 / cores()

    def _judged(self, state: Fit) -> Fit:
        """Judge the answer on the test images. One that cannot be read, or Ctrl-C, costs no more than that."""
        try:
            return judge_on_test(state, self._dataset, self._notify)
        except CompoundNetError as error:
            return self._told(state, f"the answer is not judged on the test images: {error}")
        except KeyboardInterrupt:
            return self._told(state, "the answer is not judged on the test images: stopped; the same command does it")

    def _unused(self, state: Fit) -> Fit:
        """Say so if a fine-tuned network leaves much of the time; why a probe stays is said before."""
        left = self._deadline - time.time()
        if state.finished or state.answer is None or not state.answer.fine_tuned:
            return state
        if self._seconds is None or left < _MUCH * self._seconds:
            return state
        return self._told(state, f"{format_duration(left)} of --time are left over")

    def _unchanged(self, state: Fit) -> Fit:
        """Say so if the images were changed meanwhile."""
        if identity_of(self._dataset) == state.identity:
            return state
        return self._told(
            state, "images were changed while fit ran: run the same command again, which looks at them anew"
        )

    def _short_of_goal(self, state: Fit) -> Fit:
        """Say so if the answer does not reach the accuracy that was to suffice, and by how much."""
        wanted, answer = state.limits.min_accuracy, state.answer
        if wanted is None or answer is None:
            return state
        found = [(answer.judged, "cross-validated" if answer.held_out is None else "of the held-out training images")]
        if answer.result is not None:
            found.append((answer.result.top1, "of the test images"))
        missed = [
            f"{accuracy:.1%} {where}, {100 * (wanted - accuracy):.2g} points less"
            for accuracy, where in found
            if drops(wanted - accuracy, 0.0)
        ]
        if not missed:
            return state
        return self._told(state, f"--min-accuracy {wanted:.1%} is not reached: the answer has {', and '.join(missed)}")

    def _for_board(self, state: Fit) -> Fit:
        """Say so if what runs the answer is a microcontroller, which needs another file than the deployed one."""
        if not state.limits.microcontroller or state.answer is None:
            return state
        target = state.answer.model
        return self._told(
            state,
            f"{state.answer.file} is for this machine; for the microcontroller, `compoundnet export {target} -o"
            f" {target}.tflite --precision int8 --calibrate IMAGES` writes LiteRT, which is int8 throughout",
        )

    def _first(self, state: Fit, one: Screened) -> Fit:
        """A first answer, of a candidate that was just screened."""
        # A search for layers that stay in float32 would take too long, unless nothing is an answer without it.
        until = 0.0 if state.limits.max_drop is None else self._deadline
        answer, excess = self._probe(one, state, 0.0, until)
        if answer is None:
            self._notify(f"{one.candidate}: in its final form {excess}")
            return state
        self._notify(f"a first answer after {time.monotonic() - self._began:.0f} s: {answer.answer.text()}")  # type: ignore[union-attr]
        self._keep(answer, report=True)
        return answer

    def _probe(self, one: Screened, state: Fit, instead: float, until: float) -> tuple[Fit | None, str]:
        """The state with a probe as its answer; or None, and by what it misses its budget. `instead` is the accuracy
        that int8 must keep."""
        began, dataset = time.monotonic(), self._readable(state)
        made = partial(_probed, one.candidate, dataset, self._starts(one.candidate))
        _, held = hold_out(dataset.split("train"), HELD_OUT, 0)
        answer, excess = deploy(Judged(one, held, instead=instead), made, state, dataset, self._target, until)
        self._deployment = time.monotonic() - began
        return (None if answer is None else msgspec.structs.replace(state, answer=answer, finished=False)), excess

    def _best_probe(self, state: Fit) -> Fit:
        """Write the best candidate that meets its budget in its final form, unless an answer is as good."""
        if state.answer is not None and state.answer.fine_tuned:
            return state
        wanted = state.limits.min_accuracy
        missed: list[tuple[Screened, str]] = []
        for one in state.ranking:
            answer = state.answer
            if answer is not None and self._is_last(state.limits, answer, one):
                return state
            same = answer is not None and _same(answer.candidate, one.candidate)
            if answer is not None and same and answer.layers_sought:
                continue
            if answer is not None and time.time() > self._deadline:
                if same:  # the answer says that there was no time for it
                    return state
                return self._told(
                    state, f"the time is up, so the first answer stays, though {one.candidate} ranks higher"
                )
            enough = wanted if wanted is not None and (one.accuracy or 0.0) >= wanted else 0.0
            instead = enough if answer is None or wanted is not None else answer.kept(state.limits)
            try:
                found, excess = self._probe(one, state, instead, self._deadline)
            except (CompoundNetError, KeyboardInterrupt) as error:
                if answer is None:
                    raise
                stopped = isinstance(error, InterruptedRunError | KeyboardInterrupt)
                why = "was stopped; the same command goes on" if stopped else f"has failed: {error}"
                return self._told(state, f"{STAYS} {answer.candidate}: writing {one.candidate} in its place {why}")
            if found is None:
                higher = " ranks higher, but" if answer is not None else ":"
                missed.append((one, f"{one.candidate}{higher} in its final form {excess}"))
                state = self._told(state, missed[-1][1])
            elif wanted is not None:
                return found
            else:
                state = found
        if state.answer is None:
            raise CompoundNetError(f"nothing fits {state.limits.text()}: {_nearest(missed, state.limits)}")
        return state

    @staticmethod
    def _is_last(limits: Limits, answer: Answer, one: Screened) -> bool:
        """Whether no candidate from this one on can take the place of an answer."""
        same = _same(answer.candidate, one.candidate)
        if limits.min_accuracy is not None:  # the order is that of cost
            return same and answer.layers_sought
        return not same and (one.accuracy or 0.0) <= answer.kept(limits)

    def _improved(self, state: Fit, left: float) -> Fit:
        """Race the candidates, and let the winner take the place of the probe."""
        reason = "the images have several labels, and fine-tuning is compared by one class an image"
        if not self._dataset.multilabel:
            try:
                return self._raced(state, left)
            except NoRaceError as error:
                reason = str(error)
                state = error.state
        return self._told(state, f"{STAYS} {state.standing}: {reason}")

    def _raced(self, state: Fit, left: float) -> Fit:
        assert self._seconds is not None
        if left <= 0:
            raise NoRaceError(state, "the time is up")
        dataset, said = self._readable(state), list[str]()

        def say(text: str) -> None:
            self._notify(text)
            said.append(text)

        until = time.time() + left
        entry = Entry(dataset, self._starts, self._seconds, self._workers, say)
        try:
            promising = entry.promising(state)
            entrants = [one.candidate for one in promising]
            trainings = trainings_of(dataset, self._work, self._starts, entrants, self._workers, until, self._seed)
            state, plan = entry.planned(state, trainings, promising)
            for text in self._of_race(plan, trainings):
                say(text)
            for text in said:
                state = state.noted(text)
            left = trainings.until - time.time()
            about = f"fine-tuning {plan.text()}; {format_duration(left)} of --time are left"
            self._notify(about)
            if plan is not state.plan:  # one that goes on was confirmed, and stays that of its time
                if not self._confirm(about):
                    raise NoRaceError(state, "fine-tuning was not confirmed")
                state = msgspec.structs.replace(state, plan=plan, seconds=self._seconds)
            self._keep(state)  # or it would be planned anew after a kill
            trainings = trainings._replace(length=plan.length, held_out=plan.held_out)
            rungs: list[Rung] = []

            def done(rung: Rung) -> None:
                nonlocal state
                rungs.append(rung)
                state = msgspec.structs.replace(state, rungs=tuple(rungs))
                if len(rungs) == len(plan.rungs) and rung.epochs < rung.of:
                    state = state.noted(f"epochs took longer than planned: {rung.epochs:.3g} of {rung.of} were trained")
                self._keep(state)
                time_left = format_duration(max(0.0, trainings.until - time.time()))
                self._notify(f"rung {len(rungs)} of {len(plan.rungs)} is done; {time_left} are left")

            pace = run_race(
                plan, trainings, self._work / "race", images=state.identity, unreadable=state.unreadable,
                weights=state.weights, name=self._target.name, workers=self._workers, storage=self._storage,
                order=partial(_in_order, state, trainings.held_images), notify=self._notify, done=done,
            )  # fmt: skip
            ranked = dict.fromkeys(one for rung in reversed(rungs) for one, _ in rung.results)
            costs = {one: pace * cost for one, cost in zip(plan.entrants, plan.costs, strict=True)}
            finish = Finish(state, dataset, trainings, self._starts, self._target, costs, self._deadline, say)
            state = finish.run(list(ranked))
            if finish.winner is None:
                return state
            self._keep(state, report=True)  # what follows may take long
            seconds = costs[finish.winner.candidate]
            return Averaging(state, dataset, trainings, self._target, seconds, self._deadline, say).run(finish.winner)
        except (CompoundNetError, KeyboardInterrupt) as error:  # whatever it is, there is an answer
            for text in said:
                state = state.noted(text)
            raise NoRaceError(state, _why_none(error)) from error

    def _of_race(self, plan: RacePlan, trainings: Trainings) -> Iterator[str]:
        """Yield what is to be said of a race besides its plan."""
        if trainings.is_of_few(plan.entrants[0]):
            yield FEW_IMAGES
        frozen = _frozen([trainings.task(one).recipe.frozen_stages for one in plan.entrants])
        if frozen is not None:
            yield frozen
        if self._storage is not None:
            yield f"the race is kept at {without_password(self._storage)}, for `compoundnet fit join` on other machines"


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


def _nearest(missed: Sequence[tuple[Screened, str]], limits: Limits) -> str:
    """Of candidates that missed a budget in their final form, in words what costs least of what it bounds."""
    if limits.max_latency is not None:
        _, text = min(missed, key=lambda one: one[0].latency or 0.0)
        return f"the fastest that was tried, {text}"
    if limits.max_size is not None:
        _, text = min(missed, key=lambda one: one[0].candidate.size_bytes)
        return f"the smallest that was tried, {text}"
    return missed[0][1]


def _has_answer(folder: Path) -> bool:
    try:
        return read_fit(folder).answer is not None
    except CompoundNetError:  # there is none, or it is damaged
        return False


def _in_order(state: Fit, images: int, scores: Mapping[Candidate, float]) -> list[Candidate]:
    """Candidates of a race in the order in which they go on, by their accuracy on so many held-out images."""
    enough = state.limits.min_accuracy
    if enough is None:
        return larger_first(scores, images)
    return cheaper_first(scores, enough, {one.candidate: one.latency or 0.0 for one in state.screened})


def _same(one: Candidate, other: Candidate) -> bool:
    return one.in_precision(FLOAT) == other.in_precision(FLOAT)


def _probed(candidate: Candidate, dataset: Dataset, model: ModelFolder, folder: Path) -> ModelFolder:
    """Write the probe of a candidate."""
    task = msgspec.structs.replace(probe_of(candidate, dataset, model), test=None)
    return train(task, folder, loggers=[]).model
