"""Several workers on this machine: processes that share the trials of a study."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple

from compoundnet.base import CompoundNetError, is_out_of_memory
from compoundnet.base.faults import FAULT, report_fault
from compoundnet.base.machine import keep_freed_memory
from compoundnet.base.progress import Notify
from compoundnet.train.hardware import one_gpu
from compoundnet.train.interruptions import InterruptedRunError, Stop
from compoundnet.trials.studies import OpenedStudy
from compoundnet.trials.worker import Judge, line

# Seconds between checks for finished trials.
_POLL = 0.5
# Works until no trial is left, or until the function passed to it returns False. It is pickled.
Join = Callable[[Callable[[], bool]], object]


def work_together(opened: OpenedStudy[Any], join: Join, judge: Judge, count: int, notify: Notify) -> None:
    """Run `count` processes that work on the study. They end by themselves; if this
    process is killed, each ends after its current trial.

    Args:
        join: Run in each process; opens the study itself.
        judge: Describes finished trials.
        notify: Called with a line of text for each finished trial, and for each process that ended too early.

    Raises:
        InterruptedRunError: This process was asked to stop. The trials are run again when the study continues.
        CompoundNetError: All processes have ended, but trials are left.
    """
    # Before the workers start: one can finish trials while the next is being started.
    reported = {trial.number for trial in opened.counted()}
    workers = [_start(join, number) for number in range(count)]
    reasons: dict[int, str] = {}
    try:
        with Stop() as stop:
            while True:
                running = [worker.process.sentinel for worker in workers if worker.process.is_alive()]
                for trial in opened.counted():
                    if trial.number not in reported:
                        reported.add(trial.number)
                        notify(line(opened, judge, trial, len(reported)))
                for number, worker in enumerate(workers):
                    if number not in reasons and (reason := worker.reason()):
                        reasons[number] = reason
                        notify(f"one of {count} workers has ended: {reason}")
                if stop.asked:
                    raise InterruptedRunError("stopped; the same command continues")
                if not running:
                    break
                wait(running, timeout=_POLL)
    finally:
        for worker in workers:
            worker.process.terminate()  # a trial with checkpoints saves one
        for worker in workers:
            worker.process.join()
    left = opened.settings.trials() - len(opened.counted())
    if left:
        said = "; ".join(sorted(set(reasons.values())))
        trials = f"{left} trial{'s' * (left != 1)}"
        raise CompoundNetError(f"no worker is left for {trials}: {said}. The same command continues")


class _Worker(NamedTuple):
    process: SpawnProcess
    failure: Connection

    def reason(self) -> str | None:
        """Return one line on why the process ended before the work was done; None if it did not."""
        code = self.process.exitcode
        if code is None or code == 0:
            return None
        if self.failure.poll():
            try:
                return str(self.failure.recv())
            except EOFError:  # it ended without reporting a reason
                pass
        if code < 0:
            hint = " (too little memory for so many workers?)" if code == -signal.SIGKILL else ""
            return f"it was killed by signal {-code}{hint}"
        return f"it ended with exit code {code}"


def _start(join: Join, number: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_process, args=(join, one_gpu(number), send))
    process.start()
    send.close()  # close the copy of this process, so that it notices when the other end closes
    return _Worker(process, receive)


def _process(join: Join, variables: dict[str, str], failure: Connection) -> None:
    os.environ.update(variables)
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends its workers
    parent = multiprocessing.parent_process()
    try:
        # If the parent has ended, the process that continues the study starts new workers.
        join(lambda: parent is not None and parent.is_alive())
    except (CompoundNetError, OSError) as error:
        failure.send(str(error))
        sys.exit(1)
    except Exception as error:
        if is_out_of_memory(error):
            failure.send("there is not enough memory for so many workers, or for these networks and batches")
            sys.exit(1)
        failure.send(report_fault(error))
        sys.exit(FAULT)
