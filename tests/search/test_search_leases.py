"""A trial is finished once, whatever happens to its workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from small_search import small_search
from small_train import small_dataset

from compoundnet.search import leases, worker
from compoundnet.search.leases import Heart, Holder, Watch, finish, give_back, take
from compoundnet.search.measuring import Measured, data_identity
from compoundnet.search.storage import Opened, create_study, open_study
from compoundnet.search.worker import work

MEASURED = Measured(0.5, 12, 1000, 100, 0.1, ((1, 0.4), (2, 0.5)))


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Five waiting trials, whose training takes no time."""
    monkeypatch.setattr(worker, "measure", lambda *_, **__: MEASURED)
    return create_study(small_search(), data_identity(small_dataset()), tmp_path / "study")


def states(opened: Opened) -> list[TrialState]:
    return [trial.state for trial in opened.study.get_trials(deepcopy=False)]


def test_a_study_has_all_its_trials_from_the_start(opened: Opened) -> None:
    assert states(opened) == [TrialState.WAITING] * small_search().trials()


def test_one_worker_finishes_all_trials_in_order(opened: Opened) -> None:
    said: list[str] = []
    assert work(opened, small_dataset(), say=said.append) == 5
    assert states(opened) == [TrialState.COMPLETE] * 5
    assert [line.split(":")[0] for line in said] == [f"{number} of 5" for number in range(1, 6)]
    assert work(opened, small_dataset()) == 0


def test_two_workers_never_hold_the_same_trial(opened: Opened) -> None:
    again = open_study(opened.store.folder or "")
    with Holder() as one, Holder() as two:
        taken = [take(opened, one, Watch(60)), take(again, two, Watch(60)), take(opened, one, Watch(60))]
    assert taken == [0, 1, 2]


def test_a_trial_that_is_given_back_waits_under_its_own_number(opened: Opened) -> None:
    with Holder() as holder:
        assert take(opened, holder, Watch(60)) == 0
        give_back(opened, holder, 0)
        assert states(opened)[0] == TrialState.WAITING
        assert take(opened, holder, Watch(60)) == 0


def test_the_trial_of_a_worker_that_is_gone_waits_again_at_once(opened: Opened) -> None:
    gone = Holder()
    with gone:
        assert take(opened, gone, Watch(60)) == 0
    with gone:  # what kill -9 leaves: the file, and nobody who holds it
        pass
    Path(gone._lock.lock_file).touch()
    with Holder() as holder:
        assert take(opened, holder, Watch(10_000)) == 0


def test_a_worker_that_lives_keeps_its_trial(opened: Opened) -> None:
    with Holder() as living, Holder() as other:
        assert take(opened, living, Watch(60)) == 0
        assert take(opened, other, Watch(60)) == 1
        assert states(opened)[0] == TrialState.RUNNING


def test_on_another_machine_heartbeats_decide(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    with Holder() as far, Holder() as near:
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr("socket.gethostname", lambda: "elsewhere")
            assert take(opened, far, Watch(60)) == 0
        watch = Watch(patience=0.5)
        with Heart(opened, far, 0, every=0.05):
            for _ in range(4):
                assert take(opened, near, watch) != 0
                time.sleep(0.3)
        taken = take(opened, near, watch)  # the first look after the last beat
        assert taken != 0
        time.sleep(0.6)
        assert take(opened, near, watch) == 0


def test_who_was_held_for_gone_cannot_finish_the_trial_of_another(opened: Opened) -> None:
    with Holder() as slow, Holder() as quick:
        assert take(opened, slow, Watch(60)) == 0
        opened.store.database.set_trial_state_values(leases._id(opened, 0), TrialState.WAITING)
        assert take(opened, quick, Watch(60)) == 0
        assert not finish(opened, slow, 0, attributes={}, values=[0.1])
        assert finish(opened, quick, 0, attributes={}, values=[0.9])
        assert not finish(opened, slow, 0, attributes={}, values=[0.1])
    assert opened.study.trials[0].values == [0.9]


def test_an_error_leaves_the_trial_waiting(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> Measured:
        raise RuntimeError("no memory")

    with monkeypatch.context() as broken:
        broken.setattr(worker, "measure", fail)
        with pytest.raises(RuntimeError, match="no memory"):
            work(opened, small_dataset())
    assert states(opened) == [TrialState.WAITING] * 5
    assert work(opened, small_dataset()) == 5


def test_what_was_trained_is_not_trained_again(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def once(*_: object, **__: object) -> Measured:
        calls.append(1)
        return MEASURED

    monkeypatch.setattr(worker, "measure", once)
    monkeypatch.setattr(type(opened.search), "propose", lambda self, trial: worker_job(self))
    work(opened, small_dataset())
    assert states(opened) == [TrialState.COMPLETE] * 5
    assert len(calls) == 1


def worker_job(search: object) -> object:
    from compoundnet.search import CoefficientSearch, Job

    assert isinstance(search, CoefficientSearch)
    return Job(search.points[0].network, 0, "always the same")


def test_a_pruned_trial_is_finished(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    class Always(optuna.pruners.NopPruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            return trial.number == 1

    def train(*_: object, epoch_done: object, **__: object) -> Measured:
        assert callable(epoch_done)
        epoch_done(1, 0.25)
        return MEASURED

    opened.study.pruner = Always()
    monkeypatch.setattr(worker, "measure", train)
    work(opened, small_dataset())
    assert states(opened).count(TrialState.PRUNED) == 1
    assert opened.study.trials[1].value == 0.25


def test_other_pictures_are_refused(opened: Opened) -> None:
    from compoundnet.base import CompoundNetError

    with pytest.raises(CompoundNetError, match="other pictures"):
        work(opened, small_dataset(train=61))


SCRIPT = Path(__file__).parent.parent / "support" / "small_search.py"


def test_killed_and_continued_gives_the_same_result(tmp_path: Path) -> None:
    """kill -9 in the middle of a trial, then the same call again."""
    from compoundnet.search import run

    whole = run(small_search(), small_dataset(), tmp_path / "whole")
    with subprocess.Popen(
        [sys.executable, SCRIPT, tmp_path / "killed"], stdout=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process.stdout.readline().startswith("2 of 5")
        running = open_study(tmp_path / "killed")
        while TrialState.RUNNING not in states(running):
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert TrialState.RUNNING in states(running)
    continued = run(small_search(), small_dataset(), tmp_path / "killed")
    assert states(continued) == [TrialState.COMPLETE] * 5
    assert [trial.values for trial in continued.study.trials] == [trial.values for trial in whole.study.trials]
    assert (tmp_path / "killed" / "result.toml").read_bytes() == (tmp_path / "whole" / "result.toml").read_bytes()
