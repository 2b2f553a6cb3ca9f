"""A trial counts once, whatever happens to its workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from postgresql import PASSWORD, USER
from small_search import small_search
from small_train import small_dataset
from squares import COUNT, SquareJudge, Squares, made

from compoundnet.base import CompoundNetError
from compoundnet.search import open_study, run
from compoundnet.trials import NetworkJudge, OpenedStudy, TrainingJob, TrialOutcome, create_study, network_judge, work
from compoundnet.trials.database import Heartbeat
from compoundnet.trials.measurement import data_identity
from compoundnet.trials.positions import Presence, counted, prepare_next
from compoundnet.trials.settings import position

SCRIPT = Path(__file__).parents[1] / "support" / "squares.py"
WHOLE = {number: [float(number**2)] for number in range(COUNT)}


# Of a test that takes long, the fast suite has the study in a folder.
both_places = pytest.mark.parametrize(
    "place", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True
)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a study may lie: a folder, or a database of its own on a server."""
    if request.param == "sqlite":
        return str(tmp_path / "squares")
    return new_database(request.getfixturevalue("server"), f"squares{abs(hash(tmp_path)):x}")


def new_database(server: str, name: str) -> str:
    import psycopg

    host, port = server.split(":")
    with psycopg.connect(
        host=host, port=int(port), user=USER, password=PASSWORD, dbname="postgres", autocommit=True
    ) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return f"postgresql://{USER}:{quote(PASSWORD, safe='')}@{server}/{name}"


@pytest.fixture
def opened(tmp_path: Path) -> OpenedStudy[Squares]:
    return made("", tmp_path / "squares")


def table(opened: OpenedStudy[Squares]) -> dict[int, list[float]]:
    """Position -> values."""
    return {position(trial): trial.values for trial in opened.counted()}


def states(opened: OpenedStudy[Squares]) -> Counter[str]:
    return Counter(trial.state.name for trial in opened.study.get_trials(deepcopy=False))


def start(place: str, log: Path, death: str = "", **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, SCRIPT, place, log, *([death] if death else [])], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, **environment},
    )  # fmt: skip


def judged(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().splitlines()]


def take(opened: OpenedStudy[Squares]) -> str:
    with opened.database.lock():
        return prepare_next(opened.database, opened.study, COUNT, opened.settings.params())


def test_one_worker_finishes_all_trials_in_order(opened: OpenedStudy[Squares], tmp_path: Path) -> None:
    said: list[str] = []
    assert work(opened, SquareJudge(tmp_path / "log"), notify=said.append) == COUNT
    assert table(opened) == WHOLE
    assert [line.split(":")[0] for line in said] == [f"{number} of {COUNT}" for number in range(1, COUNT + 1)]
    assert [trial.params for trial in opened.counted()] == [{"x": number} for number in range(COUNT)]
    assert work(opened, SquareJudge(tmp_path / "log")) == 0
    assert states(opened) == {"COMPLETE": COUNT}


# In the fast suite both places, and the moments that the next test does not have.
@pytest.mark.parametrize(
    ("place", "death"),
    [
        ("sqlite", "marked"),
        ("postgresql", "judged"),
        *(pytest.param("sqlite", death, marks=pytest.mark.slow) for death in ("taken", "judging", "judged")),
        *(pytest.param("postgresql", death, marks=pytest.mark.slow) for death in ("taken", "marked", "judging")),
    ],
    indirect=["place"],
)
def test_a_worker_killed_at_any_moment_loses_no_trial_and_none_counts_twice(
    place: str, tmp_path: Path, death: str
) -> None:
    log = tmp_path / "log"
    killed = start(place, log, death)
    said = killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL, said
    opened = made(place, tmp_path / "squares")
    assert len(opened.counted()) == 2
    goes_on = start(place, log)
    printed, errors = goes_on.communicate(timeout=60)
    assert goes_on.returncode == 0, errors
    assert table(opened) == WHOLE
    assert [line.split(":")[0] for line in printed.splitlines()] == [f"{n} of {COUNT}" for n in range(3, COUNT + 1)]
    assert states(opened) == {"COMPLETE": COUNT, "FAIL": 1}
    # In order, so that a sampler draws as if nothing had happened.
    assert judged(log) == sorted(judged(log))
    opened.close()


@both_places
def test_a_trial_whose_second_worker_is_killed_too_runs_a_third_time(place: str, tmp_path: Path) -> None:
    """The second one before it could mark the trial as its own, while the trial still knew of the first."""
    log = tmp_path / "log"
    for death, call in (("judging", "3"), ("taken", "1")):
        killed = start(place, log, death, CALL=call)
        said = killed.communicate(timeout=60)
        assert killed.returncode == -signal.SIGKILL, said
    goes_on = start(place, log)
    said = goes_on.communicate(timeout=60)
    assert goes_on.returncode == 0, said
    opened = made(place, tmp_path / "squares")
    assert table(opened) == WHOLE
    assert states(opened) == {"COMPLETE": COUNT, "FAIL": 2}
    opened.close()


@both_places
def test_workers_that_are_killed_one_after_the_other_end_with_the_same_table(place: str, tmp_path: Path) -> None:
    """Three at a time; one is killed with -9 as soon as it has finished a trial, and another takes its place."""
    log = tmp_path / "log"
    opened = made(place, tmp_path / "squares")
    workers = [start(place, log, SECONDS="0.15") for _ in range(3)]
    try:
        for victim in workers[:2]:
            assert victim.stdout is not None and " of " in victim.stdout.readline()
            victim.send_signal(signal.SIGKILL)
            victim.communicate()
            workers.append(start(place, log, SECONDS="0.15"))
        said = [worker.communicate(timeout=120) for worker in workers[2:]]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers[2:]] == [0, 0, 0], said
    assert table(opened) == WHOLE
    assert states(opened)["COMPLETE"] == COUNT
    assert states(opened)["FAIL"] <= 2 and set(states(opened)) <= {"COMPLETE", "FAIL"}
    opened.close()


def test_a_worker_killed_on_another_machine_is_missed_by_its_heartbeats(server: str, tmp_path: Path) -> None:
    """Its lock file lies in a cache that no other worker sees, as on another machine."""
    place, log = new_database(server, "far"), tmp_path / "log"
    opened = made(place, tmp_path / "squares", Heartbeat(1, 600))
    far = start(place, log, "judging", COMPOUNDNET_CACHE=str(tmp_path / "far"))
    far.communicate(timeout=60)
    assert far.returncode == -signal.SIGKILL
    assert take(opened) == "waiting"
    assert states(opened) == {"COMPLETE": 2, "RUNNING": 1, "WAITING": 1}  # with more patience it would be alive
    near = start(place, log)
    said = near.communicate(timeout=120)
    assert near.returncode == 0, said
    assert table(opened) == WHOLE
    assert states(opened) == {"COMPLETE": COUNT, "FAIL": 1}
    opened.close()


def test_a_worker_that_was_presumed_dead_counts_for_nothing(server: str, tmp_path: Path) -> None:
    """It is stopped for longer than others have patience, and goes on when its trial has been run by another."""
    place, log = new_database(server, "slow"), tmp_path / "log"
    opened = made(place, tmp_path / "squares", Heartbeat(1, 3))
    slow = start(place, log, SECONDS="2", COMPOUNDNET_CACHE=str(tmp_path / "far"))
    while True:
        assert slow.poll() is None
        with opened.database.lock():  # so that it is not stopped while it holds the lock
            if states(opened)["RUNNING"] == 1:
                slow.send_signal(signal.SIGSTOP)
                break
    near = start(place, log)
    printed, errors = near.communicate(timeout=120)
    assert near.returncode == 0, errors
    slow.send_signal(signal.SIGCONT)
    late, errors = slow.communicate(timeout=60)
    assert slow.returncode == 0, errors
    assert table(opened) == WHOLE
    assert len(late.splitlines()) + len(printed.splitlines()) == COUNT
    assert states(opened) == {"COMPLETE": COUNT, "FAIL": 1}
    opened.close()


def test_a_worker_that_lives_keeps_its_trial(opened: OpenedStudy[Squares], tmp_path: Path) -> None:
    again = made("", tmp_path / "squares")
    seen: list[Counter[str]] = []

    class Looking(SquareJudge):
        def values(self, trial: optuna.Trial) -> Sequence[float]:
            take(again)
            seen.append(states(again))
            return super().values(trial)

    work(opened, Looking(tmp_path / "log"))
    assert all(found["RUNNING"] == 1 and found["FAIL"] == 0 for found in seen)
    assert table(opened) == WHOLE


def test_an_error_ends_the_worker_and_the_trial_runs_again(opened: OpenedStudy[Squares], tmp_path: Path) -> None:
    class Failing(SquareJudge):
        def values(self, trial: optuna.Trial) -> Sequence[float]:
            raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        work(opened, Failing(tmp_path / "log"))
    assert states(opened) == {"FAIL": 1}
    assert work(opened, SquareJudge(tmp_path / "log")) == COUNT
    assert table(opened) == WHOLE


def test_a_pruned_trial_counts(opened: OpenedStudy[Squares], tmp_path: Path) -> None:
    class Pruning(SquareJudge):
        def values(self, trial: optuna.Trial) -> Sequence[float]:
            if trial.number == 1:
                trial.report(0.25, 1)
                raise optuna.TrialPruned
            return super().values(trial)

        def describe(self, trial: FrozenTrial) -> str:
            return trial.state.name

    work(opened, Pruning(tmp_path / "log"))
    assert states(opened) == {"COMPLETE": COUNT - 1, "PRUNED": 1}
    assert table(opened) == WHOLE | {1: [0.25]}


def test_a_second_trial_of_a_position_does_not_count(opened: OpenedStudy[Squares], tmp_path: Path) -> None:
    work(opened, SquareJudge(tmp_path / "log"))
    opened.study.add_trial(
        optuna.trial.create_trial(state=TrialState.COMPLETE, values=[99.0], user_attrs={"position": 3})
    )
    assert table(opened) == WHOLE
    assert len(counted(opened.study.trials)) == COUNT


def test_what_kill_leaves_of_a_worker_is_cleared_away(opened: OpenedStudy[Squares], tmp_path: Path) -> None:
    killed = start(str(tmp_path / "squares"), tmp_path / "log", "judging")
    killed.communicate(timeout=60)
    assert len(list((tmp_path / "squares" / "workers").iterdir())) == 1
    with Presence(opened.database):
        assert take(opened) == "waiting"
    assert list((tmp_path / "squares" / "workers").iterdir()) == []


@pytest.mark.slow
def test_a_search_killed_and_continued_gives_the_same_result(tmp_path: Path) -> None:
    """kill -9 in the middle of a training, then the same call again."""
    whole = run(small_search(), small_dataset(), tmp_path / "whole")
    script = SCRIPT.with_name("small_search.py")
    with subprocess.Popen([sys.executable, script, tmp_path / "killed"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process.stdout.readline().startswith("2 of 5")
        running = open_study(tmp_path / "killed")
        while not running.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert running.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    continued = run(small_search(), small_dataset(), tmp_path / "killed")
    assert [trial.values for trial in continued.counted()] == [trial.values for trial in whole.counted()]
    assert (tmp_path / "killed" / "result.toml").read_bytes() == (tmp_path / "whole" / "result.toml").read_bytes()


def test_other_images_are_refused(tmp_path: Path) -> None:
    opened = create_study(small_search(), data_identity(small_dataset()), tmp_path / "study")
    with pytest.raises(CompoundNetError, match="other images"):
        NetworkJudge(opened, small_dataset(train=61))


def test_what_was_trained_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def once(*_: object, **__: object) -> TrialOutcome:
        calls.append(1)
        return TrialOutcome(0.5, 12, 1000, 100, 0.1, ((1, 0.4), (2, 0.5)))

    search, dataset = small_search(), small_dataset()
    opened = create_study(search, data_identity(dataset), tmp_path / "study")
    monkeypatch.setattr(network_judge, "measure", once)
    monkeypatch.setattr(type(search), "propose", lambda self, _: TrainingJob(self.points[0].network, 0, "the same"))
    work(opened, NetworkJudge(opened, dataset))
    assert len(opened.counted()) == 5
    assert len(calls) == 1
