"""The paper's method on CIFAR-10 (studies/method_cifar10), as far as it comes in the time that remains.

The finished trainings stay in OUT/study, and the next run with the same OUT goes on with them.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from section import parse

ROOT = Path(__file__).parents[2]


def main() -> None:
    section = parse(__doc__)
    folder = section.out / "study"
    until, start, before = section.turn(), time.monotonic(), _finished(folder)
    left = until - start
    reduced = ["--smoke", "--stages", "tune"]
    whole = [str(section.cifar10), "--seconds", str(left)]
    command = [sys.executable, "-m", "studies.method_cifar10", "-o", str(folder)]
    command += reduced if section.smoke else whole
    stopped = ""
    try:
        subprocess.run(command, cwd=ROOT, timeout=left, check=True)
    except subprocess.TimeoutExpired:
        stopped = "at the end of its turn, in the middle of trainings"
    finished = _finished(folder)
    section.row(trainings=finished - before, seconds=round(time.monotonic() - start, 1), finished=finished)
    if stopped:
        section.row(stopped=stopped)
    if (folder / "step1.md").exists():
        section.row(step1=(folder / "step1.md").read_text().partition("\n")[0])


def _finished(folder: Path) -> int:
    file = folder / "trainings.jsonl"
    return file.read_text().count("\n") if file.exists() else 0


if __name__ == "__main__":
    main()
