"""Result files: what is read, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from figure_study import figure_study

from compoundnet.base import CompoundNetError
from compoundnet.paper import read_results
from compoundnet.paper.study_panels import judge
from compoundnet.train.results import Result

GOOD: dict[str, Any] = {"network": "resnet-50", "dataset": "imagenet", "top1": 0.76, "top5": 0.93, "count": 50_000}


def write(folder: Path, name: str, document: object) -> None:
    (folder / name).write_text(json.dumps(document))


def test_results_are_read_oldest_first_and_other_files_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path, "b.json", GOOD | {"measured_at": "2026-02-01T00:00:00", "top1": 0.77, "per_class": [1, 2]})
    write(tmp_path, "a.json", GOOD | {"measured_at": "2026-03-01T00:00:00"})
    write(tmp_path, "table2.json", {"name": "table2"})
    (tmp_path / "notes.txt").write_text("not a result")
    found = read_results(tmp_path)
    assert [result.top1 for result in found.evaluations] == [0.77, 0.76]
    latest = found.find("resnet-50", "imagenet", 50_000)
    assert latest is not None
    assert latest.measured_at.startswith("2026-03")
    assert found.find("resnet-50", "food-101", 50_000) is None


def test_a_later_result_on_fewer_images_hides_none_on_all(tmp_path: Path) -> None:
    write(tmp_path, "whole.json", GOOD | {"measured_at": "2026-02-01T00:00:00"})
    write(tmp_path, "part.json", GOOD | {"measured_at": "2026-03-01T00:00:00", "count": 500})
    write(tmp_path, "less.json", GOOD | {"measured_at": "2026-01-01T00:00:00", "count": 400})
    found = read_results(tmp_path)
    counts = {
        images: result.count
        for images in (50_000, 400, 10)
        if (result := found.find("resnet-50", "imagenet", images)) is not None
    }
    assert counts == {50_000: 50_000, 400: 400, 10: 500}


@pytest.mark.slow
def test_model_folders_and_studies_in_the_folder_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    write(tmp_path / "model", "result.json", GOOD)
    write(tmp_path / "model", "other.json", GOOD)  # only result.json is a model folder's
    figure_study(tmp_path / "study", 3)
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "search.toml").write_text('kind = "coefficients"\n')
    found = read_results(tmp_path)
    assert [result.network for result in found.evaluations] == ["resnet-50"]
    assert [study.folder.name for study in found.of_figure(3)] == ["study"]
    assert found.of_figure(8) == ()
    assert read_results(tmp_path / "study").of_figure(3)[0].study == found.of_figure(3)[0].study


def test_a_study_of_several_figures_is_read_from_the_folder_above_it() -> None:
    studies = Path(__file__).resolve().parents[2] / "docs" / "studies"
    found = read_results(studies).of_figure(8)
    assert [study.folder.relative_to(studies).as_posix() for study in found] == [
        "figure8-cifar10", "method-cifar10/figure8"
    ]  # fmt: skip
    verdict, reason = judge(8, found)
    assert (verdict, reason.partition(",")[0]) == ("needs data", "Of small-images on cifar10")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top1": 76.0}, "top1 is a fraction from 0 to 1, got 76.0"),
        ({"top5": -0.1}, "top5 is a fraction"),
        ({"count": 0}, "count must be at least 1"),
        ({"count": "many"}, r"count"),
        ({"network": None}, r"network"),
    ],
)
def test_a_broken_result_is_refused_by_file_and_field(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write(tmp_path, "bad.json", GOOD | change)
    with pytest.raises(CompoundNetError, match=rf"bad\.json.*{message}"):
        read_results(tmp_path)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    write(tmp_path, "bad.json", {"top1": 0.5})
    with pytest.raises(CompoundNetError, match="missing required field `network`"):
        read_results(tmp_path)


def test_broken_json_empty_and_missing_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match="holds no result file"):
        read_results(tmp_path)
    with pytest.raises(CompoundNetError, match="is not a folder"):
        read_results(tmp_path / "nowhere")
    (tmp_path / "cut.json").write_text('{"top1": 0.')
    with pytest.raises(CompoundNetError, match=r"cut\.json: not JSON"):
        read_results(tmp_path)


def test_a_result_needs_only_four_fields() -> None:
    assert Result("resnet-50", "imagenet", 0.76, 50_000).top5 is None
