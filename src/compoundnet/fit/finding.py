"""`fit`: look at the images, screen the candidates, race the best, and finish with the best that fits."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from compoundnet.base import CompoundNetError, Notify, Progress, ignore, make_folder, write_whole
from compoundnet.base.machine import check_threads, default_threads, processor
from compoundnet.base.units import format_duration
from compoundnet.data import Dataset, open_dataset
from compoundnet.data.classes import check_classes
from compoundnet.data.holdout import hold_out
from compoundnet.fit.candidates import FLOAT, Candidate
from compoundnet.fit.deployment import Judged, deploy, judge_on_test
from compoundnet.fit.finish import Finish
from compoundnet.fit.images import identity_of
from compoundnet.fit.limits import Limits
from compoundnet.fit.race import fresh_keys, join_race, run_race
from compoundnet.fit.race_plan import ENTRANTS, LENGTHS, RacePlan, estimate_all, plan_in_time
from compoundnet.fit.report import write_fit_report
from compoundnet.fit.screen import Screened, probe_of
from compoundnet.fit.screen_run import ScreenRun
from compoundnet.fit.starts import StartingModels, is_from_scratch, open_models
from compoundnet.fit.state import FIT_FILE, Fit, Rung, fit_folder, read_fit
from compoundnet.fit.trainings import HELD_OUT, TimeIsUpError, Trainings, key
from compoundnet.fit.ways import check_format
from compoundnet.models import ModelFolder
from compoundnet.models.folder import check_target
from compoundnet.train import InterruptedRunError, find_recipe, plan_task, train

# The part of the time for the screen.
_SCREEN = 1 / 6
# Seconds to write and export an answer, before it was measured.
_DEPLOYMENT = 15.0
# How the note begins that says why there is no better answer.
_STAYS = "the answer is"
# Asked before the race starts, with what it is about to do.
Confirm = Callable[[str], bool]


def fit(
    data: str | os.PathLike[str] | Dataset,
    output: str | os.PathLike[str],
    limits: Limits | None = None,
    *,
    models: Sequence[str] | None = None,
    seconds: float | None = None,
    format: str = "onnx",  # noqa: A002  the option's name on the command line
    threads: int = 1,
    workers: int = 1,
    storage: str | None = None,
    seed: int = 0,
    replace: bool = False,
    confirm: Confirm = lambda _: True,
    progress: Progress = ignore,
    notify: Notify = ignore,
) -> Fit:
    """Find the most accurate classifier of the images within a budget, and write it.

    Writes OUTPUT (a model folder), the deployed file beside it and OUTPUT.fit (`fit.json`, report.html). What an
    earlier call with the same data has found is used again. Ctrl-C leaves the best so far.

    Args:
        data: A string as for `open_dataset`, or an opened data set.
        output: The model folder.
        limits: The budget; no limits by default.
        models: Names, folders or `hf-hub:` addresses; by default all that are at hand (`models_at_hand`).
        seconds: The time for all of it: after a sixth no further candidate is screened, and the rest is for
            fine-tuning. By default all candidates are screened, and the answer is a probe.
        format: The format of the deployed file: onnx, openvino or torch.
        threads: Threads of the network that is timed.
        workers: The number of fine-tunings at a time.
        storage: A PostgreSQL URL for the race, so that `join_fit` can work on it on other machines.
        seed: The seed of the fine-tunings; all of them, and the probe, are judged on the same held-out images.
        replace: Whether to replace an earlier result.
        confirm: Asked before the first fine-tuning, with what is about to be done and how long it takes.
        progress: Called with the number of images whose features are computed.
        notify: Called with a line for each candidate, and for each choice.

    Raises:
        CompoundNetError: Nothing fits (the message says what comes nearest), no model is at hand, the output exists,
            another process writes it, or a class has fewer than two images.
    """
    began, target, limits = time.monotonic(), Path(output), limits or Limits()
    threads = check_threads(threads)
    check_format(format)
    folder = fit_folder(target)
    check_target(target, replace or (folder / FIT_FILE).exists())
    dataset = _checked(data)
    try:
        with FileLock(make_folder(folder) / "lock", blocking=False):
            state = _begin(dataset, limits, threads, format, folder, notify)
            starts = StartingModels(open_models(models, folder, notify), dataset.split("train"), folder / "inherited")
            return _Fitting(
                dataset, target, starts, began, seconds, workers, storage, seed, confirm, progress, notify
            ).run(state)  # fmt: skip
    except Timeout as error:
        raise CompoundNetError(f"another process writes {target}; wait for it, or give another output (-o)") from error


def join_fit(
    data: str | os.PathLike[str] | Dataset,
    output: str | os.PathLike[str],
    storage: str,
    *,
    models: Sequence[str] | None = None,
    seed: int = 0,
    notify: Notify = ignore,
) -> int:
    """Work on the fine-tunings of a fit that another process runs with the same storage and output's name.

    Args:
        data: The same images.
        output: The output of the fit; this process keeps its checkpoints in OUTPUT.fit.
        storage: The PostgreSQL URL.
        models: The models that the fit starts from; by default all at hand.
        seed: The seed of the fine-tunings.
        notify: Called with a line for each fine-tuning that is finished here.

    Returns:
        The number of fine-tunings that were finished here.
    """
    dataset, target = _checked(data), Path(output)
    folder = make_folder(fit_folder(target))
    starts = StartingModels(open_models(models, folder, notify), dataset.split("train"), folder / "inherited")

    def trainings(candidates: Sequence[Candidate]) -> Trainings:
        return _trainings(dataset, folder, starts, candidates, 1, float("inf"), seed)

    return join_race(trainings, storage, target.name, notify)


def _checked(data: str | os.PathLike[str] | Dataset) -> Dataset:
    dataset = data if isinstance(data, Dataset) else open_dataset(data)
    if "train" not in dataset.splits:
        raise CompoundNetError(f"{dataset.name} has no training images to choose a classifier by")
    check_classes(dataset.split("train"), dataset.name)
    return dataset


def _begin(dataset: Dataset, limits: Limits, threads: int, form: str, folder: Path, notify: Notify) -> Fit:
    """The state of an earlier call with the same data and machine, or a new one."""
    new = Fit(
        dataset.name, dataset.text(), identity_of(dataset), limits, threads, processor(), form,
        made_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        version=metadata.version("compoundnet"),
    )  # fmt: skip
    if not (folder / FIT_FILE).exists():
        return new
    try:
        before = read_fit(folder)
    except CompoundNetError as error:
        notify(f"{error}; starting anew")
        return new
    if (before.identity, before.processor, before.threads) != (new.identity, new.processor, new.threads):
        notify(f"{folder} holds results of other images, or of another machine; starting anew")
        return new
    kept = tuple(one for one in before.screened if one.accuracy is not None)
    if kept:
        notify(f"going on: {len(kept)} candidates are screened already")
    new = msgspec.structs.replace(new, screened=kept, ratios=before.ratios)
    same = before.limits == limits and before.format == form
    answer = before.answer if same else None
    if answer is not None and Path(answer.model).exists() and Path(answer.file).exists():
        return msgspec.structs.replace(
                new, answer=answer, finished=before.finished, plan=before.plan, seconds=before.seconds,
                rungs=before.rungs,
                notes=tuple(note for note in before.notes if not note.startswith(_STAYS)),
            )  # fmt: skip
    return new


def _trainings(
    dataset: Dataset,
    folder: Path,
    starts: StartingModels,
    candidates: Sequence[Candidate],
    workers: int,
    until: float,
    seed: int,
) -> Trainings:
    fresh = fresh_keys(candidates, lambda one: is_from_scratch(starts.opened[one.model]))
    models = {key(one): starts(one) for one in candidates}
    each = max(1, default_threads() // workers)
    return Trainings(dataset, folder / "trainings", models, fresh, each, until, seed)


class _Fitting:
    """The steps of a fit, each of which takes a state and returns the next."""

    def __init__(
        self,
        dataset: Dataset,
        target: Path,
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
        self._dataset, self._target, self._folder = dataset, target, fit_folder(target)
        self._starts, self._began, self._seconds = starts, began, seconds
        self._workers, self._storage, self._seed = workers, storage, seed
        self._deployment = _DEPLOYMENT
        self._confirm, self._progress, self._notify = confirm, progress, notify

    def run(self, state: Fit) -> Fit:
        chosen = {
            name: plan_task(find_recipe("probe"), self._dataset, start=model).preprocess.size
            for name, model in self._starts.opened.items()
        }
        until = None if self._seconds is None else self._began + _SCREEN * self._seconds
        state = ScreenRun(
            state, self._dataset, self._starts, chosen, until, self._first, self._keep, self._progress, self._notify
        ).run()
        state = self._best_probe(state)
        if self._seconds is not None:
            self._keep(state, report=True)
            state = self._improved(state, self._began + self._seconds - time.monotonic() - self._end(state))
        self._keep(state)
        state = self._unchanged(judge_on_test(state, self._dataset, self._notify))
        self._keep(state, report=True)
        return state

    def _keep(self, state: Fit, *, report: bool = False) -> None:
        write_whole(self._folder / FIT_FILE, msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n")
        if report:
            write_fit_report(state, self._folder / "report.html", self._dataset)

    def _end(self, state: Fit) -> float:
        """Seconds that the end takes: writing and exporting the answer, and judging it on the test images."""
        images = 0 if self._dataset.evaluation == "train" else len(self._dataset.split(self._dataset.evaluation))
        assert state.answer is not None
        return self._deployment + images * state.answer.latency / 1e3

    def _unchanged(self, state: Fit) -> Fit:
        """Say so if the images were changed meanwhile."""
        if identity_of(self._dataset) == state.identity:
            return state
        text = "images were changed while fit ran: run the same command again, which looks at them anew"
        self._notify(text)
        return state.noted(text)

    def _first(self, state: Fit, one: Screened) -> Fit:
        """A first answer, of a candidate that was just screened."""
        answer, excess = self._probe(one, state)
        if answer is None:
            self._notify(f"{one.candidate} {excess} in its final form")
            return state
        self._notify(f"a first answer after {time.monotonic() - self._began:.0f} s: {answer.answer.text()}")  # type: ignore[union-attr]
        self._keep(answer, report=True)
        return answer

    def _probe(self, one: Screened, state: Fit) -> tuple[Fit | None, str]:
        """The state with a probe as its answer; or None, and by what it misses its budget."""
        began = time.monotonic()
        made = partial(_probed, one.candidate, self._dataset, self._starts(one.candidate))
        _, held = hold_out(self._dataset.split("train"), HELD_OUT, 0)
        answer, excess = deploy(Judged(one, held), made, state, self._dataset, self._target)
        self._deployment = time.monotonic() - began
        return (None if answer is None else msgspec.structs.replace(state, answer=answer, finished=False)), excess

    def _best_probe(self, state: Fit) -> Fit:
        """Write the best candidate that meets its budget in its final form, unless an answer is as good."""
        if state.answer is not None and state.answer.fine_tuned:
            return state
        wanted = state.limits.min_accuracy
        if wanted is not None and (state.ranking[0].accuracy or 0) < wanted:
            text = f"nothing reaches {wanted:.1%}: this is the most accurate"
            self._notify(text)
            state = state.noted(text)
        missed: list[str] = []
        for one in state.ranking:
            if state.answer is not None and _same(state.answer.candidate, one.candidate):
                return state
            found, excess = self._probe(one, state)
            if found is not None:
                return found
            missed.append(f"{one.candidate} was the best, but {excess} in its final form; the next takes its place")
            self._notify(missed[-1])
            state = state.noted(missed[-1])
        raise CompoundNetError(f"nothing fits {state.limits.text()} in its final form: {missed[0]}")

    def _improved(self, state: Fit, left: float) -> Fit:
        """Race the candidates, and let the winner take the place of the probe."""
        reason = "the images have several labels, and fine-tuning is compared by one class an image"
        if not self._dataset.multilabel:
            try:
                return self._raced(state, left)
            except _NoRaceError as error:
                reason = str(error)
                state = error.state
        how = "fine-tuned network of before" if state.answer is not None and state.answer.fine_tuned else "probe"
        text = f"{_STAYS} the {how}: {reason}"
        self._notify(text)
        return state.noted(text)

    def _raced(self, state: Fit, left: float) -> Fit:
        if left <= 0:
            raise _NoRaceError(state, "the time is up")
        entrants = list({key(one.candidate): one.candidate for one in reversed(state.ranking)}.values())[::-1]
        entrants = entrants[: 2 * ENTRANTS]
        trainings = _trainings(
            self._dataset, self._folder, self._starts, entrants, self._workers, time.time() + left, self._seed
        )
        plan = self._planned(state, trainings, entrants)
        left = trainings.until - time.time()
        about = f"fine-tuning {plan.text()}; {format_duration(left)} of --time are left"
        self._notify(about)
        if not self._confirm(about):
            raise _NoRaceError(state, "fine-tuning was not confirmed")
        state = msgspec.structs.replace(state, plan=plan, seconds=self._seconds)
        trainings = trainings._replace(length=plan.length)
        rungs: list[Rung] = []

        def done(rung: Rung) -> None:
            nonlocal state
            rungs.append(rung)
            state = msgspec.structs.replace(state, rungs=tuple(rungs))
            self._keep(state)
            time_left = format_duration(max(0.0, trainings.until - time.time()))
            self._notify(f"rung {len(rungs)} of {len(plan.rungs)} is done; {time_left} are left")

        try:
            raced = run_race(
                plan, trainings, self._folder / "race", name=self._target.name, workers=self._workers,
                storage=self._storage, notify=self._notify, done=done,
            )  # fmt: skip
            ranked = dict.fromkeys(one for rung in reversed(rungs) for one, _ in rung.results)
            costs = {one: raced.pace * cost for one, cost in zip(plan.entrants, plan.costs, strict=True)}
            finish = Finish(state, self._dataset, trainings, self._starts, self._target, costs, self._notify)
            return finish.run(list(ranked))
        except (TimeIsUpError, InterruptedRunError, KeyboardInterrupt) as error:
            why = str(error) if isinstance(error, TimeIsUpError) else "fine-tuning was stopped"
            raise _NoRaceError(state, f"{why}; the same command goes on") from error

    def _planned(self, state: Fit, trainings: Trainings, entrants: Sequence[Candidate]) -> RacePlan:
        """The race of an earlier call, so that this one goes on with its trainings, or a new one."""
        assert self._seconds is not None and state.answer is not None
        # One that was planned for more time may not end in this, unless it has ended.
        suits = self._seconds == state.seconds or (self._seconds < state.seconds and state.answer.fine_tuned)
        if state.plan is not None and suits and set(state.plan.entrants) <= set(entrants):
            return state.plan
        try:
            costs = estimate_all(trainings, entrants)
        except CompoundNetError as error:  # too few images to hold some out
            raise _NoRaceError(state, str(error)) from error
        left = trainings.until - time.time()
        probes = {key(one.candidate): one.accuracy or 0.0 for one in reversed(state.ranking)}
        # Where an accuracy suffices, the order is that of cost.
        equal = state.limits.min_accuracy is not None
        accuracies = [0.0 if equal else probes[key(candidate)] for candidate, _ in costs]
        plan = plan_in_time(costs, accuracies, left, self._workers)
        if plan is None:
            least = min(cost for _, cost in costs)
            raise _NoRaceError(
                state,
                f"fine-tuning would take at least {format_duration(min(LENGTHS) * least)}, and"
                f" {format_duration(max(0.0, left))} are left of --time",
            )
        return plan


class _NoRaceError(Exception):
    """Why there is no fine-tuned answer; `state` is that of the fit so far."""

    def __init__(self, state: Fit, reason: str) -> None:
        super().__init__(reason)
        self.state = state


def _same(one: Candidate, other: Candidate) -> bool:
    return one.in_precision(FLOAT) == other.in_precision(FLOAT)


def _probed(candidate: Candidate, dataset: Dataset, model: ModelFolder, folder: Path) -> ModelFolder:
    """Write the probe of a candidate."""
    task = msgspec.structs.replace(probe_of(candidate, dataset, model), test=None)
    return train(task, folder, loggers=[]).model
