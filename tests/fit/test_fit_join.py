"""A machine that joins the race of another on a PostgreSQL server."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from grey_images import images, write_models
from interruptible import interruptible
from postgresql import PASSWORD, USER

from compoundnet.base import CompoundNetError
from compoundnet.cli.output import STOPPED
from compoundnet.fit import Candidate, join_fit, race
from compoundnet.fit.candidates import measured
from compoundnet.fit.in_time import TimeIsUpError
from compoundnet.fit.race import RungStudy
from compoundnet.fit.trainings import Trained, Trainings
from compoundnet.models import open_folder
from compoundnet.models.weights_files import sha256_of
from compoundnet.trials.measurement import data_identity
from compoundnet.trials.studies import create_study


def test_rungs_of_an_earlier_race_are_left_alone_and_models_must_be_the_same(tmp_path: Path, server: str) -> None:
    """The first rung is of other images, and its time was up an hour ago."""
    url = f"postgresql://{USER}:{quote(PASSWORD, safe='')}@{server}/postgres"
    model, said = write_models(tmp_path)[0], list[str]()
    one, weights = measured(model, open_folder(model).network, 32, 3), sha256_of(open_folder(model).weights)
    rung = RungStudy("greys", (), {model: weights}, (one,), (1,), 0.1, 0.2, 0, last=True)

    def begin(number: int, settings: RungStudy, data: str, until: float) -> None:
        opened = create_study(settings, data, tmp_path / f"best-rung-{number}", url)
        opened.study.set_user_attr("until", until)
        opened.close()

    begin(1, rung, "other images", time.time() - 3600)
    begin(2, msgspec.structs.replace(rung, weights={"elsewhere": weights}), data_identity(images()), time.time() + 60)
    with pytest.raises(CompoundNetError, match="the fit starts from elsewhere, which is not among the models here"):
        join_fit(images(), tmp_path / "here" / "best", url, models=[model], notify=said.append)


def test_a_machine_that_joins_ends_with_the_last_rung(tmp_path: Path, server: str) -> None:
    url = f"postgresql://{USER}:{quote(PASSWORD, safe='')}@{server}/postgres"
    model, said = write_models(tmp_path)[0], list[str]()
    one, weights = measured(model, open_folder(model).network, 32, 3), sha256_of(open_folder(model).weights)
    rung = RungStudy("greys", (), {model: weights}, (one,), (1,), 0.1, 0.2, 0, last=True)
    opened = create_study(rung, data_identity(images()), tmp_path / "last-rung-1", url)
    opened.study.set_user_attr("until", time.time() + 60)
    opened.close()
    assert join_fit(images(), tmp_path / "here" / "last", url, models=[model], notify=said.append) == 1
    assert any("on the held-out images" in line for line in said)
    assert said[-1] == "no fine-tuning of last is left"


class Clock:
    """The time of a race, which passes only when somebody says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.time()
        monkeypatch.setattr(race, "time", self)

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_what_was_finished_counts_when_the_time_is_up(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two trainings the second runs out of time; what is left of the last rung is not said to be done."""
    url = f"postgresql://{USER}:{quote(PASSWORD, safe='')}@{server}/postgres"
    models, said, clock = write_models(tmp_path), list[str](), Clock(monkeypatch)
    ones = tuple(measured(model, open_folder(model).network, 32, 3) for model in models)
    weights = {model: sha256_of(open_folder(model).weights) for model in models}
    rung = RungStudy("greys", (), weights, ones, (1, 1), 0.1, 0.2, 0, last=True)
    opened = create_study(rung, data_identity(images()), tmp_path / "late-rung-1", url)
    opened.study.set_user_attr("until", clock.now + 1000)
    opened.close()
    trained: list[Candidate] = []

    def train_until(_: Trainings, one: Candidate, epochs: int, *__: object) -> Trained:
        trained.append(one)
        if len(trained) == 2:
            clock.now += 2000
            raise TimeIsUpError("the time was up after step 1")
        return Trained(0.5, 1.0, epochs, epochs)

    monkeypatch.setattr(Trainings, "train_until", train_until)
    assert join_fit(images(), tmp_path / "here" / "late", url, models=models, notify=said.append) == 1
    assert said[-2:] == ["the time was up after step 1", "the time of late is up"]


@pytest.mark.slow
def test_ctrl_c_ends_a_machine_that_joins(tmp_path: Path, server: str) -> None:
    for name, split in images().splits.items():
        for index, label in enumerate(split.labels):
            place = tmp_path / "greys" / name / split.classes[label]
            place.mkdir(parents=True, exist_ok=True)
            split.image(index).save(place / f"{index}.png")
    url = f"postgresql://{USER}:{quote(PASSWORD, safe='')}@{server}/postgres"
    command = interruptible(
        "fit", "join", str(tmp_path / "greys"), "--candidate", write_models(tmp_path)[0], "--storage", url,
        "-o", str(tmp_path / "alone"),
    )  # fmt: skip
    lines: list[str] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if "waiting for the trainings of alone" in line:
                process.send_signal(signal.SIGINT)
    assert process.returncode == STOPPED, lines
    assert lines[-1] == "stopped; what was being trained here is trained again by another worker\n"
