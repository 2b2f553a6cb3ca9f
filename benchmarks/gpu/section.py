"""What every section shares: its folder and times, its rows of results, its turn on the GPU, and time taken there.

torch is imported inside the functions: the command that starts the sections does without.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

ROWS, READY, TURN = "rows", "ready", "turn"


class Section(NamedTuple):
    """One section's arguments.

    Attributes:
        folder: Holds the section's rows, a line of JSON each, and the two files of `turn`.
        prepared_by: The moment, of `time.monotonic()`, at which what is not prepared is left out.
        smoke: Whether to run the reduced form, on any machine.
        out: The folder of all results, for what a later run goes on with.
        cifar10: The images of CIFAR-10, a folder or a zip file, if they were given.
    """

    folder: Path
    prepared_by: float
    smoke: bool
    out: Path
    cifar10: Path | None

    def row(self, **values: Any) -> None:
        """Append a row of results."""
        with (self.folder / ROWS).open("a") as file:
            file.write(json.dumps(values) + "\n")

    def turn(self) -> float:
        """Say that all is prepared, wait until nothing else runs, and return the moment at which the turn ends."""
        (self.folder / READY).touch()
        while not (self.folder / TURN).exists():
            time.sleep(0.1)
        return time.monotonic() + float((self.folder / TURN).read_text())


def parse(about: str | None) -> Section:
    """Return the arguments of a section that runs as a script."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="to prepare")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cifar10", type=Path)
    given = parser.parse_args()
    return Section(given.folder, time.monotonic() + given.seconds, given.smoke, given.out, given.cifar10)


def device() -> torch.device:
    """The GPU, or the CPU where there is none."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def milliseconds(run: Callable[[], object], times: int) -> float:
    """Time one call, over a number of calls in a row; on a GPU by its events."""
    import torch

    if not torch.cuda.is_available():
        start = time.perf_counter()
        for _ in range(times):
            run()
        return (time.perf_counter() - start) / times * 1e3
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    for _ in range(times):
        run()
    last.record()
    last.synchronize()
    taken: float = first.elapsed_time(last)
    return taken / times


def latency(run: Callable[[], object], times: int) -> float:
    """The median time, in milliseconds, from a call to its result, each alone on the GPU."""
    import torch

    taken = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append((time.perf_counter() - start) * 1e3)
    return sorted(taken)[len(taken) // 2]
