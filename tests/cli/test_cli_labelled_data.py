"""Commands that measure or train on labelled images: they read a list as the model does, and have the options that the
messages about data name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import run
from deep_images import write_deep
from PIL import Image
from small_model import write_small_model
from small_search import small_search
from small_train import small_network
from typer.main import get_command

from compoundnet import models, train, trials
from compoundnet.base import CompoundNetError
from compoundnet.cli.main import app
from compoundnet.data import open_dataset
from compoundnet.runtime.exports.accuracy_floor import LabelledImages
from compoundnet.trials.measurement import data_identity
from compoundnet.trials.studies import create_study

CLASSES = ("cat,dog", "cat,fox", "dog,fox")
# Of one class, though its cells look like several labels each.
ROWS = [(f"{number}.png", CLASSES[number % 3], "test" if number % 4 else "train") for number in range(40)]
READING = {"--download", "--allow-missing", "--several-labels", "--one-class"}


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """40 images and a list of them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name, _, _ in ROWS:
        Image.fromarray(random.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(folder / name)
    lines = ["path;label;split", *(";".join(row) for row in ROWS)]
    (folder / "list.csv").write_text("\n".join(lines))
    return folder / "list.csv"


@pytest.fixture
def one_class(tmp_path: Path) -> models.ModelFolder:
    return write_small_model(tmp_path / "model", labels=CLASSES)


def with_a_missing_row(listed: Path) -> Path:
    listed.write_text(f"{listed.read_text()}\nmissing.png;cat,dog;test\n")
    return listed


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("train", {"--allow-truncated"}),
        ("evaluate", {"--allow-truncated", "--range"}),
        ("data check", {"--allow-truncated", "--range"}),
        ("data shard", set()),
        ("models tune", {"--allow-truncated", "--range"}),
        ("export", {"--allow-truncated", "--range"}),
        ("search architecture", {"--allow-truncated"}),
        ("search coefficients", {"--allow-truncated"}),
        ("search study", {"--allow-truncated"}),
        ("search worker", set()),
        ("fit", set()),
    ],
)
def test_commands_have_the_options_that_messages_about_data_name(name: str, more: set[str]) -> None:
    command: Any = get_command(app)
    for part in name.split():
        command = command.commands[part]
    parameters = command.params
    known = {spelling for one in parameters for spelling in (*one.opts, *one.secondary_opts)}
    assert READING | more <= known


def test_a_list_is_read_as_the_model_predicts(listed: Path, one_class: models.ModelFolder, tmp_path: Path) -> None:
    assert open_dataset(listed).multilabel
    assert len(LabelledImages(listed, one_class)) == 30
    assert train.tune(one_class, listed, threads=1).tuning.images == 30
    assert train.evaluate(one_class, str(listed), threads=1).result.count == 30
    assert run("evaluate", one_class.folder, listed, "--threads", "1").returncode == 0
    several = models.Postprocess(function="sigmoid")
    tags = write_small_model(tmp_path / "tags", labels=("cat", "dog", "fox"), postprocess=several)
    listed.write_text(listed.read_text().replace("cat,dog", "cat").replace("cat,fox", "fox").replace("dog,fox", "dog"))
    assert not open_dataset(listed).multilabel
    assert train.tune(tags, listed, threads=1).tuning.images == 30
    assert train.evaluate(tags, str(listed), threads=1).split.multilabel


def test_tune_takes_what_its_messages_name(listed: Path, one_class: models.ModelFolder) -> None:
    with_a_missing_row(listed)
    refused = run("models", "tune", one_class.folder, listed)
    assert refused.returncode == 1 and "leave these rows out with --allow-missing" in refused.stderr
    options = ("--allow-missing", "--allow-truncated", "--range", "0:255", "--threads", "1")
    done = run("models", "tune", one_class.folder, listed, *options)
    assert done.returncode == 0, done.stderr
    assert "1 of 41 images that the list names do not exist" in done.stderr


@pytest.mark.slow
def test_export_takes_what_its_messages_name(listed: Path, one_class: models.ModelFolder, tmp_path: Path) -> None:
    with_a_missing_row(listed)
    int8 = ("--precision", "int8", "--calibrate", listed.parent, "--max-drop", "90%", "--data", listed)
    command = ("export", one_class.folder, "-o", tmp_path / "a.onnx", *int8)
    refused = run(*command)
    assert refused.returncode == 1 and "leave these rows out with --allow-missing" in refused.stderr
    done = run(*command, "--allow-missing", "--one-class")
    assert done.returncode == 0, done.stderr
    assert "accuracy on 30 labelled images" in done.stdout
    alone = run("export", one_class.folder, "-o", tmp_path / "b.onnx", "--allow-missing")
    assert alone.returncode == 2 and "give it with --data" in alone.stderr


@pytest.mark.slow
def test_truncated_images_are_taken_if_the_user_says_so(
    listed: Path, one_class: models.ModelFolder, tmp_path: Path
) -> None:
    jpeg = listed.parent / "1.png"
    Image.open(jpeg).convert("RGB").save(tmp_path / "whole.jpg")
    jpeg.write_bytes((tmp_path / "whole.jpg").read_bytes()[:-40])
    refused = run("models", "tune", one_class.folder, listed, "--threads", "1")
    assert refused.returncode == 1 and "truncated ones with --allow-truncated" in refused.stderr
    done = run("models", "tune", one_class.folder, listed, "--threads", "1", "--allow-truncated")
    assert done.returncode == 0, done.stderr


def test_a_search_takes_what_its_messages_name(listed: Path, tmp_path: Path) -> None:
    with_a_missing_row(listed)
    small_network().save(tmp_path / "small.toml")
    command = ("search", "coefficients", tmp_path / "small.toml", listed, "-o", tmp_path / "study")
    assert "leave these rows out with --allow-missing" in run(*command).stderr
    assert "several labels" in run(*command, "--allow-missing").stderr
    done = run(*command, "--allow-missing", "--one-class", "--allow-truncated")
    assert done.returncode == 2 and "not started" in done.stderr, done.stderr


def test_a_worker_reads_the_data_as_the_study_does(
    listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(listed, labels="one")
    create_study(small_search(str(listed)), data_identity(dataset), tmp_path / "study").close()
    judged: list[Any] = []

    def work(opened: object, judge: object, **_: object) -> int:
        judged.append(judge)
        return 0

    monkeypatch.setattr(trials, "work", work)
    command = ["search", "worker", "--storage", str(tmp_path / "study")]
    with pytest.raises(CompoundNetError, match="holds other images here"):
        app(command, standalone_mode=False)
    app([*command, "--one-class"], standalone_mode=False)
    assert len(judged) == 1


def test_data_check_sets_the_range_that_it_would_guess(tmp_path: Path) -> None:
    deep = write_deep(tmp_path / "deep")
    guessed = run("data", "check", deep)
    assert "--range LOW:HIGH sets another" in guessed.stderr
    given = run("data", "check", deep, "--range", "0:65535")
    assert given.returncode == 0, given.stderr
    assert "is assumed" not in given.stderr


def test_tune_says_which_serve_runs_what_it_found() -> None:
    """The local page stays in float32; the HTTP service runs what was tuned."""
    help_text = get_command(app).commands["models"].commands["tune"].help  # type: ignore[attr-defined]
    assert "evaluate and serve --api" in help_text
