"""Everything that this project measures on a GPU, in one command: `python benchmarks/gpu --out FOLDER`.

Each section is a process of its own with a time limit; one that fails or runs out of time leaves the rows that it
wrote, and the others go on. All prepare (compile) at the same time, while the tests run; then each has its turn to time
things, alone on the GPU. FOLDER/results.json holds all rows as they come, results.md the tables. Needs no network.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from report import markdown
from section import READY, ROWS, TURN

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SCRIPTS = {
    "environment": "environment.py",
    "tests": "marked_tests.py",
    "training": "training_step.py",
    "inference": "inference.py",
    "engine": "engine_rate.py",
}
# The sections that have a turn, and their share of the time after the preparation.
TURNS = {"training": 0.34, "inference": 0.36, "engine": 0.3}
PREPARATION = 0.54  # share of the budget


class Results:
    """The results so far, and their files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.values: dict[str, Any] = {"card": "no GPU", "date": time.strftime("%Y-%m-%d"), "sections": {}}

    def update(self, name: str, rows: list[dict[str, Any]], seconds: float, error: str | None) -> None:
        """Put the rows of a section in place, and write both files."""
        if name == "environment":
            self.values["card"] = next((row["card"] for row in rows if "card" in row), self.values["card"])
        self.values["sections"][name] = {"seconds": round(seconds, 1), "error": error, "rows": rows}
        (self._folder / "results.json").write_text(json.dumps(self.values, indent=1) + "\n")
        (self._folder / "results.md").write_text(markdown(self.values))


class Running:
    """A section that has been started."""

    def __init__(self, name: str, folder: Path, log: Path, seconds: float, smoke: bool) -> None:
        self.name, self._folder, self._log, self._start = name, folder / name, log, time.monotonic()
        self._folder.mkdir()
        (self._folder / ROWS).touch()
        paths = [ROOT / "src", ROOT / "tests" / "support", *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONUNBUFFERED": "1",
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"), "TRITON_CACHE_DIR": str(folder / "triton"),
        }  # fmt: skip
        command = [sys.executable, str(HERE / SCRIPTS[name]), "--folder", str(self._folder), "--seconds", str(seconds)]
        with log.open("w") as file:
            self._process = subprocess.Popen(
                command + ["--smoke"] * smoke, stdout=file, stderr=subprocess.STDOUT, env=environment,
                start_new_session=True,
            )  # fmt: skip

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def ready(self) -> bool:
        return self.ended or (self._folder / READY).exists()

    def give_turn(self, seconds: float) -> None:
        """Let it use the GPU alone, for so long."""
        part = self._folder / f".{TURN}"
        part.write_text(str(seconds))
        part.rename(self._folder / TURN)

    def close(self, results: Results) -> bool:
        """End it with all its processes, and store what it found; return whether it came to its end by itself."""
        code = self._process.poll()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # also processes that it left behind
        self._process.wait()
        error = None
        if code is None:
            error = "stopped at its limit"
        elif code:
            error = f"exit code {code}: " + self._log.read_text(errors="replace")[-2000:]
        self.store(results, error)
        seconds = time.monotonic() - self._start
        print(f"{self.name}: ended after {seconds:.0f} s{'' if error is None else ', NOT COMPLETE'}", flush=True)
        return error is None

    def store(self, results: Results, error: str | None = "still running") -> None:
        """Store the rows so far."""
        lines = (self._folder / ROWS).read_text().splitlines(keepends=True)
        rows = [json.loads(line) for line in lines if line.endswith("\n")]
        results.update(self.name, rows, time.monotonic() - self._start, error)


def measure(names: list[str], budget: float, smoke: bool, out: Path, scratch: Path) -> bool:
    """Run sections and store their results; return whether all came to their ends."""
    start, results, complete = time.monotonic(), Results(out), True
    prepared = start + budget * PREPARATION
    # A little less than the time until then, to start and to end processes.
    running = [Running(name, scratch, out / f"{name}.log", budget * PREPARATION - 5, smoke) for name in names]
    while time.monotonic() < prepared and not all(one.ready for one in running):
        time.sleep(0.5)
        for one in running:
            one.store(results)
    for one in [one for one in running if one.name not in TURNS]:
        complete &= one.close(results)
        running.remove(one)
    while running:
        one = running.pop(0)
        share = TURNS[one.name] / sum(TURNS[other.name] for other in [one, *running])
        until = time.monotonic() + (start + budget - time.monotonic()) * share
        one.give_turn(until - time.monotonic() - 2)
        while time.monotonic() < until and not one.ended:
            time.sleep(0.2)
        complete &= one.close(results)
    return complete


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--sections", default=",".join(SCRIPTS), metavar="A,B", help="default: %(default)s")
    parser.add_argument("--budget", type=float, default=300, metavar="SECONDS", help="for all; default: %(default)s")
    parser.add_argument("--smoke", action="store_true", help="a reduced form that runs without a GPU")
    given = parser.parse_args()
    names = given.sections.split(",")
    if unknown := set(names) - set(SCRIPTS):
        parser.error(f"there is no section {min(unknown)!r}; the sections are {', '.join(SCRIPTS)}")
    with tempfile.TemporaryDirectory() as scratch:
        complete = measure(names, given.budget, given.smoke, given.out, Path(scratch))
    print((given.out / "results.md").read_text())
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
