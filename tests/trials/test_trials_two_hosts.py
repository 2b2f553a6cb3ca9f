"""A search on two hosts, with its PostgreSQL server on one: a connection cut for a minute, and a host that dies."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import hosts
import postgresql
import pytest
from optuna.trial import TrialState
from small_search import small_search
from small_train import class_folders

from compoundnet.data import open_dataset
from compoundnet.trials import OpenedStudy, create_study
from compoundnet.trials.measurement import data_identity
from compoundnet.trials.settings import position

pytestmark = pytest.mark.slow  # each cut takes a minute


@pytest.fixture
def both() -> Iterator[tuple[hosts.Host, hosts.Host, str]]:
    """The two hosts, and HOST:PORT of a server on the first."""
    if (why := hosts.missing()) is not None:
        pytest.skip(why)
    if postgresql.programs() is None or importlib.util.find_spec("psycopg") is None:
        pytest.skip("PostgreSQL's server or psycopg is not installed")
    with hosts.two_hosts() as (first, second), postgresql.server(first.address, first.inside) as server:
        yield first, second, server


@pytest.mark.parametrize("fault", ["cut", "crash"])
def test_every_trial_counts_once_whatever_happens_to_the_second_host(
    both: tuple[hosts.Host, hosts.Host, str], tmp_path: Path, fault: str
) -> None:
    first, second, server = both
    images = class_folders(tmp_path / "images", {"dark": 25, "grey": 25, "light": 25})
    url = f"postgresql://{postgresql.USER}:{quote(postgresql.PASSWORD, safe='')}@{server}/postgres"
    search = small_search(str(images), seeds=4)
    opened = create_study(search, data_identity(open_dataset(images)), tmp_path / "shared", url)
    command = [sys.executable, "-m", "compoundnet", "search", "worker", "--study", "shared"]
    env = {"COMPOUNDNET_STORAGE": url, "OMP_NUM_THREADS": "1"}
    workers = [host.start(command, env) for host in (first, second)]
    _wait_for_a_trial_on_each(opened, workers)
    if fault == "cut":
        second.cut()
        time.sleep(60)
        second.mend()
    else:
        second.crash()
        # It comes back, with a new worker.
        workers.append(second.start(command, env))
    said = [worker.communicate(timeout=500)[1] for worker in workers]
    assert workers[0].returncode == 0, said
    assert workers[-1].returncode == 0, said
    trials = opened.counted()
    assert [position(trial) for trial in trials] == list(range(search.trials()))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    opened.close()


def _wait_for_a_trial_on_each(opened: OpenedStudy[Any], workers: list[subprocess.Popen[str]]) -> None:
    deadline = time.monotonic() + 200
    while True:
        assert time.monotonic() < deadline, "the workers did not begin in time"
        assert all(worker.poll() is None for worker in workers), [worker.communicate()[1] for worker in workers]
        running = opened.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if len({trial.user_attrs["worker"]["pid"] for trial in running if "worker" in trial.user_attrs}) == 2:
            return
        time.sleep(0.02)
