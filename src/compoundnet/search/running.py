"""A search from its settings to its result."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

from compoundnet.base import CompoundNetError, write_whole
from compoundnet.search.measuring import data_identity
from compoundnet.search.storage import Opened, create_study
from compoundnet.search.worker import line, work
from compoundnet.train.hardware import one_gpu
from compoundnet.train.interruptions import InterruptedRunError, Stop

if TYPE_CHECKING:
    from compoundnet.data import Dataset
    from compoundnet.search.settings import Search

# Where a worker's process finds the storage: a command line could be read by everyone on the machine.
STORAGE_VARIABLE = "COMPOUNDNET_STORAGE"
_POLL = 0.5


def run(
    search: Search,
    dataset: Dataset,
    folder: Path,
    *,
    storage: str | None = None,
    workers: int = 1,
    say: Callable[[str], object] = lambda _: None,
) -> Opened:
    """Create the study in `folder` or continue it, work until it is done, and write result.toml and the report there.

    storage  a PostgreSQL URL; FOLDER/study.db unless given. The study is then named after the folder
    workers  processes; each opens `search.data` itself
    say      is told what a person watching should know, a line at a time

    Raises InterruptedRunError when it is asked to stop: the same call goes on. CompoundNetError where the folder holds
    another search, the storage cannot be used, or every worker has failed.
    """
    opened = create_study(search, data_identity(dataset), folder, storage)
    with opened.store.readable_errors():
        if workers == 1:
            work(opened, dataset, say=say)
        else:
            _work_together(opened, folder, workers, say)
        finish(opened, folder)
    return opened


def finish(opened: Opened, folder: Path) -> None:
    """Write result.toml, and the report with its plots, of a study all of whose trials are finished."""
    from compoundnet.search.report import write_report

    write_whole(folder / "result.toml", opened.search.result(opened.study).encode())
    write_report(opened, folder)


def _work_together(opened: Opened, folder: Path, workers: int, say: Callable[[str], object]) -> None:
    """Processes of `compoundnet search worker`. They end by themselves, or after their trial if this one is killed."""
    errors = [tempfile.TemporaryFile() for _ in range(workers)]  # noqa: SIM115  # closed below
    processes = [_start(opened, folder, number, error) for number, error in enumerate(errors)]
    seen = _finished(opened)
    try:
        with Stop() as stop:
            while any(process.poll() is None for process in processes):
                time.sleep(_POLL)
                seen = _tell_of_new(opened, seen, say)
                if stop.asked:
                    raise InterruptedRunError("stopped, as asked; the same command goes on")
        failures = [_failure(process, error) for process, error in zip(processes, errors, strict=True)]
    finally:
        for process in processes:
            process.terminate()  # its trial waits again
        for process, error in zip(processes, errors, strict=True):
            process.wait()
            error.close()
    _tell_of_new(opened, seen, say)
    left = len(opened.study.trials) - len(_finished(opened))
    if left:
        reasons = "; ".join(sorted({failure for failure in failures if failure}))
        raise CompoundNetError(f"no worker is left for {left} trials: {reasons}. The same command goes on")


def _start(opened: Opened, folder: Path, number: int, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    store = opened.store
    place = str(folder.absolute()) if store.folder is not None else store.secret_url()
    environment = {**os.environ, STORAGE_VARIABLE: place, **one_gpu(number)}
    command = [sys.executable, "-m", "compoundnet", "search", "worker", "--quiet", "--parent", str(os.getpid())]
    if store.folder is None:
        command += ["--study", opened.study.study_name]
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)


def _failure(process: subprocess.Popen[bytes], errors: IO[bytes]) -> str | None:
    """In a line, why a worker ended; None where it had nothing more to do."""
    if process.returncode == 0:
        return None
    if process.returncode < 0:
        return f"one was killed by signal {-process.returncode}" + (
            " (too little memory for so many workers?)" if process.returncode == -9 else ""
        )
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else f"one ended with exit code {process.returncode}"


def _finished(opened: Opened) -> set[int]:
    trials = opened.study.get_trials(deepcopy=False)
    return {trial.number for trial in trials if trial.state.is_finished()}


def _tell_of_new(opened: Opened, seen: set[int], say: Callable[[str], object]) -> set[int]:
    trials = opened.study.get_trials(deepcopy=False)
    done = {trial.number for trial in trials if trial.state.is_finished()}
    for number in sorted(done - seen):
        seen = seen | {number}
        say(line(trials[number], len(seen), len(trials)))
    return seen
