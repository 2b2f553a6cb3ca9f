"""Everything that this project measures on a GPU, in one command: `python benchmarks/gpu --out FOLDER`.

Each section is a process of its own with a time limit; one that fails or runs out of time leaves the rows that it
wrote, and the others go on. All prepare (compile) at the same time, while the tests run; then each has its turn to time
things, alone on the GPU. FOLDER/results.json holds all rows as they come, results.md the tables. Needs no network.
With --cifar10, the study of the paper's method comes last, in the time that remains; a later run with the same FOLDER
goes on with it.
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
    "study": "study.py",
}
# The sections that have a turn, and their share of the time after the preparation.
TURNS = {"training": 0.34, "inference": 0.36, "engine": 0.3, "study": 1.0}
PREPARATION = 0.54  # share of the budget


class Results:
    """The results so far, and their files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        self.values: dict[str, Any] = {"card": "no GPU", "date": time.strftime("%Y-%m-%d"), "sections": {}}

    def update(self, name: str, rows: list[dict[str, Any]], seconds: float, error: str | None) -> None:
        """Put the rows of a section in place, and write both files."""
        if name == "environment":
            self.values["card"] = next((row["card"] for row in rows if "card" in row), self.values["card"])
        self.values["sections"][name] = {"seconds": round(seconds, 1), "error": error, "rows": rows}
        (self.folder / "results.json").write_text(json.dumps(self.values, indent=1) + "\n")
        (self.folder / "results.md").write_text(markdown(self.values))


class Running:
    """A section that has been started."""

    def __init__(self, name: str, folder: Path, out: Path, seconds: float, options: list[str]) -> None:
        self.name, self._folder, self._log, self._start = name, folder / name, out / f"{name}.log", time.monotonic()
        self._folder.mkdir()
        (self._folder / ROWS).touch()
        paths = [ROOT / "src", ROOT / "tests" / "support", *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONUNBUFFERED": "1",
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"), "TRITON_CACHE_DIR": str(folder / "triton"),
        }  # fmt: skip
        command = [sys.executable, str(HERE / SCRIPTS[name]), "--folder", str(self._folder), "--seconds", str(seconds)]
        command += ["--out", str(out), *options]
        with self._log.open("w") as file:
            self._process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )

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


def measure(names: list[str], budget: float, options: list[str], results: Results, scratch: Path) -> bool:
    """Run sections with these options and store their results; return whether all came to their ends."""
    start, complete = time.monotonic(), True
    prepared = start + budget * PREPARATION
    # A little less than the time until then, to start and to end processes.
    running = [Running(name, scratch, results.folder, budget * PREPARATION - 5, options) for name in names]
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


def record(values: dict[str, Any], file: Path) -> None:
    """Write the tables to a section of the file, in place of an earlier one of the same card."""
    sys.path.append(str(ROOT / "tools"))
    from results import write_section  # type: ignore[import-not-found]  # tools/ is no package

    tables = "\n".join(f"#{line}" if line.startswith("## ") else line for line in markdown(values).splitlines()[2:])
    write_section(f"On a GPU: {values['card']}", f"`python benchmarks/gpu --record FILE`:\n\n{tables}", file)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--sections", metavar="A,B", help=f"default: all of {', '.join(SCRIPTS)}")
    parser.add_argument("--budget", type=float, default=300, metavar="SECONDS", help="for all; default: %(default)s")
    parser.add_argument("--smoke", action="store_true", help="a reduced form that runs without a GPU")
    parser.add_argument("--cifar10", type=Path, metavar="DATA", help="images of the study, a folder or a .zip file")
    parser.add_argument("--record", type=Path, metavar="FILE", help="rewrite this card's section of FILE (RESULTS.md)")
    given = parser.parse_args()
    names, with_study = list(SCRIPTS), given.smoke or given.cifar10 is not None
    if given.sections is not None:
        names = given.sections.split(",")
    elif not with_study:
        names.remove("study")
        print("study: left out, since it needs --cifar10 DATA", flush=True)
    if unknown := set(names) - set(SCRIPTS):
        parser.error(f"there is no section {min(unknown)!r}; the sections are {', '.join(SCRIPTS)}")
    if "study" in names and not with_study:
        parser.error("the section study needs --cifar10 DATA")
    if given.record is not None and "environment" not in names:
        parser.error("--record needs the section environment, which names the card")
    options = ["--smoke"] * given.smoke + (["--cifar10", str(given.cifar10.absolute())] if given.cifar10 else [])
    results = Results(given.out)
    with tempfile.TemporaryDirectory() as scratch:
        complete = measure(names, given.budget, options, results, Path(scratch))
    print((given.out / "results.md").read_text())
    if given.record is not None:
        record(results.values, given.record)
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
