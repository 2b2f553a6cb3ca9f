"""The steps of a fit: the screen, the race and its finish, and the probe that is the answer if nothing is better."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec

from compoundnet.base import CompoundNetError, write_whole
from compoundnet.base.units import format_duration
from compoundnet.data import Dataset
from compoundnet.data.holdout import hold_out
from compoundnet.fit.candidates import Candidate
from compoundnet.fit.deployment import deploy, judge_on_test
from compoundnet.fit.entry import NoRaceError
from compoundnet.fit.forms import Finalist
from compoundnet.fit.images import identity_of, without
from compoundnet.fit.job import FitJob
from compoundnet.fit.limits import Limits, drops
from compoundnet.fit.race_run import RaceRun
from compoundnet.fit.report import write_fit_report
from compoundnet.fit.screen import Screened, probe_of
from compoundnet.fit.screen_run import ScreenRun
from compoundnet.fit.state import FIT_FILE, Answer, Fit, read_fit
from compoundnet.fit.trainings import HELD_OUT
from compoundnet.models import ModelFolder
from compoundnet.train import InterruptedRunError, find_recipe, plan_task, train

# The part of the time for the screen, and that where no race follows.
_SCREEN, _SCREEN_ALONE = 1 / 6, 0.8
# The part of the time that is worth a word if it is left over.
_MUCH = 0.2
# An answer that takes so many times less than was expected shows that the machine was slow before.
_FASTER = 1.4
# The format that microcontrollers run.
_FOR_BOARDS = "litert"
_UNEQUAL = (
    "the classes are of unequal sizes, so candidates are compared by the mean accuracy per class; that of the answer is"
    " the fraction of all images"
)


class Steps:
    """The steps of a fit, each of which takes a state and returns the next.

    Args:
        job: What the fit was asked for.
    """

    def __init__(self, job: FitJob) -> None:
        self._job = job
        # Whether fit.json holds an answer that is not of this budget: it stays until there is another.
        self._replaces = False

    def run(self, state: Fit) -> Fit:
        """Return the state with the answer, judged on the test images."""
        job = self._job
        self._replaces = state.answer is None and _has_answer(job.folder)
        probes = {
            name: plan_task(find_recipe("probe"), job.dataset, start=model) for name, model in job.starts.opened.items()
        }
        if any(probe.recipe.balance != "none" for probe in probes.values()) and not job.dataset.multilabel:
            state = self._job.told(state, _UNEQUAL, passing=True)
        validation = job.dataset.splits.get("val")
        if validation is not None and job.dataset.evaluation != "val":
            text = f"the {len(validation):,} validation images are not used: candidates are compared by training images"
            state = self._job.told(state, text, passing=True)
        chosen = {name: probe.preprocess.size for name, probe in probes.items()}
        part = _SCREEN_ALONE if job.dataset.multilabel else _SCREEN
        until = None if job.seconds is None else job.began + part * job.seconds
        screen = ScreenRun(job, state, chosen, until, self._first, self._keep)
        state = screen.run()
        if state.answer is None:  # no candidate met its budget in its final form yet
            state = self._best_probe(state)
        if screen.stopped:
            state = state.noted("the screen was stopped; the same command goes on", passing=True)
        elif job.seconds is not None:
            self._keep(state, report=True)
            state = self._raced(state)
        state = self._unused(self._best_probe(state))
        self._keep(state, report=True)
        state = self._for_board(self._short_of_goal(self._faster_now(self._unchanged(self._judged(state)))))
        self._keep(state, report=True)
        return state

    def _readable(self, state: Fit) -> Dataset:
        """The data without the training images that cannot be read, as far as the screen has found them."""
        return without(self._job.dataset, state.unreadable)

    def _keep(self, state: Fit, *, report: bool = False) -> None:
        if state.answer is None and self._replaces:
            return
        write_whole(self._job.folder / FIT_FILE, msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n")
        if report:
            write_fit_report(state, self._job.folder / "report.html", self._job.dataset)

    def _judged(self, state: Fit) -> Fit:
        """Judge the answer on the test images. One that cannot be read, or Ctrl-C, costs no more than that."""
        try:
            return judge_on_test(state, self._job.dataset, self._job.notify)
        except CompoundNetError as error:
            return self._job.told(state, f"the answer is not judged on the test images: {error}", passing=True)
        except KeyboardInterrupt:
            text = "the answer is not judged on the test images: stopped; the same command does it"
            return self._job.told(state, text, passing=True)

    def _unused(self, state: Fit) -> Fit:
        """Say so if a fine-tuned network leaves much of the time; why a probe stays is said before."""
        seconds, left = self._job.seconds, self._job.deadline - time.time()
        if state.finished or state.answer is None or not state.answer.fine_tuned:
            return state
        if seconds is None or left < _MUCH * seconds:
            return state
        return self._job.told(state, f"{format_duration(left)} of --time are left over", passing=True)

    def _unchanged(self, state: Fit) -> Fit:
        """Say so if the images were changed meanwhile."""
        if identity_of(self._job.dataset) == state.identity:
            return state
        return self._job.told(
            state, "images were changed while fit ran: run the same command again, which looks at them anew",
            passing=True,
        )  # fmt: skip

    def _faster_now(self, state: Fit) -> Fit:
        """Say so if the answer takes much less than was expected: this machine was slow while candidates were timed."""
        answer = state.answer
        if answer is None or state.limits.max_latency is None:
            return state
        own = answer.candidate
        same = [
            (one.candidate.macs, one.latency)
            for one in state.screened
            if (one.candidate.shape, one.candidate.way) == (own.shape, own.way) and one.latency is not None
        ]
        if not same:
            return state
        macs, latency = min(same, key=lambda one: abs(one[0] - own.macs))
        expected = latency * own.macs / macs
        if answer.latency * _FASTER > expected:
            return state
        return self._job.told(
            state,
            f"{own} takes {answer.latency:.3g} ms where {expected:.3g} ms were expected: this machine was slower"
            " while candidates were timed, and larger ones may fit; --force begins anew",
            passing=True,
        )

    def _short_of_goal(self, state: Fit) -> Fit:
        """Say so if the answer does not reach the accuracy that was to suffice, and by how much."""
        wanted, answer = state.limits.min_accuracy, state.answer
        if wanted is None or answer is None:
            return state
        images = "cross-validated" if answer.held_out is None else "of the held-out training images"
        found = [(answer.expected_accuracy, images)]
        if answer.result is not None:
            found.append((answer.result.top1, "of the test images"))
        missed = [
            f"{accuracy:.1%} {where}, {100 * (wanted - accuracy):.2g} points less"
            for accuracy, where in found
            if drops(wanted - accuracy, 0.0)
        ]
        if not missed:
            return state
        text = f"--min-accuracy {wanted:.1%} is not reached: the answer has {', and '.join(missed)}"
        return self._job.told(state, text, passing=True)

    def _for_board(self, state: Fit) -> Fit:
        """Say so if what runs the answer is a microcontroller, which needs another file than the deployed one."""
        if not state.limits.microcontroller or state.answer is None or state.format == _FOR_BOARDS:
            return state
        target = state.answer.model
        return self._job.told(
            state,
            f"{state.answer.file} is for this machine; for the microcontroller, `compoundnet export {target} -o"
            f" {target}.tflite --precision int8 --calibrate IMAGES` writes LiteRT, which is int8 throughout, as does"
            f" `fit --format {_FOR_BOARDS}`",
        )

    def _first(self, state: Fit, one: Screened) -> Fit:
        """A first answer, of a candidate that was just screened."""
        # A search for layers that stay in float32 would take too long, unless nothing is an answer without it.
        until = 0.0 if state.limits.max_drop is None else self._job.deadline
        answer, excess = self._probe(one, state, 0.0, until)
        if answer is None:
            self._job.notify(f"{one.candidate}: in its final form {excess}")
            return state
        self._job.notify(f"a first answer after {time.monotonic() - self._job.began:.0f} s: {answer.answer.text()}")  # type: ignore[union-attr]
        self._keep(answer, report=True)
        return answer

    def _probe(self, one: Screened, state: Fit, instead: float, until: float) -> tuple[Fit | None, str]:
        """The state with a probe as its answer; or None, and by what it misses its budget. `instead` is the accuracy
        that int8 must keep."""
        dataset = self._readable(state)
        made = partial(_probed, one.candidate, dataset, self._job.starts(one.candidate))
        _, held = hold_out(dataset.split("train"), HELD_OUT, 0)
        answer, excess = deploy(Finalist(one, held, instead=instead), made, state, dataset, self._job.target, until)
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
            same = answer is not None and answer.candidate.key == one.candidate.key
            if answer is not None and same and answer.layers_sought:
                continue
            if answer is not None and time.time() > self._job.deadline:
                if same:  # the answer says that there was no time for it
                    return state
                text = f"the time is up, so the first answer stays, though {one.candidate} ranks higher"
                return self._job.told(state, text, passing=True)
            enough = wanted if wanted is not None and (one.accuracy or 0.0) >= wanted else 0.0
            instead = enough if answer is None or wanted is not None else answer.kept(state.limits)
            try:
                found, excess = self._probe(one, state, instead, self._job.deadline)
            except (CompoundNetError, KeyboardInterrupt) as error:
                if answer is None:
                    raise
                stopped = isinstance(error, InterruptedRunError | KeyboardInterrupt)
                why = "was stopped; the same command goes on" if stopped else f"has failed: {error}"
                text = f"the answer is {answer.candidate}: writing {one.candidate} in its place {why}"
                return self._job.told(state, text, passing=True)
            if found is None:
                higher = " ranks higher, but" if answer is not None else ":"
                missed.append((one, f"{one.candidate}{higher} in its final form {excess}"))
                state = self._job.told(state, missed[-1][1])
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
        same = answer.candidate.key == one.candidate.key
        if limits.min_accuracy is not None:  # the order is that of cost
            return same and answer.layers_sought
        return not same and (one.accuracy or 0.0) <= answer.kept(limits)

    def _raced(self, state: Fit) -> Fit:
        """Race the candidates, and let the winner take the place of the probe; say why if it does not come to that."""
        if self._job.dataset.multilabel:
            reason = "the images have several labels, and fine-tuning is compared by one class an image"
        else:
            try:
                return RaceRun(self._job, state, self._keep).run()
            except NoRaceError as error:
                state, reason = error.state, str(error)
        return self._job.told(state, f"the answer is {state.standing}: {reason}", passing=True)


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


def _probed(candidate: Candidate, dataset: Dataset, model: ModelFolder, folder: Path) -> ModelFolder:
    """Write the probe of a candidate."""
    task = msgspec.structs.replace(probe_of(candidate, dataset, model), test=None)
    return train(task, folder, loggers=[]).model
