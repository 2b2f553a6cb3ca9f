"""`search coefficients` and `search worker` as a person runs them; `scale --coefficients` after them."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from command import run
from interruptible import interruptible
from small_search import small_search
from small_train import class_folders, small_network

from compoundnet.arch import FoundCoefficients
from compoundnet.base import CompoundNetError, read_toml
from compoundnet.cli.main import app
from compoundnet.cli.search_start import lasting, search_recipe
from compoundnet.data import open_dataset
from compoundnet.train import find_recipe
from compoundnet.trials import create_study
from compoundnet.trials.measurement import data_identity
from compoundnet.trials.positions import Presence, prepare_next

KEEPS = "THP_MEM_ALLOC_ENABLE"
SMALL = ("--grid", "1.0:1.4:0.2", "--set", "epochs=1", "--set", "batch=8")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A network file, and pictures."""
    small_network().save(tmp_path / "small.toml")
    return tmp_path / "small.toml", class_folders(tmp_path / "pictures", {"dark": 20, "grey": 20, "light": 20})


@pytest.mark.slow
def test_from_a_grid_to_a_scaled_network(files: tuple[Path, Path], tmp_path: Path) -> None:
    """Two workers find the coefficients, the same command only shows them again, STEP 2 scales by them."""
    study = tmp_path / "study"
    command = ("search", "coefficients", *files, *SMALL, "--workers", "2", "-o", study)
    first = run(*command, "--yes")
    assert first.returncode == 0, first.stderr
    assert "5 trials of 5 networks" in first.stderr and "multiply-adds of training, about" in first.stderr
    assert first.stderr.count(" of 5: ") == 5
    found = read_toml(study / "result.toml", FoundCoefficients)
    assert abs(found.coefficients.growth - 2) <= 0.1
    assert found.network is not None and found.network.num_classes == 3
    again = run(*command)
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout
    assert " of 5: " not in again.stderr

    scaled = run("scale", "--coefficients", study / "result.toml", "--phi", "2", "-o", tmp_path / "scaled.toml")
    assert scaled.returncode == 0, scaled.stderr
    assert "small-phi2" in (tmp_path / "scaled.toml").read_text()

    other = run(*command, "--phi", "2", "--yes")
    assert other.returncode == 1
    assert "holds another search: phi is 1.0 there and 2.0 here" in other.stderr

    worker = run("search", "worker", COMPOUNDNET_STORAGE=str(study))
    assert worker.returncode == 0 and "0 trials finished by this worker; none is left" in worker.stderr


def test_nothing_starts_unconfirmed(files: tuple[Path, Path], tmp_path: Path) -> None:
    done = run("search", "coefficients", *files, *SMALL, "-o", tmp_path / "study")
    assert done.returncode == 2
    assert "multiply-adds of training" in done.stderr and "--yes" in done.stderr
    assert not (tmp_path / "study").exists()


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs Unix")
def test_nothing_starts_after_a_no(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    person, terminal = os.openpty()
    with os.fdopen(person, "wb", buffering=0) as keyboard, os.fdopen(terminal) as stdin:
        keyboard.write(b"n\n")
        monkeypatch.setattr("sys.stdin", stdin)
        arguments = ["search", "coefficients", *files, *SMALL, "-o", tmp_path / "study"]
        code = app(list(map(str, arguments)), prog_name="compoundnet", standalone_mode=False)
    assert (code, (tmp_path / "study").exists()) == (2, False)
    assert capsys.readouterr().err.endswith("not started\n")


def test_a_grid_without_a_point_names_the_nearest(files: tuple[Path, Path]) -> None:
    done = run("search", "coefficients", *files, "--grid", "1.0:1.1:0.1")
    assert done.returncode == 1
    assert "the nearest is alpha 1.1, beta 1.1, gamma 1.1" in done.stderr


@pytest.mark.parametrize("setting", ["resolution=64", "train_resolution=32", "progressive.resolution=[32,64]"])
def test_a_resolution_for_all_networks_is_refused(files: tuple[Path, Path], setting: str) -> None:
    done = run("search", "coefficients", *files, "--set", setting, "--yes")
    assert (done.returncode, done.stdout) == (1, "")
    assert "each network at its own resolution: leave out resolution" in " ".join(done.stderr.split())


def test_the_resolution_of_the_recipe_itself_is_refused_too_and_that_of_a_file_is_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("proxy", "quick"):
        with pytest.raises(CompoundNetError, match="leave out resolution"):
            search_recipe(name, [f"resolution={find_recipe(name).resolution}"], allow_truncated=False)
        search_recipe(name, ["epochs=1"], allow_truncated=False)
    assert capsys.readouterr().err == ""
    own = tmp_path / "own.toml"
    own.write_text(find_recipe("proxy").replace(resolution=64).dumps())
    search_recipe(str(own), None, allow_truncated=False)
    assert capsys.readouterr().err == f"resolution = 64 of {own} is not used: a search trains each network at its own\n"
    own.write_text(find_recipe("proxy").replace(resolution=None).dumps())
    search_recipe(str(own), None, allow_truncated=False)
    assert capsys.readouterr().err == ""


def test_data_are_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    assert lasting("images") == str(tmp_path / "images")
    assert lasting("cifar10:data") == f"cifar10:{tmp_path / 'data'}"
    assert lasting("CIFAR10:~/data") == f"CIFAR10:{Path('~/data').expanduser()}"
    assert [lasting(name) for name in ("cifar10", "digits", "cifar10:")] == ["cifar10", "digits", "cifar10:"]


@pytest.mark.parametrize(
    ("stop", "joins", "said"),
    [
        (signal.SIGINT, False, "stopped; the same command continues"),
        (signal.SIGTERM, True, "stopped; another worker runs the trial again"),
    ],
)
def test_a_worker_that_is_stopped_while_it_waits_for_others_says_how_to_go_on(
    files: tuple[Path, Path], tmp_path: Path, stop: signal.Signals, joins: bool, said: str
) -> None:
    """All trials are those of another worker, this process."""
    settings, folder = small_search(str(files[1])), tmp_path / "study"
    opened = create_study(settings, data_identity(open_dataset(files[1])), folder)
    starting = (
        "coefficients", *map(str, files), "--grid", "1.0:1.4:0.2", "--recipe", "quick", "--set", "epochs=2",
        "--set", "batch=8", "-o", str(folder),
    )  # fmt: skip
    with Presence(opened.database) as presence:
        for _ in range(settings.trials()):
            assert prepare_next(opened.database, opened.study, settings.trials(), settings.params()) == "waiting"
            presence.mark(opened.study.ask())
        joining = ("worker", "--storage", str(folder))
        command = interruptible("search", *(joining if joins else starting))
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            while len(list((folder / "workers").iterdir())) < 2:  # it waits from the moment of its own presence on
                assert process.poll() is None
            process.send_signal(stop)
            assert process.stderr is not None
            assert process.stderr.read().endswith(f"{said}\n")
    assert process.returncode == 3
    opened.close()


@pytest.mark.parametrize("command", ["coefficients", "worker"])
def test_what_trains_keeps_freed_memory(
    command: str, files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/laboratory.md: whether glibc was told shows in the variable for torch that is set with it."""
    monkeypatch.setenv(KEEPS, "")
    monkeypatch.delenv(KEEPS)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "note.txt").write_text("not a study")
    place = {"coefficients": [*files, "-o", tmp_path / "study"], "worker": ["--storage", tmp_path / "study"]}[command]
    with pytest.raises(CompoundNetError, match="no study"):
        app(["search", command, *map(str, place)], prog_name="compoundnet", standalone_mode=False)
    assert os.environ[KEEPS] == "1"


def test_a_server_that_is_away_is_said_before_anything_starts(files: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    url = "postgresql://me:hush@127.0.0.1:1/db"
    done = run("search", "coefficients", *files, *SMALL, "--yes", "-o", tmp_path / "study", COMPOUNDNET_STORAGE=url)
    assert done.returncode == 1
    assert "refused" in done.stderr and "hush" not in done.stderr
    assert "COMPOUNDNET_STORAGE" not in os.environ


def test_coefficients_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("alpha = 1.2\nbeta = 1.1\ngamma = 1.15\n")
    done = run("scale", "efficientnet-b0", "--coefficients", tmp_path / "own.toml", "--phi", "1", "--json")
    assert done.stdout == run("scale", "efficientnet-b0", "--phi", "1", "--json").stdout
    for wrong, message in (
        (("--coefficients", tmp_path / "own.toml", "--phi", "1"), "names no network"),
        (("efficientnet-b0", "--coefficients", tmp_path / "own.toml"), "go with --phi"),
        (
            ("efficientnet-b0", "--coefficients", tmp_path / "own.toml", "--phi", "1", "--beta", "1.2"),
            "leave out --beta",
        ),
        (("--phi", "1"), "give the network"),
    ):
        failed = run("scale", *wrong)
        assert failed.returncode == 2 and message in failed.stderr.replace("\n", " "), failed.stderr
    (tmp_path / "own.toml").write_text("alpha = 0.9\nbeta = 1.1\ngamma = 1.15\n")
    failed = run("scale", "efficientnet-b0", "--coefficients", tmp_path / "own.toml", "--phi", "1")
    assert failed.returncode == 1 and "alpha must be at least 1" in failed.stderr
