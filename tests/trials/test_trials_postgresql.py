"""Three workers of the command line on a PostgreSQL server, one of them killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from optuna.trial import TrialState
from postgresql import PASSWORD, USER
from small_search import small_search
from small_train import class_folders

from compoundnet.data import open_dataset
from compoundnet.trials import OpenedStudy, create_study
from compoundnet.trials.measurement import data_identity
from compoundnet.trials.settings import position

pytestmark = pytest.mark.slow  # three workers train

Worker = subprocess.Popen[str]


def test_no_trial_is_lost_and_none_is_finished_twice(tmp_path: Path, server: str) -> None:
    """One of three workers is killed with -9 in the middle of a trial."""
    pictures = class_folders(tmp_path / "pictures", {"dark": 25, "grey": 25, "light": 25})
    url = f"postgresql://{USER}:{quote(PASSWORD, safe='')}@{server}/postgres"
    search = small_search(str(pictures), seeds=2)
    opened = create_study(search, data_identity(open_dataset(pictures)), tmp_path / "shared", url)
    asked = search.trials()
    command = [sys.executable, "-m", "compoundnet", "search", "worker", "--study", "shared"]
    workers = [
        subprocess.Popen(
            command, env={**os.environ, "COMPOUNDNET_STORAGE": url}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]  # fmt: skip
    try:
        victim, number = _kill_one_in_a_trial(opened, workers)
        said = [worker.communicate(timeout=240)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers if worker is not victim] == [0, 0], said
    trials = opened.counted()
    assert [position(trial) for trial in trials] == list(range(asked))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert trials[number].user_attrs["worker"]["pid"] != victim.pid
    finished = [line for text in said for line in text.splitlines() if f" of {asked}: " in line]
    assert len(finished) == asked, said
    opened.close()


def _kill_one_in_a_trial(opened: OpenedStudy[Any], workers: list[Worker]) -> tuple[Worker, int]:
    """The worker that was killed, and the position of the trial that it was at."""
    by_pid = {worker.pid: worker for worker in workers}
    while True:
        assert all(worker.poll() is None for worker in workers), [worker.communicate()[1] for worker in workers]
        for trial in opened.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if "worker" not in trial.user_attrs:
                continue
            victim = by_pid[trial.user_attrs["worker"]["pid"]]
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            now = opened.study.get_trials(deepcopy=False)[trial.number]
            assert now.state == TrialState.RUNNING, "it was killed between two trials: the test needs longer ones"
            return victim, position(trial)
        time.sleep(0.02)
