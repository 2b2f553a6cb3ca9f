"""`search show` and `search study` as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import run
from small_search import small_search
from small_train import class_folders, small_network
from told_study import told_study

from compoundnet.trials.measurement import TrainingJob


def accuracy(job: TrainingJob) -> float:
    return 0.5 + 0.01 * len(job.point) + 0.001 * job.seed


def test_show_prints_the_ranking_and_writes_the_report(tmp_path: Path) -> None:
    told_study(small_search(seeds=2), tmp_path / "study", accuracy).close()
    done = run("search", "show", tmp_path / "study", "-o", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    assert "10 of 10 trials are finished." in done.stdout
    assert "95 % confidence" in done.stdout
    assert (tmp_path / "report" / "report.md").exists()


def test_show_as_json_of_an_unfinished_search(tmp_path: Path) -> None:
    told_study(small_search(seeds=2), tmp_path / "study", accuracy, trials=3).close()
    done = run("search", "show", tmp_path / "study", "--json")
    found = json.loads(done.stdout)
    assert (found["kind"], found["trials"], found["finished"]) == ("coefficients", 10, 3)
    assert [entry["accuracy"] for entry in found["ranking"]] == sorted(
        (entry["accuracy"] for entry in found["ranking"]), reverse=True
    )


def test_a_folder_without_a_study_is_an_error(tmp_path: Path) -> None:
    done = run("search", "show", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no study here" in done.stderr


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("not a database" * 100)
    done = run("search", "show", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_a_storage_that_cannot_be_reached_is_an_error_without_its_password(tmp_path: Path) -> None:
    done = run("search", "show", "postgresql://me:secret@127.0.0.1:1/nowhere", "--study", "study")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "secret" not in done.stderr


@pytest.mark.slow
def test_a_study_runs_from_the_command_line_and_goes_on_when_called_again(tmp_path: Path) -> None:
    pictures = class_folders(tmp_path / "pictures", {"dark": 20, "light": 20})
    small_network().save(tmp_path / "small.toml")
    settings = ("--set", "steps=2", "--set", "batch=8", "--seeds", "1", "--yes")
    command = (
        "search",
        "study",
        tmp_path / "small.toml",
        pictures,
        "--figure",
        "8",
        *settings,
        "-o",
        tmp_path / "study",
    )
    first = run(*command)
    assert first.returncode == 0, first.stderr
    assert "Observation 2" in first.stdout
    again = run(*command)
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout
    shown = json.loads(run("search", "show", tmp_path / "study", "--json").stdout)
    assert shown["summary"]["title"].startswith("Figure 8")
    other = run(*command, "--set", "lr=0.01")
    assert other.returncode == 1
    assert "recipe.lr" in other.stderr


def test_a_figure_that_is_no_study_and_budgets_elsewhere_are_wrong_usage(tmp_path: Path) -> None:
    for arguments in (("--figure", "5"), ("--figure", "3", "--budgets", "2")):
        assert run("search", "study", "efficientnet-b0", "digits", *arguments, "-o", tmp_path / "s").returncode == 2


def test_a_study_of_figure_8_on_a_server_is_said_to_keep_no_models(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    url = "postgresql://me@127.0.0.1:1/nowhere"
    small_network().save(tmp_path / "small.toml")
    for figure, said in (("8", True), ("3", False)):
        done = run(
            "search", "study", tmp_path / "small.toml", "digits", "--figure", figure, "--storage", url, "-o",
            tmp_path / "s",
        )  # fmt: skip
        assert done.returncode == 1
        assert ("No trained network is kept as a model" in done.stderr.replace("\n", " ")) == said


def test_budgets_that_cannot_be_read_say_what_was_expected(tmp_path: Path) -> None:
    done = run(
        "search", "study", "efficientnet-b0", "digits", "--figure", "8", "--budgets", "2;4", "-o", tmp_path / "s"
    )
    assert done.returncode == 1
    assert "such as 2,4,8" in done.stderr
