"""Reports of finished, unfinished and barely begun searches."""

from __future__ import annotations

import csv
from pathlib import Path

import msgspec
import pytest
from PIL import Image
from small_search import small_search
from small_train import small_network
from told_study import told_study

from compoundnet.arch import FoundCoefficients, cost, network
from compoundnet.base import CompoundNetError, decode_toml
from compoundnet.search.coefficients.findings import point_of, result, verdict
from compoundnet.search.coefficients.grid import describe
from compoundnet.search.network_plot import draw_network
from compoundnet.search.network_results import NetworkResult, front, network_results, ranking
from compoundnet.search.report import find, write_report
from compoundnet.trials.measurement import TrainingJob
from compoundnet.trials.statistics import AccuracySample


def entry(point: str, macs: int, *accuracies: float) -> NetworkResult:
    """An accuracy of 0 is that of a training that diverged."""
    reached = tuple(value for value in accuracies if value)
    return NetworkResult(
        point, 0, small_network(), (sum(accuracies) / len(accuracies),), AccuracySample(accuracies, 100),
        AccuracySample(reached, 100) if reached else None, macs, 1, len(accuracies), len(accuracies) - len(reached),
    )  # fmt: skip


def by_cost(job: TrainingJob) -> float:
    """Worse with every multiply-add, and a little by seed."""
    return 0.9 - cost(job.network).macs / 1e8 + 0.001 * job.seed


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    found = [
        entry("a", 100, 0.5),
        entry("b", 200, 0.4),
        entry("c", 300, 0.6),
        entry("d", 300, 0.55),
        entry("e", 50, 0.5),
    ]
    assert [one.point for one in front(found)] == ["e", "c"]


def test_a_network_that_diverged_is_not_on_the_front_however_cheap() -> None:
    assert [one.point for one in front([entry("a", 100, 0.0), entry("b", 200, 0.4)])] == ["b"]
    assert front([entry("a", 100, 0.0)]) == []


def test_a_partly_diverged_point_is_ranked_drawn_and_listed_alike(tmp_path: Path) -> None:
    """The cheapest point has 90 %, 90 % and a training that diverged, the others 85 % three times."""
    search = small_search(seeds=3)
    cheapest = min(search.points, key=lambda point: cost(point.network).macs)

    def partly(job: TrainingJob) -> float:
        return 0.85 if job.point != cheapest.label else -1.0 if job.seed == 2 else 0.9

    opened = told_study(search, tmp_path / "study", partly)
    found = find(opened)
    write_report(opened, tmp_path / "report")
    text = result(search, opened.counted())
    opened.close()
    last = found.ranking[-1]
    assert (last.point, last.diverged) == (cheapest.label, 1) and last.accuracy == pytest.approx(0.6)
    row = found.table.rows[-1]
    assert row[1] == cheapest.label and row[2].startswith("60.00%")
    assert last in front(found.ranking) and front(found.ranking)[-1] == found.ranking[0]
    note = f"1 of 3 trainings of {cheapest.label} diverged and counts with accuracy 0"
    assert found.notes == (note,) and found.document()["notes"] == [note]
    report = (tmp_path / "report" / "report.md").read_text()
    assert note in report
    best = found.ranking[0].point
    assert f"Best: {best}." in (tmp_path / "report" / "coefficients.svg").read_text()
    assert (
        decode_toml(text, FoundCoefficients, "result.toml").coefficients
        == point_of(search, found.ranking[0]).coefficients
    )
    rows = list(csv.DictReader((tmp_path / "report" / "ranking.csv").read_text().splitlines()))
    assert [(row["diverged"], row["accuracy"]) for row in rows][-1] == ("1", str(last.accuracy))


def test_of_equally_good_networks_the_cheaper_is_first() -> None:
    found = [entry("a", 300, 0.6), entry("b", 200, 0.6), entry("c", 1, 0.5)]
    assert [one.point for one in ranking(found)] == ["b", "a", "c"]


def test_seeds_of_a_network_are_one_entry(tmp_path: Path) -> None:
    search = small_search(seeds=3)
    opened = told_study(search, tmp_path, by_cost)
    found = network_results(opened.counted())
    opened.close()
    assert len(found) == len(search.points)
    assert {one.seeds for one in found} == {3}


def test_a_finished_search_is_told_in_full(tmp_path: Path) -> None:
    search = small_search(seeds=2)
    opened = told_study(search, tmp_path / "study", by_cost)
    write_report(opened, tmp_path / "report")
    said = verdict(search, opened.counted())
    opened.close()
    names = {file.name for file in (tmp_path / "report").iterdir()}
    pictures = {f"{name}.{kind}" for name in ("cost", "progress", "coefficients", "network") for kind in ("svg", "png")}
    assert names == pictures | {"report.md", "ranking.csv"}
    rows = list(csv.DictReader((tmp_path / "report" / "ranking.csv").read_text().splitlines()))
    assert [int(row["macs"]) for row in rows] == sorted(int(row["macs"]) for row in rows)
    text = (tmp_path / "report" / "report.md").read_text()
    assert said in text
    assert all(f"({name}.png)" in text for name in ("cost", "progress", "coefficients", "network"))
    with Image.open(tmp_path / "report" / "coefficients.png") as picture:
        assert picture.width == 1600


def test_points_that_round_to_one_network_are_named_in_the_report(tmp_path: Path) -> None:
    search = msgspec.structs.replace(small_search(), grid="1.0:1.4:0.1", tolerance="0.2")
    merged = [point for point in search.points if point.merged]
    assert merged
    opened = told_study(search, tmp_path / "study", by_cost, trials=1)
    write_report(opened, tmp_path / "report")
    opened.close()
    text = (tmp_path / "report" / "report.md").read_text()
    for point in merged:
        assert f"- {point.label} represents " in text
        assert all(describe(other) in text for other in point.merged)


@pytest.mark.parametrize("trials", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_an_unfinished_search_says_how_far_it_is(tmp_path: Path, trials: int) -> None:
    search = small_search(seeds=2)
    opened = told_study(search, tmp_path / "study", by_cost, trials=trials)
    write_report(opened, tmp_path / "report")
    opened.close()
    assert f"{trials} of {search.trials()} trials are finished" in (tmp_path / "report" / "report.md").read_text()


def test_a_search_without_a_finished_trial_has_no_pictures(tmp_path: Path) -> None:
    opened = told_study(small_search(), tmp_path / "study", by_cost, trials=0)
    write_report(opened, tmp_path / "report")
    opened.close()
    assert {file.name for file in (tmp_path / "report").iterdir()} == {"report.md", "ranking.csv"}


def test_pruned_trials_are_counted_and_not_ranked(tmp_path: Path) -> None:
    opened = told_study(small_search(), tmp_path, by_cost, trials=4, pruned=2)
    found = find(opened)
    opened.close()
    assert (found.finished, found.pruned, len(found.ranking)) == (4, 2, 2)


def test_a_search_all_of_whose_trainings_diverged_is_told(tmp_path: Path) -> None:
    opened = told_study(small_search(), tmp_path / "study", lambda job: -1.0)
    write_report(opened, tmp_path / "report")
    opened.close()
    assert "diverged" in (tmp_path / "report" / "report.md").read_text()
    assert "The Pareto front is empty" in (tmp_path / "report" / "cost.svg").read_text()


def test_a_report_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    opened = told_study(small_search(), tmp_path / "study", by_cost)
    with pytest.raises(CompoundNetError, match="cannot be written"):
        write_report(opened, tmp_path / "file" / "report")
    opened.close()


def test_a_network_is_drawn_with_all_its_stages() -> None:
    svg, _ = draw_network(network("efficientnet-b0"), "The baseline")
    text = svg.decode()
    assert "MBConv6, k5x5" in text
    assert "Conv1x1 &amp; Pooling &amp; FC" in text
