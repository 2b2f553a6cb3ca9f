"""`python tools/hostile.py [--only PART]`: hostile files and odd machines that once ran code, took gigabytes or hung.

Each is given to the command line in a process of its own, whose time, memory and last line are written down beside what
happened before it was mended. Writes a section of benchmarks/RESULTS.md. Exit code 1 if code of a file ran, a command
ended with a traceback or with another exit code than the right one, or what had no bound took over 10 s or 1 GB.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil
from hostile_cases import CASES, Case
from results import write_section

SECONDS, BYTES, PATIENCE = 10.0, 1e9, 60


class Outcome(NamedTuple):
    """What came of it: exit code, seconds, bytes at the peak, the line that says it, and what must not happen."""

    code: int
    seconds: float
    peak: int
    said: str
    traceback: bool
    ran: bool


def main() -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a part of what the cases are")
    only = parser.parse_args().only
    rows, wrong = ["| what | before | today | time | memory |", "|---|---|---|---|---|"], 0
    for case in CASES:
        if only not in case.what:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = outcome(case, Path(folder))
        right = found.code == case.code and not found.ran and not found.traceback
        right &= not case.unbounded or (found.seconds <= SECONDS and found.peak <= BYTES)
        wrong += not right
        says = found.said.replace("|", "\\|")
        today = f"exit code {found.code}: {says}" if says else f"exit code {found.code}"
        row = f"| {case.what} | {case.before} | {today} | {found.seconds:.1f} s | {found.peak / 1e6:,.0f} MB |"
        print(row if right else f"WRONG: {row} {found}", flush=True)
        rows.append(row)
    if not only:
        text = "\n".join(rows)
        about = f"`make hostile`: each in a process of its own, whose imports count too. {wrong} of them were wrong."
        write_section("Hostile files and odd machines", f"{about}\n\n{text}")
    return 1 if wrong else 0


def outcome(case: Case, folder: Path) -> Outcome:
    """Run the command in a folder."""
    case.make(folder)
    python = ["-c", case.words[1]] if case.words[0] == "-c" else ["-m", "compoundnet", *case.words]
    script = f'{case.setup[0]} "$0" "$@" {case.setup[1]}'
    whole = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200", **case.environment}
    out, err, peak, begun = Path(f"{folder}.out"), Path(f"{folder}.err"), 0, time.monotonic()
    with out.open("wb") as told, err.open("wb") as wrong:
        process = subprocess.Popen(
            ["bash", "-c", script, sys.executable, *python],
            cwd=folder, env=whole, stdout=told, stderr=wrong, start_new_session=True,
        )  # fmt: skip
        while process.poll() is None:
            peak = max(peak, _peak(process.pid))
            time.sleep(0.01)
            if time.monotonic() - begun > PATIENCE:
                os.killpg(process.pid, signal.SIGKILL)
    seconds = time.monotonic() - begun
    printed, errors = (file.read_text(encoding="utf-8", errors="replace") for file in (out, err))
    out.unlink()
    err.unlink()
    lines = (errors or printed).strip().splitlines() or [""]
    last = next((line for line in lines if case.line in line), "")
    said = " ".join(last.replace(f"{folder.resolve()}/", "").split())
    code_ran = (folder / "code-ran").exists()
    return Outcome(process.returncode, seconds, peak, said, "Traceback" in errors, code_ran)


def _peak(number: int) -> int:
    """The most memory that a process or one of its children has had so far, in bytes: Linux counts it since exec."""
    try:
        whole = psutil.Process(number)
        every = [whole, *whole.children(recursive=True)]
    except psutil.Error:
        return 0
    found = [0]
    for process in every:
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
            found.append(int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) << 10)
    return max(found)


if __name__ == "__main__":
    sys.exit(main())
