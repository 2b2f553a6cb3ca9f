"""Running the command line as a person does: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run(*arguments: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """`compoundnet ARGUMENTS`, with warnings as errors and plain text of a fixed width."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "compoundnet", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb", **environment},
        timeout=300,
        check=False,
    )
