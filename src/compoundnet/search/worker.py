"""A worker: leases a waiting trial, trains its network, tells the study; until none is left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from compoundnet.arch import cost
from compoundnet.base import CompoundNetError
from compoundnet.search.leases import BEAT, PATIENCE, Heart, Holder, Watch, finish, give_back, take
from compoundnet.search.measuring import Measured, data_identity, fingerprint, measure, replay

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from compoundnet.data import Dataset
    from compoundnet.search.settings import Job
    from compoundnet.search.storage import Opened

# Seconds between looks at trials that others run.
_POLL = 0.5


def work(
    opened: Opened,
    dataset: Dataset,
    *,
    say: Callable[[str], object] = lambda _: None,
    go_on: Callable[[], bool] = lambda: True,
    beat: float = BEAT,
    patience: float = PATIENCE,
) -> int:
    """Work until no trial waits or runs; how many this worker finished. While others run their last trials it waits,
    in case one of them dies.

    say       is told of each finished trial
    go_on     asked before each trial
    beat      seconds between heartbeats
    patience  seconds without one after which a worker on another machine is held for gone

    Raises InterruptedRunError when it is asked to stop, with its trial waiting again; CompoundNetError where the
    pictures are not the study's, or the storage is lost.
    """
    if data_identity(dataset) != opened.data:
        raise CompoundNetError(
            f"{dataset.name} holds other pictures here than the study {opened.study.study_name!r} was begun with:"
            " classes, names or counts differ"
        )
    finished, watch = 0, Watch(patience)
    with opened.store.readable_errors(), Holder() as holder:
        while go_on():
            number = take(opened, holder, watch)
            if number is not None:
                with Heart(opened, holder, number, beat):
                    finished += _run(opened, dataset, holder, number, say)
            elif _unfinished(opened):
                time.sleep(_POLL)
            else:
                break
    return finished


def _run(opened: Opened, dataset: Dataset, holder: Holder, number: int, say: Callable[[str], object]) -> bool:
    """One leased trial to its end; whether it counts as this worker's."""
    try:
        trial = _ask(opened, number)
        job = opened.search.propose(trial)
        key = fingerprint(job.network, dataset, opened.search.recipe, job.seed, job.judge)
        described = {
            "network": job.network.dumps(), "point": job.point, "seed": job.seed, "judge": job.judge, "key": key
        }  # fmt: skip
        measured = _measured(opened, dataset, trial, job, key)
        told = _tell(opened, holder, number, job, described, measured)
    except BaseException:
        with contextlib.suppress(Exception):  # what happened first is what matters; the lease runs out by itself
            give_back(opened, holder, number)
        raise
    if told:
        trials = opened.study.get_trials(deepcopy=False)
        say(line(trials[number], sum(trial.state.is_finished() for trial in trials), len(trials)))
    return told


def _ask(opened: Opened, number: int) -> optuna.Trial:
    import optuna

    study = opened.study
    # A sampler of its own for each trial: no state of this process takes part in what it draws.
    study.sampler = opened.search.sampler()
    database = opened.store.database
    return optuna.Trial(
        study,
        database.get_trial_id_from_study_id_trial_number(database.get_study_id_from_name(study.study_name), number),
    )


def _measured(opened: Opened, dataset: Dataset, trial: optuna.Trial, job: Job, key: str) -> Measured | None:
    """None where the trial was pruned. What an earlier trial has trained is not trained again."""
    import optuna

    one_value = len(opened.study.directions) == 1
    reported = set(opened.study.trials[trial.number].intermediate_values)

    def told(epoch: int, value: float) -> None:
        if not one_value:  # optuna prunes by a single value
            return
        if epoch not in reported:  # it is, where this trial was begun by a worker that died
            reported.add(epoch)
            trial.report(value, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    costs = cost(job.network)

    def epoch_done(epoch: int, accuracy: float) -> None:
        # As if training ended here: what is pruned by is what the study is told at the end.
        so_far = Measured(accuracy, 0, costs.macs, costs.params, 0.0)
        told(epoch, opened.search.values(job, so_far)[0])

    try:
        for earlier in _same(opened, key):
            if "measured" in earlier.user_attrs:
                measured = msgspec.convert(earlier.user_attrs["measured"], Measured)
                replay(measured, epoch_done)
                return measured
            for epoch, value in sorted(earlier.intermediate_values.items()):
                told(epoch, value)
        folder = opened.store.folder
        return measure(
            job.network, dataset, opened.search.recipe, seed=job.seed, judge=job.judge, epoch_done=epoch_done,
            keep=folder / "models" / job.keep if folder is not None and job.keep is not None else None,
        )  # fmt: skip
    except optuna.TrialPruned:
        return None


def _same(opened: Opened, key: str) -> list[FrozenTrial]:
    """Finished trials of the same network, seed and recipe: complete ones first."""
    trials = opened.study.get_trials(deepcopy=False)
    same = [trial for trial in trials if trial.state.is_finished() and trial.user_attrs.get("key") == key]
    return sorted(same, key=lambda trial: "measured" not in trial.user_attrs)


def _tell(
    opened: Opened, holder: Holder, number: int, job: Job, described: dict[str, Any], measured: Measured | None
) -> bool:
    from optuna.trial import TrialState

    if measured is None:
        return finish(opened, holder, number, attributes=described, state=TrialState.PRUNED)
    attributes = described | {"measured": msgspec.to_builtins(measured)}
    return finish(opened, holder, number, attributes=attributes, values=opened.search.values(job, measured))


def _unfinished(opened: Opened) -> bool:
    return any(not trial.state.is_finished() for trial in opened.study.get_trials(deepcopy=False))


def line(trial: FrozenTrial, done: int, trials: int) -> str:
    """What is said of a finished trial."""
    if "measured" not in trial.user_attrs:
        outcome = "pruned"
    else:
        measured = msgspec.convert(trial.user_attrs["measured"], Measured)
        outcome = f"{measured.accuracy:.2%} of {measured.count:,} pictures, {measured.seconds:.0f} s"
        outcome = "diverged" if measured.diverged else outcome
    return f"{done:,} of {trials:,}: {trial.user_attrs['point']}, seed {trial.user_attrs['seed']}: {outcome}"
