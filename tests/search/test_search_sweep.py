"""The sweep: Kornblith's grid, and small ones that go on after interruptions, one and several trials at a time."""

from __future__ import annotations

import os
import pickle
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import sweep_once
from scipy import sparse
from small_train import class_folders, small_dataset, small_network

import compoundnet.search.sweep
from compoundnet.base import CompoundNetError
from compoundnet.cli import train as cli
from compoundnet.data import Dataset, open_dataset
from compoundnet.data.dataset import Metric
from compoundnet.search.sweep import SweepGrid, SweepPoint, published_grid, sweep
from compoundnet.search.sweep.learning_rates import at_point
from compoundnet.train import Epoch, Hardware, Recipe, Watcher, find_recipe, override, plan_task
from compoundnet.train.counts import Counts
from compoundnet.train.identity import identity
from compoundnet.train.interruptions import InterruptedRunError

GRID = SweepGrid(lrs=(1e-9, 0.1), decay_ratios=(0.0, 1e-4), held_out=0.2)


def recipe(*settings: str) -> Recipe:
    return override(find_recipe("kornblith"), ["steps=20", "batch=10", "precision=fp32", "area=[0.9, 1.0]", *settings])


def data() -> Dataset:
    return small_dataset(train=150)


def scores(folder: Path) -> dict[tuple[str, ...], float]:
    """What the study's file says of the finished trials, read without the code that wrote it."""
    with sqlite3.connect(folder / "sweep" / "study.db") as database:
        finished = "trial_id IN (SELECT trial_id FROM trials WHERE state = 'COMPLETE')"
        values = dict(database.execute(f"SELECT trial_id, value FROM trial_values WHERE {finished}"))
        points: dict[int, list[str]] = {}
        for trial, name, value in database.execute(
            f"SELECT trial_id, param_name, param_value FROM trial_params WHERE {finished} ORDER BY param_name"
        ):
            points.setdefault(trial, []).append(f"{name} {value}")
    assert len(values) == len(points) == len(set(map(tuple, points.values())))  # no point twice
    return {tuple(points[trial]): value for trial, value in values.items()}


class Listening(Watcher):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def notify(self, text: str) -> None:
        self.lines.append(text)


class Stopping(Watcher):
    """Asks for a stop at the end of an epoch of the second trial."""

    def __init__(self) -> None:
        self.runs: list[int] = []

    def started(self, step: int, steps: int, batch: int) -> None:
        self.runs.append(step)

    def epoch_ended(self, epoch: Epoch) -> None:
        if len(self.runs) == 2:
            os.kill(os.getpid(), signal.SIGTERM)


def test_the_published_grid() -> None:
    grid = published_grid()
    assert grid.lrs == pytest.approx([10 ** (-4 + step / 2) for step in range(7)])
    assert grid.decay_ratios == pytest.approx([0, *(10 ** (-6 + step / 2) for step in range(7))])
    assert len(grid.points()) == 56
    point = at_point(find_recipe("kornblith"), SweepPoint(0.1, 1e-3), held_out=0.1)
    assert (point.lr, point.minival) == (0.1, 0.1)
    assert point.weight_decay == pytest.approx(1e-4)


def test_a_sweep_that_is_stopped_goes_on_where_it_was_and_finds_the_rate_that_learns(tmp_path: Path) -> None:
    stopping, going_on = Stopping(), Stopping()
    with pytest.raises(InterruptedRunError, match="the same command continues"):
        sweep(recipe(), data(), tmp_path / "model", network=small_network(), grid=GRID, watcher=stopping)
    assert len(scores(tmp_path / "model.run")) == 1
    going_on.runs = [0, 0]  # asks for no stop
    best = sweep(recipe(), data(), tmp_path / "model", network=small_network(), grid=GRID, watcher=going_on)
    after = going_on.runs[2:]
    assert 0 < after[0] < 20 and after[1:] == [0, 0]  # the second trial where it was, the others from the start
    assert (best.lr, best.minival) == (0.1, 0)
    whole = sweep(recipe(), data(), tmp_path / "whole", network=small_network(), grid=GRID)
    assert whole == best
    assert scores(tmp_path / "whole.run") == scores(tmp_path / "model.run")


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    """kill -9 in the second training, after its second checkpoint."""
    script = Path(__file__).parents[1] / "support" / "sweep_once.py"

    def started() -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, script, tmp_path / "killed"], stdout=subprocess.PIPE, text=True)

    with started() as killed:
        assert killed.stdout is not None
        for line in killed.stdout:
            if line == "epoch 18\n" and len(scores(tmp_path / "killed.run")) == 1:
                killed.kill()
                break
    printed = started().communicate(timeout=240)[0].splitlines()
    whole = sweep_once.whole_sweep(tmp_path / "whole")
    starts = [line for line in printed if line.startswith("started")]
    assert starts in (["started 12"], ["started 18"])
    assert printed[-1] == f"best {whole.lr}"
    assert scores(tmp_path / "killed.run") == scores(tmp_path / "whole.run")


def test_another_recipe_data_set_or_grid_is_refused_with_what_differs(tmp_path: Path) -> None:
    point = SweepGrid(lrs=(0.1,), decay_ratios=(0.0,), held_out=0.2)

    def swept(*settings: str, images: int = 150, grid: SweepGrid = point) -> Recipe:
        data = small_dataset(train=images)
        return sweep(recipe("steps=2", *settings), data, tmp_path / "model", network=small_network(), grid=grid)

    best = swept()
    assert swept("keep=5").lr == best.lr  # nothing is left to try, and checkpoints change no score
    with pytest.raises(CompoundNetError, match=r"another search: task\.recipe\.steps is 2 there and 3 here"):
        swept("steps=3")
    with pytest.raises(CompoundNetError, match=r"search: task\.data\.training images is 150 there and 60 here"):
        swept(images=60)
    with pytest.raises(CompoundNetError, match=r"another search: grid\.lrs"):
        swept(grid=GRID)


def test_a_rate_at_which_training_diverges_is_the_worst(tmp_path: Path) -> None:
    grid = SweepGrid(lrs=(1e30, 0.1), decay_ratios=(0.0,), held_out=0.2)
    watcher = Listening()
    best = sweep(recipe(), data(), tmp_path / "model", network=small_network(), grid=grid, watcher=watcher)
    assert best.lr == 0.1
    assert any("1e+30" in line and "diverged" in line for line in watcher.lines)


@pytest.mark.parametrize(("metric", "best"), [("top1", 0.1), ("mean_per_class", 0.2)])
def test_the_data_sets_metric_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: Metric, best: float
) -> None:
    """Of 30 held-out images the first point has more right, the second more of the rare classes."""
    confusions = iter([[[26, 0, 0], [2, 0, 0], [2, 0, 0]], [[20, 3, 3], [0, 2, 0], [0, 0, 2]]])
    monkeypatch.setattr(
        "compoundnet.search.sweep.trainings.count", lambda *_, **__: Counts(sparse.csr_array(next(confusions)), 0, 0.0)
    )
    judged = msgspec.structs.replace(data(), metric=metric)
    grid = SweepGrid(lrs=(0.1, 0.2), decay_ratios=(0.0,), held_out=0.2)
    watcher = Listening()

    def swept(dataset: Dataset) -> Recipe:
        return sweep(
            recipe("steps=1"), dataset, tmp_path / "model", network=small_network(), grid=grid, watcher=watcher
        )

    assert swept(judged).lr == best
    assert ("mean per class" in watcher.lines[-1]) == (metric == "mean_per_class")
    other: Metric = "top1" if metric == "mean_per_class" else "mean_per_class"
    with pytest.raises(CompoundNetError, match=f"metric is {metric} there and {other} here"):
        swept(msgspec.structs.replace(judged, metric=other))


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_only_the_first_process_tells_of_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str
) -> None:
    def told(given: Recipe, *_: object, watcher: Watcher, **__: object) -> Recipe:
        watcher.notify("the best is ...")
        return given

    monkeypatch.setattr(compoundnet.search.sweep, "sweep", told)
    given = cli._Given(
        "greys", None, "small", None, tmp_path / "model", False, False, 1, 0, False, False, None, True, None
    )
    task = plan_task(recipe(), data(), network=small_network())
    for rank in ("0", "1"):
        monkeypatch.setenv(variable, rank)
        assert cli._sweep(task.recipe, task, data(), given, Hardware()) == (task.recipe, ["the best is ..."])
        assert ("the best is" in capsys.readouterr().err) == (rank == "0")


def test_a_recipe_that_holds_images_out_still_does_afterwards(tmp_path: Path) -> None:
    grid = SweepGrid(lrs=(0.1,), decay_ratios=(0.0,), held_out=0.2)
    given = recipe("steps=2", "minival=0.3", "select=best")
    assert sweep(given, data(), tmp_path / "model", network=small_network(), grid=grid).minival == 0.3


def test_torchrun_starts_no_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(CompoundNetError, match="--sweep-workers"):
        sweep(recipe(), data(), tmp_path / "model", network=small_network(), grid=GRID)


def test_the_identity_of_equal_networks_is_the_same() -> None:
    made = small_network()
    copied = pickle.loads(pickle.dumps(made))
    assert copied == made
    assert len({identity(plan_task(recipe(), data(), network=network)) for network in (made, copied)}) == 1


@pytest.mark.slow
def test_two_processes_find_what_one_does(tmp_path: Path) -> None:
    one = sweep(recipe(), data(), tmp_path / "one", network=small_network(), grid=GRID)
    watcher = Listening()
    two = sweep(recipe(), data(), tmp_path / "two", network=small_network(), grid=GRID, processes=2, watcher=watcher)
    assert one == two
    assert scores(tmp_path / "one.run") == scores(tmp_path / "two.run")
    assert [line.split(":")[1] for line in watcher.lines[1:5]] == [f" {done} of 4" for done in range(1, 5)]


@pytest.mark.slow
def test_processes_that_fail_say_why_and_leave_the_points(tmp_path: Path) -> None:
    images = class_folders(tmp_path / "images", {"dark": 20, "light": 20})
    for image in (images / "dark").iterdir():
        image.write_bytes(b"")
    watcher = Listening()
    with pytest.raises(CompoundNetError, match=r"no worker is left for 4 trials: .*cannot be read"):
        sweep(
            recipe("max_bad=0"), open_dataset(images), tmp_path / "model", network=small_network(), grid=GRID,
            processes=2, watcher=watcher,
        )  # fmt: skip
    assert sum("one of 2 workers has ended" in line for line in watcher.lines) == 2
