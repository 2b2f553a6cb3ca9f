"""benchmarks/gpu in its reduced form, on the CPU: every section runs to its end and writes what the page shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "gpu"


def test_the_reduced_form_runs_every_section(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--smoke", "--out", str(tmp_path), "--budget", "280"],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    sections = json.loads((tmp_path / "results.json").read_text())["sections"]
    assert [name for name, section in sections.items() if section["error"]] == [], done.stdout + done.stderr
    assert list(sections) == ["environment", "tests", "training", "inference", "engine"]
    assert [row["failed"] for row in sections["tests"]["rows"]] == [0]
    for name in ("training", "inference"):
        assert {row["library"] for row in sections[name]["rows"]} == {"compoundnet", "timm tf_"}
        assert all(row["images_per_second"] > 0 for row in sections[name]["rows"])
    assert sections["engine"]["rows"][-1]["waits_for"] in ("the loader", "the step")
    page = (tmp_path / "results.md").read_text()
    assert "| compoundnet | eager |" in page and "no GPU" in page
