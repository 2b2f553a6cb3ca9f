"""Several workers in the race of a fit, and a fit that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from grey_images import CLASSES, images, write_models

from compoundnet.fit import Fit, Rung, fit, read_fit
from compoundnet.fit.race import run_race
from compoundnet.fit.race_plan import plan_race
from compoundnet.fit.trainings import Trainings, key
from compoundnet.models import open_folder

pytestmark = pytest.mark.slow


def test_two_workers_find_what_one_finds(tmp_path: Path) -> None:
    models = write_models(tmp_path)
    found = fit(images(), tmp_path / "best", models=models)
    entrants = [one.candidate for one in found.ranking]
    plan = plan_race([(one, 1.0) for one in entrants], 1000)
    assert plan is not None
    rungs: dict[int, list[Rung]] = {1: [], 2: []}
    for workers, done in rungs.items():
        starts = {key(one): open_folder(one.model) for one in entrants}
        trainings = Trainings(images(), tmp_path / f"{workers}", starts, frozenset(), 1, time.time() + 1000)
        run_race(
            plan, trainings, tmp_path / f"race-{workers}", name="best", workers=workers, storage=None,
            notify=print, done=done.append,
        )  # fmt: skip
    assert rungs[1] == rungs[2]


def test_a_killed_fit_goes_on_where_it_was(tmp_path: Path) -> None:
    models = write_models(tmp_path)
    photos = tmp_path / "photos"
    train = images().split("train")
    for index in range(len(train)):
        folder = photos / CLASSES[int(train.labels[index])]
        folder.mkdir(parents=True, exist_ok=True)
        train.image(index).save(folder / f"{index}.png")
    command = [
        sys.executable, "-m", "compoundnet", "fit", str(photos), "--candidate", models[1], "--time", "10min", "--yes",
        "-o", str(tmp_path / "best"),
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "of the held-out images" in line:  # the first training of the race is done
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    before: Fit = read_fit(tmp_path / "best.fit")
    assert before.answer is not None, lines
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "candidates are screened already" in done.stderr and "a first answer" not in done.stderr
    after = read_fit(tmp_path / "best.fit")
    assert after.finished and after.rungs and after.screened == before.screened
