"""Which trial runs next, which count, and which workers are dead: one step at a time, without a worker."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from small_search import small_search
from small_train import small_dataset

from compoundnet.search import CoefficientSearch
from compoundnet.trials import OpenedStudy, create_study
from compoundnet.trials.measurement import data_identity
from compoundnet.trials.positions import Presence, counted, prepare_next
from compoundnet.trials.settings import WORKER, position

PARAMS = [{"a": 1.0, "b": 5.0}, {"a": 3.0, "b": 5.0}, {"a": 2.0, "b": 4.0}]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[OpenedStudy[CoefficientSearch]]:
    found = create_study(small_search(), data_identity(small_dataset()), tmp_path / "study")
    yield found
    found.close()


def take(opened: OpenedStudy[CoefficientSearch], by: Presence | None) -> optuna.Trial:
    """Start the trial that waits, and mark it as a worker's."""
    trial = opened.study.ask()
    if by is not None:
        by.mark(trial)
    return trial


def step(opened: OpenedStudy[CoefficientSearch], positions: int = 3) -> str:
    return prepare_next(opened.database, opened.study, positions, PARAMS[:positions])


def test_positions_are_queued_in_order_and_one_at_a_time(opened: OpenedStudy[CoefficientSearch]) -> None:
    assert step(opened) == step(opened) == "waiting"
    (waiting,) = opened.study.get_trials(states=(TrialState.WAITING,))
    assert position(waiting) == 0 and waiting.params == PARAMS[0]
    assert waiting.distributions == {"a": FloatDistribution(1.0, 3.0), "b": FloatDistribution(4.0, 5.0)}
    with Presence(opened.database) as worker:
        for number in range(3):
            trial = take(opened, worker)
            assert position(trial) == number
            assert trial.user_attrs[WORKER] == {"name": worker.name, "host": socket.gethostname(), "pid": os.getpid()}
            assert step(opened) == ("waiting" if number < 2 else "running"), "its worker is alive"
            opened.study.tell(trial, 0.5)
            assert step(opened) == ("waiting" if number < 2 else "finished")
    assert [position(trial) for trial in counted(opened.study.trials)] == [0, 1, 2]


def test_a_search_whose_sampler_chooses_has_no_parameters_beforehand(opened: OpenedStudy[CoefficientSearch]) -> None:
    assert prepare_next(opened.database, opened.study, 1, []) == "waiting"
    (waiting,) = opened.study.get_trials(states=(TrialState.WAITING,))
    assert waiting.params == {} and waiting.distributions == {}


@pytest.mark.parametrize("marked", [True, False])
def test_the_trial_of_a_dead_worker_is_queued_again(opened: OpenedStudy[CoefficientSearch], marked: bool) -> None:
    """Its lock is free, or it was killed before it marked the trial."""
    step(opened)
    with Presence(opened.database) as worker:
        dead = take(opened, worker if marked else None)
    assert step(opened) == "waiting"
    trials = opened.study.trials
    assert trials[dead.number].state == TrialState.FAIL
    again = take(opened, None)
    assert position(again) == 0 and again.params == PARAMS[0]
    opened.study.tell(again, 0.7)
    (found,) = counted(opened.study.trials)
    assert found.number == again.number


def test_a_trial_that_is_queued_again_is_judged_by_the_pruner_again(opened: OpenedStudy[CoefficientSearch]) -> None:
    """Killed before it ended, it may have been about to be pruned."""
    opened.study.pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1)
    for value in (0.9, 0.5):
        step(opened)
        trial = take(opened, None)
        trial.report(value, 1)
        assert trial.should_prune() == (value == 0.5)
        if value == 0.9:
            opened.study.tell(trial, value)
    assert step(opened) == "waiting"
    again = take(opened, None)
    assert position(again) == 1
    again.report(0.5, 1)
    assert again.should_prune()


def test_a_failed_position_comes_before_the_next_fresh_one(opened: OpenedStudy[CoefficientSearch]) -> None:
    with Presence(opened.database) as worker:
        for number in range(2):
            step(opened)
            trial = take(opened, worker)
            opened.study.tell(trial, state=TrialState.FAIL) if number == 0 else opened.study.tell(trial, 0.5)
            if number == 0:
                assert step(opened) == "waiting"
                assert position(take(opened, worker)) == 0, "queued once more"
    assert {position(trial) for trial in opened.study.trials} == {0, 1}


def test_a_worker_of_another_machine_is_presumed_alive_only_on_a_server(opened: OpenedStudy[CoefficientSearch]) -> None:
    """In a folder all workers are on this machine, whatever name it has today."""
    step(opened)
    trial = take(opened, None)
    trial.set_user_attr(WORKER, {"name": "gone", "host": "another", "pid": 1})
    assert step(opened) == "waiting"
    assert opened.study.trials[trial.number].state == TrialState.FAIL


def test_of_several_finished_trials_of_a_position_the_first_counts(opened: OpenedStudy[CoefficientSearch]) -> None:
    for value, state in ((0.4, TrialState.FAIL), (0.5, TrialState.PRUNED), (0.6, TrialState.COMPLETE)):
        opened.study.add_trial(
            optuna.trial.create_trial(
                state=state, user_attrs={"position": 0}, value=None if state == TrialState.FAIL else value
            )
        )
    (found,) = counted(opened.study.trials)
    assert found.state == TrialState.PRUNED and found.number == 1
