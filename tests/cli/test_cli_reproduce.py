"""reproduce, as a process: what it prints and writes, its exit codes, and that tables never load torch."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from command import run


def test_a_table_is_printed_with_verdicts_and_reasons() -> None:
    done = run("reproduce", "table3")
    assert done.returncode == 0
    assert "MobileNetV1 by width (w=2)" in done.stdout
    assert "16.12B" in done.stdout and "differs (5)" in done.stdout
    assert "(5) The printed figures of depth and width look interchanged" in done.stdout
    assert "Verdicts: agrees 8, differs 6, needs data 14." in done.stdout


def test_json_is_one_document() -> None:
    document = json.loads(run("reproduce", "table2", "--json").stdout)
    assert document["name"] == "table2"
    gpipe = document["rows"][-1]
    assert (gpipe["label"], gpipe["network"], gpipe["resolution"]) == ("GPipe", "amoebanet-b", 480)
    assert gpipe["cells"]["params"] == {
        "printed": "557M",
        "measured": 557_277_864,
        "shown": "557.3M",
        "ratio": pytest.approx(557_277_864 / 557e6),
        "verdict": "agrees",
        "reason": "",
    }


def test_a_folder_gets_the_table_in_three_formats(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "report"
    done = run("reproduce", "table7", "-o", folder, "--json")
    assert done.returncode == 0
    assert sorted(file.name for file in folder.iterdir()) == ["table7.csv", "table7.json", "table7.md"]
    assert json.loads((folder / "table7.json").read_text()) == json.loads(done.stdout)
    assert "| compound (d=1.4, w=1.2, r=1.3) | 291 px | 1.8B | 1.80B |" in (folder / "table7.md").read_text()
    rows = list(csv.DictReader((folder / "table7.csv").read_text().splitlines()))
    assert [row["verdict"] for row in rows if row["figure"] == "top1"] == ["needs data"] * 5


def test_figures_go_to_the_folder_or_to_the_current_one(tmp_path: Path) -> None:
    done = run("reproduce", "figure2", "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout)["files"] == ["figure2.svg", "figure2.png"]
    there = run("reproduce", "figure5", "-o", tmp_path / "plots")
    assert there.stdout.startswith("Figure 5. FLOPs and ImageNet accuracy")
    assert f"wrote {tmp_path / 'plots' / 'figure5.svg'}" in there.stderr
    for file in ("figure2.svg", "figure2.png", "plots/figure5.svg", "plots/figure5.png"):
        assert (tmp_path / file).stat().st_size > 10_000


def test_results_fill_the_accuracies(tmp_path: Path) -> None:
    result = {"network": "efficientnet-b0", "dataset": "imagenet", "top1": 0.7713, "top5": 0.9331, "count": 50_000}
    (tmp_path / "b0.json").write_text(json.dumps(result))
    document = json.loads(run("reproduce", "table2", "--results", tmp_path, "--json").stdout)
    top1 = document["rows"][0]["cells"]["top1"]
    assert (top1["measured"], top1["verdict"]) == (0.7713, "agrees")


def test_mistakes_are_one_line_and_exit_1(tmp_path: Path) -> None:
    for arguments, expected in (
        (("tabel2",), "there is no reproduction named 'tabel2'; known: table1, table2"),
        (("table2", "--results", tmp_path), "holds no result file"),
        (("table2", "--results", tmp_path / "none"), "is not a folder"),
    ):
        done = run("reproduce", *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert expected in done.stderr and done.stderr.count("\n") == 1
    (tmp_path / "file").write_text("")
    blocked = run("reproduce", "table1", "-o", tmp_path / "file" / "folder")
    assert blocked.returncode == 1 and "cannot be written" in blocked.stderr


def test_a_study_s_claim_and_verdict_are_told(tmp_path: Path) -> None:
    done = run("reproduce", "figure8", "-o", tmp_path)
    assert done.returncode == 0
    assert "The paper: Compound scaling is up to 2.5 points more accurate" in done.stdout
    assert "Here: needs data. It takes trainings: compoundnet search study NETWORK DATA --figure 8" in done.stdout


@pytest.mark.slow  # times two networks on ONNX Runtime
def test_all_is_one_report_and_one_summary(tmp_path: Path) -> None:
    done = run("reproduce", "all", "--quick", "--json", "-o", tmp_path / "new" / "mine.html")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["report"] == str(tmp_path / "new" / "mine.html")
    assert document["failed"] == {} and document["skipped_by_quick"] == 3
    assert document["tables"]["agrees"] > 100
    assert (tmp_path / "new" / "mine.html").read_bytes().startswith(b"<!DOCTYPE html>")
    progress = [line for line in done.stderr.splitlines() if line.startswith(("table", "figure"))]
    assert len(progress) == 16  # beside the notes of what is compiled


def test_a_report_that_cannot_be_written_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("reproduce", "all", "-o", tmp_path / "file" / "report.html")
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot be written" in done.stderr and done.stderr.count("\n") == 1
