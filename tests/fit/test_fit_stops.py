"""Ctrl-C once there is an answer: whatever it ends, the best so far is left, and the same command goes on."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest
from grey_images import CLASSES, images, write_models
from interruptible import interruptible

from compoundnet.fit import Fit, fit, race_run, read_fit, steps


def interrupted(*_: object, **__: object) -> object:
    raise KeyboardInterrupt


def test_while_the_answer_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report is that of the answer, not of the first one."""
    models = write_models(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(steps, "judge_on_test", interrupted)
        found = fit(images(), tmp_path / "best", models=models)
    assert found.answer is not None and found.answer.result is None and found == read_fit(tmp_path / "best.fit")
    text = "the answer is not judged on the test images: stopped; the same command does it"
    assert text in found.notes
    assert str(found.answer.candidate) in (tmp_path / "best.fit" / "report.html").read_text()
    after = fit(images(), tmp_path / "best", models=models)
    assert after.answer is not None and after.answer.result is not None and text not in after.notes


@pytest.mark.parametrize("where", [pytest.param("question", marks=pytest.mark.slow), "trainings"])
def test_before_the_race(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """At the question whether to start, in Python; and while models inherit weights."""
    if where == "trainings":
        monkeypatch.setattr(race_run, "trainings_of", interrupted)
    found: Fit = fit(images(), tmp_path / "best", models=write_models(tmp_path)[:1], seconds=300, confirm=interrupted)  # type: ignore[arg-type]
    assert found.finished and found.answer is not None and found.answer.result is not None
    assert "the answer is the probe: fine-tuning was stopped; the same command goes on" in found.notes


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """The training images in class folders."""
    train = images().split("train")
    for index in range(len(train)):
        place = tmp_path / "photos" / CLASSES[int(train.labels[index])]
        place.mkdir(parents=True, exist_ok=True)
        train.image(index).save(place / f"{index}.png")
    return tmp_path / "photos"


@pytest.mark.slow
def test_sigterm_is_as_ctrl_c(photos: Path, tmp_path: Path) -> None:
    """The answer that there is, is finished."""
    models = [part for model in write_models(tmp_path) for part in ("--candidate", model)]
    command = interruptible("fit", str(photos), *models, "-o", str(tmp_path / "best"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = next(line for line in process.stderr if line.startswith("a first answer after"))
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate()
    assert process.returncode == 0, said + rest
    found = read_fit(tmp_path / "best.fit")
    assert found.finished and "the screen was stopped; the same command goes on" in found.notes


def test_sigterm_before_there_is_an_answer(photos: Path, tmp_path: Path) -> None:
    command = interruptible("fit", str(photos), "-o", str(tmp_path / "best"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None and "3 classes" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 128 + signal.SIGTERM


@pytest.mark.slow
def test_at_the_question_of_the_command(photos: Path, tmp_path: Path) -> None:
    """It declines the race, and the probe is the answer."""
    model = write_models(tmp_path)[0]
    command = interruptible("fit", str(photos), "--candidate", model, "--time", "10min", "-o", str(tmp_path / "best"))
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        said = b""
        while not said.endswith(b"Start?") and (read := process.stderr.read(1)):
            said += read
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate()
    for end in (ours, theirs):
        os.close(end)
    assert process.returncode == 0, (said + rest).decode()
    found = read_fit(tmp_path / "best.fit")
    assert found.finished and "the answer is the probe: fine-tuning was not confirmed" in found.notes
