"""`make bench` runs what runs without options."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_bench_leaves_out_what_requires_options() -> None:
    own = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "CIFAR")}
    done = subprocess.run(["make", "-n", "bench"], cwd=ROOT, env=own, capture_output=True, text=True, check=True)
    files = set(re.findall(r"benchmarks/bench_\w+\.py", done.stdout))
    assert {"benchmarks/bench_step.py", "benchmarks/bench_training.py"} <= files
    assert [name for name in files if "required=True" in (ROOT / name).read_text()] == []
