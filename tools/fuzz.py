"""`python tools/fuzz.py [SECONDS]`: repeats tests/fuzz with new seeds, for an hour unless told otherwise.

build/fuzz.json counts the seconds, so that a run which was interrupted goes on. Writes a section of
benchmarks/RESULTS.md. Ends with exit code 1 at the first failure, whose seed it prints:
`FUZZ_SEED=1 pytest tests/fuzz --hypothesis-seed=SEED` repeats it. A case that was found belongs into a test of its own.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

from results import write_section

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Run it, and return the exit code."""
    wanted = float(sys.argv[1]) if len(sys.argv) > 1 else 3600.0
    log = ROOT / "build" / "fuzz.json"
    log.parent.mkdir(exist_ok=True)
    turns, seconds = json.loads(log.read_text(encoding="utf-8")) if log.exists() else (0, 0.0)
    if seconds >= wanted:
        turns, seconds = 0, 0.0
    while seconds < wanted:
        seed, begun = secrets.randbelow(1 << 32), time.monotonic()
        command = [sys.executable, "-m", "pytest", "-q", "-x", "tests/fuzz", f"--hypothesis-seed={seed}"]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "FUZZ_SEED": "1"}, check=False)
        if done.returncode != 0:
            print(f"seed {seed} failed")
            return 1
        turns, seconds = turns + 1, seconds + time.monotonic() - begun
        log.write_text(json.dumps([turns, seconds]), encoding="utf-8")
    text = f"`make fuzz`: {turns} turns of tests/fuzz with new seeds in {seconds / 60:.0f} minutes; nothing was found."
    print(text)
    write_section("Fuzzing", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
