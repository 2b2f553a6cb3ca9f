"""benchmarks/gpu in its reduced form, on the CPU: every section runs to its end and writes what the page shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "gpu"


def test_the_reduced_form_runs_every_section(tmp_path: Path) -> None:
    record = tmp_path / "RESULTS.md"
    record.write_text("# Results\n\n## On a GPU: no GPU\n\nOld.\n\n## Fuzzing\n\nKept.\n")
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--smoke", "--out", str(tmp_path), "--budget", "280", "--record", str(record)],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    sections = json.loads((tmp_path / "results.json").read_text())["sections"]
    assert [name for name, section in sections.items() if section["error"]] == [], done.stdout + done.stderr
    assert list(sections) == ["environment", "tests", "training", "inference", "engine", "study"]
    assert [row["failed"] for row in sections["tests"]["rows"]] == [0]
    for name in ("training", "inference"):
        assert {row["library"] for row in sections[name]["rows"]} == {"compoundnet", "timm tf_"}
        assert all(row["images_per_second"] > 0 for row in sections[name]["rows"])
    assert sections["engine"]["rows"][-1]["waits_for"] in ("the loader", "the step")
    assert sections["study"]["rows"][0]["trainings"] == 2
    assert len((tmp_path / "study" / "trainings.jsonl").read_text().splitlines()) == 2
    page = (tmp_path / "results.md").read_text()
    assert "| compoundnet | eager |" in page and "no GPU" in page
    recorded = record.read_text()
    assert "Kept." in recorded and "Old." not in recorded
    assert recorded.count("## On a GPU: no GPU\n") == 1 and "\n### training\n" in recorded


def test_the_study_needs_images(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARK), "--out", str(tmp_path), "--sections", "study"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "the section study needs --cifar10 DATA" in done.stderr
    assert not list(tmp_path.iterdir())
