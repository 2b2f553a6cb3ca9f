"""Several workers in the race of a fit, and a fit that is killed."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from grey_images import CLASSES, images, write_models
from postgresql import PASSWORD, USER

from compoundnet.fit import Fit, Rung, fit, read_fit
from compoundnet.fit.race import run_race
from compoundnet.fit.race_plan import larger_first, plan_race
from compoundnet.fit.trainings import LEAST_HELD_OUT, Trainings
from compoundnet.models import open_folder

pytestmark = pytest.mark.slow


def write_photos(folder: Path, count: int = 90) -> Path:
    """The training images as PNG files in a folder for each class."""
    train = images(count).split("train")
    for index in range(len(train)):
        place = folder / CLASSES[int(train.labels[index])]
        place.mkdir(parents=True, exist_ok=True)
        train.image(index).save(place / f"{index}.png")
    return folder


def test_two_workers_find_what_one_finds(tmp_path: Path) -> None:
    models = write_models(tmp_path)
    found = fit(images(), tmp_path / "best", models=models)
    entrants = [one.candidate for one in found.ranking]
    plan = plan_race([(one, 1.0) for one in entrants], 1000, len(entrants))
    assert plan is not None
    rungs: dict[int, list[Rung]] = {1: [], 2: []}
    for workers, done in rungs.items():
        starts = {one.key: open_folder(one.model) for one in entrants}
        trainings = Trainings(images(), tmp_path / f"{workers}", starts, frozenset(), 1, time.time() + 1000)
        run_race(
            plan, trainings, tmp_path / f"race-{workers}", images="greys", unreadable=(),
            weights=dict.fromkeys(models, ""), name="best", workers=workers, storage=None,
            order=functools.partial(larger_first, images=18), notify=print, done=done.append,
        )  # fmt: skip
    assert rungs[1] == rungs[2]


def test_a_killed_fit_goes_on_where_it_was(tmp_path: Path) -> None:
    models = write_models(tmp_path)
    photos = write_photos(tmp_path / "photos")
    command = [
        sys.executable, "-m", "compoundnet", "fit", str(photos), "--candidate", models[1], "--time", "10min", "--yes",
        "-o", str(tmp_path / "best"),
    ]  # fmt: skip
    environment, lines = os.environ | {"PYTHONUNBUFFERED": "1"}, []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if "on the held-out images" in line:  # the first training of the race is done
                break
        process.send_signal(signal.SIGKILL)
    before: Fit = read_fit(tmp_path / "best.fit")
    assert before.answer is not None, lines
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "candidates are screened already" in done.stderr and "a first answer" not in done.stderr
    after = read_fit(tmp_path / "best.fit")
    assert after.finished and after.rungs and after.screened == before.screened


def test_another_machine_joins_the_race_on_a_server(tmp_path: Path, server: str) -> None:
    """Two processes with folders of their own, which share the images and PostgreSQL alone."""
    # A fifth is the test split, and a fifth of the others is held out; with fewer there would be one candidate alone.
    models, photos = write_models(tmp_path), write_photos(tmp_path / "photos", 7 * LEAST_HELD_OUT)
    url = f"postgresql://{USER}:{quote(PASSWORD, safe='')}@{server}/postgres"
    candidates = [word for model in models for word in ("--candidate", model)]
    program = [sys.executable, "-m", "compoundnet", "fit"]
    lead = [*program, str(photos), *candidates, "--time", "10min", "--yes", "--storage", url]
    help_ = [*program, "join", str(photos), *candidates, "--storage", url]
    outputs = [tmp_path / host / "best" for host in ("lead", "help")]
    processes = [
        subprocess.Popen([*words, "-o", str(output)], stderr=subprocess.PIPE, text=True)
        for words, output in zip((lead, help_), outputs, strict=True)
    ]
    try:
        leads, helps = (process.communicate(timeout=280)[1] for process in processes)
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], (leads, helps)
    found = read_fit(tmp_path / "lead" / "best.fit")
    assert found.finished and found.rungs and found.answer is not None
    assert outputs[0].is_dir() and not outputs[1].exists(), "the answer is the first machine's"
    assert f"the race is kept at postgresql://{USER}@{server}/postgres, for `compoundnet fit join`" in leads
    assert "no fine-tuning of best is left" in helps
    finished = re.search(r"(\d+) fine-tunings? finished by this worker", helps)
    assert finished is not None and 1 <= int(finished[1]) < sum(len(rung.results) for rung in found.rungs), helps
    password = quote(PASSWORD, safe="")
    assert PASSWORD not in leads + helps and password not in leads + helps
