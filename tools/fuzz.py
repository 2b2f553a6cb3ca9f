"""`python tools/fuzz.py [SECONDS]`: repeats tests/fuzz with new seeds, for an hour unless told otherwise.

Ends with exit code 1 at the first failure, whose seed it prints: `FUZZ_SEED=1 pytest tests/fuzz --hypothesis-seed=SEED`
repeats it. A case that was found belongs into a test of its own.
"""

from __future__ import annotations

import itertools
import os
import secrets
import subprocess
import sys
import time


def main() -> int:
    """Run it, and return the exit code."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3600.0
    until = time.monotonic() + seconds
    for turn in itertools.count(1):
        seed = secrets.randbelow(1 << 32)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "tests/fuzz", f"--hypothesis-seed={seed}"]
        done = subprocess.run(command, env={**os.environ, "FUZZ_SEED": "1"}, check=False)
        if done.returncode != 0:
            print(f"seed {seed} failed")
            return 1
        if time.monotonic() > until:
            print(f"{turn} turns, nothing found")
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
