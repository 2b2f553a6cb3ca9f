"""Figures 3, 4, 7 and 8: what the paper prints of them, one's own study, and what is said without one."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import pytest
from figure_study import figure_study
from PIL import Image

from compoundnet import arch, paper
from compoundnet.search.study.lines import FigureNumber, StudyLine, StudyLines, paper_lines, scaled

CLASSES = ("fir", "oak|beech")
STUDIED: dict[str, FigureNumber] = {"figure3": 3, "figure4": 4, "figure8": 8}


def figure(name: str, results: paper.Results | None = None) -> paper.Figure:
    made = paper.reproduce(name, results)
    assert isinstance(made, paper.Figure)
    return made


@functools.cache
def without_study(name: str) -> paper.Figure:
    return figure(name)


@pytest.mark.parametrize("name", ["figure3", "figure4"])
def test_costs_are_measured_and_accuracies_are_those_that_are_printed(name: str) -> None:
    points = figure(name).points
    base = arch.network("efficientnet-b0")
    for line in paper_lines(STUDIED[name]).lines:
        for depth, width, resolution in line.points:
            [point] = [
                one
                for one in points
                if (one["line"], one["depth"], one["width"], one["resolution"]) == (line.name, depth, width, resolution)
            ]
            assert point["macs"] == arch.cost(scaled(base, (depth, width, resolution))).macs
    # Table 7 prints 77.3, 79.0, 78.9, 79.1 and the compound row; nothing else may have an accuracy.
    known = {(one["depth"], one["width"], one["resolution"]): one["top1"] for one in points if one["top1"]}
    printed = {(1, 1, 1): 0.773, (4, 1, 1): 0.79, (1, 2, 1): 0.789, (1, 1, 2): 0.791}
    assert known.items() <= printed.items()
    assert len(known) == {"figure3": 4, "figure4": 2}[name]


def test_figure8_shows_table7_as_measured_and_as_printed() -> None:
    made = figure("figure8")
    table = paper.reproduce("table7")
    assert isinstance(table, paper.Table)
    assert [point["macs"] for point in made.points] == [row.cells["macs"].measured for row in table.rows]
    assert [point["printed_macs"] for point in made.points] == [0.4e9, 1.8e9, 1.8e9, 1.9e9, 1.8e9]
    assert [point["top1"] for point in made.points] == [0.773, 0.79, 0.789, 0.791, 0.811]


@pytest.mark.parametrize("name", ["figure3", "figure4", "figure7", "figure8"])
def test_without_a_study_the_claim_needs_data_and_says_which_command_makes_it(name: str) -> None:
    made = without_study(name)
    assert made.verdict == "needs data"
    assert f"--figure {STUDIED.get(name, 8)}" in made.reason
    assert made.claim


@pytest.mark.parametrize(
    "name", ["figure8", *(pytest.param(name, marks=pytest.mark.slow) for name in ("figure3", "figure4"))]
)
def test_a_study_is_drawn_and_judges_the_claim(name: str, tmp_path: Path) -> None:
    search = figure_study(tmp_path / "mine", STUDIED[name])
    made = figure(name, paper.read_results(tmp_path))
    assert made.verdict == "agrees"
    assert "digits, 3 seeds: It holds here." in made.reason
    own = [point for point in made.points if "measured in" in point]
    assert {point["line"] for point in own} == {line.name for line in search.lines.lines}
    assert all(0.5 < point["top1_low"] <= point["top1"] <= point["top1_high"] < 1 for point in own)
    alone = Image.open(io.BytesIO(without_study(name).png))
    assert Image.open(io.BytesIO(made.png)).height > alone.height


def test_a_study_that_contradicts_the_claim_says_so(tmp_path: Path) -> None:
    figure_study(tmp_path / "mine", 8, balanced=-0.1)
    made = figure("figure8", paper.read_results(tmp_path))
    assert made.verdict == "differs"
    assert "balanced is worse" in made.reason


@pytest.mark.slow
def test_a_study_of_too_few_networks_is_not_told_to_take_more_seeds() -> None:
    """The documented study: all networks of Figure 4 have three seeds, and the balanced line has one network."""
    documented = Path(__file__).resolve().parents[2] / "docs" / "studies" / "method-cifar10"
    made = figure("figure4", paper.read_results(documented))
    assert made.verdict == "needs data"
    assert made.reason.endswith(
        "Not tested: the lines (d=1, r=1) and (d=1.76, r=1.31) need two networks each, and a cost that both reach."
    )
    assert figure("figure3", paper.read_results(documented)).reason.endswith(
        "More seeds or more test images may decide it."
    )


def test_an_unfinished_study_is_named(tmp_path: Path) -> None:
    figure_study(tmp_path / "mine", 3, finished=False)
    made = figure("figure3", paper.read_results(tmp_path))
    assert made.verdict == "needs data"
    assert f"{tmp_path / 'mine'} is not finished" in made.reason


@pytest.mark.slow
def test_figure7_of_kept_models_has_a_column_each_and_no_verdict(tmp_path: Path) -> None:
    figure_study(tmp_path, 8, models=True)  # the folder itself is the study
    made = figure("figure7", paper.read_results(tmp_path))
    assert [point["way"] for point in made.points] == ["baseline", "width", "depth", "resolution", "compound"]
    assert made.verdict == "not printed"
    assert "by eye" in made.reason
    image = Image.open(io.BytesIO(made.png))
    assert image.width == 1600
    assert f'viewBox="0 0 1600 {image.height}"'.encode() in made.svg


def test_figure7_of_lines_that_share_networks(tmp_path: Path) -> None:
    """The baseline is on the first line, and both have another network in common."""
    baseline, both = (1.0, 1.0, 1.0), (2.0, 1.0, 1.0)
    lines = StudyLines("t", "s", (StudyLine("depth", (baseline, both)), StudyLine("rule", (both,), added=True)))
    figure_study(tmp_path, 8, lines=lines, models=True)
    made = figure("figure7", paper.read_results(tmp_path))
    assert [point["way"] for point in made.points] == ["baseline", "depth", "rule"]
    assert made.points[1]["model"] == made.points[2]["model"] != made.points[0]["model"]


def test_figure7_opens_the_data_that_a_study_was_begun_on_with_options(tmp_path: Path) -> None:
    """Of a list with a missing file, and cells that would be read as several labels."""
    rows = [
        f"{split}{number}.png,{label},{split}"
        for split in ("train", "test")
        for number, label in enumerate(CLASSES * 2)
    ]
    for row in rows:
        Image.new("RGB", (40, 40), "green").save(tmp_path / row.partition(",")[0])
    (tmp_path / "test1.png").unlink()
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split", *rows]))
    lines = StudyLines("t", "s", (StudyLine("depth", ((1.0, 1.0, 1.0), (2.0, 1.0, 1.0))),))
    figure_study(tmp_path / "study", 8, data=str(tmp_path / "list.csv"), labels=CLASSES, lines=lines, models=True)
    made = figure("figure7", paper.read_results(tmp_path))
    assert made.verdict == "not printed"
    assert "oak|beech" in made.description


def test_figure7_with_a_model_missing_is_empty_frames(tmp_path: Path) -> None:
    figure_study(tmp_path / "mine", 8)
    made = figure("figure7", paper.read_results(tmp_path))
    assert (made.verdict, made.points) == ("needs data", [])
    assert "holds no model of each way of scaling (with --storage none is kept)." in made.reason
