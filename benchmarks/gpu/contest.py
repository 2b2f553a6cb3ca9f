"""A contest of networks: they are compiled all at once, in processes of their own, and then timed one after the other.

Compiling takes the time, and only processor cores, so it is done in parallel. While it goes on nothing is timed. Then
each round times every case once, with the GPU to itself, so that drift of the machine hits all alike.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import torch
from section import Section

Values = dict[str, float]
Facts = dict[str, Any]


# Seconds before the deadline in which a process with a case that is ready begins no other: it would lose both.
_LAST = 10


class Case(NamedTuple):
    """One thing to time: a network of a library in a mode ("eager", "compiled", "graphs") at a batch and resolution.

    `gigabytes` is an upper bound of the GPU memory that it takes while it runs.
    """

    network: str
    library: str
    mode: str
    batch: int
    size: int
    gigabytes: int = 1

    def facts(self) -> Facts:
        return {name: value for name, value in self._asdict().items() if name != "gigabytes"}


class Gate:
    """Admits as many processes to the GPU as fit its memory together."""

    def __init__(self, context: Any, gigabytes: int) -> None:
        self._most = gigabytes
        self._turn, self._free = context.Lock(), context.Semaphore(gigabytes)

    def enter(self, gigabytes: int) -> None:
        with self._turn:  # one at a time, so that no two hold what the other waits for
            for _ in range(min(gigabytes, self._most)):
                self._free.acquire()

    def leave(self, gigabytes: int) -> None:
        _give_back_memory()
        for _ in range(min(gigabytes, self._most)):
            self._free.release()

    @contextmanager
    def inside(self, gigabytes: int) -> Iterator[None]:
        self.enter(gigabytes)
        try:
            yield
        finally:
            self.leave(gigabytes)


class Prepared(NamedTuple):
    """A case that is ready: `measure` times it once; `facts` were found on the way."""

    measure: Callable[[], Values]
    facts: Facts


Prepare = Callable[[Case, Gate], Prepared]


class _Member(NamedTuple):
    process: BaseProcess
    pipe: Connection
    cases: tuple[Case, ...]


def hold(section: Section, groups: Sequence[Sequence[Case]], prepare: Prepare, *, memory: float, rounds: int) -> None:
    """Prepare each group of cases in a process of its own, time all that are ready, and write a row for each case.

    Args:
        section: The section.
        groups: The cases of each process.
        prepare: Builds a case, in its process; a function of a module.
        memory: The share of the GPU's memory for what runs while all prepare; other sections do too.
        rounds: The number of rounds; fewer if the time is short.
    """
    context = multiprocessing.get_context("spawn")
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "2"  # for each process; there are about as many as cores
    total = torch.cuda.mem_get_info()[1] / 1e9 if torch.cuda.is_available() else 64
    gate = Gate(context, max(1, int(total * memory)))
    members = []
    for group in groups:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, tuple(group), prepare, gate, section.prepared_by))
        process.start()
        theirs.close()
        members.append(_Member(process, ours, tuple(group)))
    try:
        facts, failed = _gather(members, section.prepared_by)
        values = _time(members, facts, rounds, section.turn() - 3)
    finally:
        for member in members:
            member.process.kill()
            member.process.join()
    for case, found in facts.items():
        if values[case]:
            section.row(**case.facts(), **found, **_summary(case, values[case]))
        else:
            failed[case] = found.get("error", "ready, but there was no time left to measure it")
    for case, reason in failed.items():
        section.row(**case.facts(), error=reason)


def _work(pipe: Connection, cases: tuple[Case, ...], prepare: Prepare, gate: Gate, deadline: float) -> None:
    """A process: prepare the cases, then time those that are asked for."""
    torch.set_num_threads(1)
    prepared: dict[Case, Prepared] = {}
    for case in cases:
        start = time.monotonic()
        if prepared and start > deadline - _LAST:
            break
        try:
            prepared[case] = prepare(case, gate)
        except Exception as error:  # is part of the result
            pipe.send((case, _in_words(error)))
        else:
            pipe.send((case, {**prepared[case].facts, "prepare_s": round(time.monotonic() - start, 1)}))
    pipe.send(None)
    while True:
        case = pipe.recv()
        try:
            found: Values | str = prepared[case].measure()
        except Exception as error:  # as above
            found = _in_words(error)
        _give_back_memory()
        pipe.send(found)


def _in_words(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]} ({last.filename}:{last.lineno})"


def _give_back_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def _gather(members: list[_Member], deadline: float) -> tuple[dict[Case, Facts], dict[Case, str]]:
    """Wait until all cases are prepared, or the deadline; return what was found of each, and the failures."""
    facts: dict[Case, Facts] = {}
    failed: dict[Case, str] = {}
    busy = {member.pipe: member for member in members}
    while busy and (left := deadline - time.monotonic()) > 0:
        for pipe in wait(list(busy), timeout=left):
            assert isinstance(pipe, Connection)
            try:
                message = pipe.recv()
            except EOFError:
                busy.pop(pipe).process.join(5)
                continue
            if message is None:
                del busy[pipe]
            elif isinstance(message[1], str):
                failed[message[0]] = message[1]
            else:
                facts[message[0]] = message[1]
    for member in busy.values():  # they could not answer, and would disturb the others
        member.process.kill()
        member.process.join()
    for member in members:
        for case in member.cases:
            if case not in facts or not member.process.is_alive():
                facts.pop(case, None)
                failed.setdefault(case, f"not ready in time (exit code {member.process.exitcode})")
    return facts, failed


def _time(members: list[_Member], facts: dict[Case, Facts], rounds: int, deadline: float) -> dict[Case, list[Values]]:
    """Time each case once a round; put a failure into its facts."""
    values: dict[Case, list[Values]] = {case: [] for case in facts}
    for _ in range(rounds):
        for member in members:
            for case in member.cases:
                left = deadline - time.monotonic()
                if case not in facts or "error" in facts[case] or left < 1 or not member.process.is_alive():
                    continue
                member.pipe.send(case)
                if not member.pipe.poll(min(30, left)):
                    member.process.kill()  # a late answer would be taken for another case's
                    member.process.join()
                    facts[case]["error"] = "no answer"
                    continue
                found = member.pipe.recv()
                if isinstance(found, str):
                    facts[case]["error"] = found
                else:
                    values[case].append(found)
    return values


def _summary(case: Case, measured: list[Values]) -> Facts:
    """The median of each value over the rounds, and the range of the times."""
    found: Facts = {name: round(statistics.median(one[name] for one in measured), 4) for name in measured[0]}
    times = [one["ms"] for one in measured]
    found["ms_range"] = [round(min(times), 4), round(max(times), 4)]
    found["rounds"] = len(measured)
    found["images_per_second"] = round(case.batch / found["ms"] * 1e3, 1)
    return found
