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


@pytest.mark.parametrize("where", ["question", "trainings"])
def test_before_the_race(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """At the question whether to start, in Python; and while models inherit weights."""
    if where == "trainings":
        monkeypatch.setattr(race_run, "trainings_of", interrupted)
    found: Fit = fit(images(), tmp_path / "best", models=write_models(tmp_path)[:1], seconds=300, confirm=interrupted)  # type: ignore[arg-type]
    assert found.finished and found.answer is not None and found.answer.result is not None
    assert "the answer is the probe: fine-tuning was stopped; the same command goes on" in found.notes


@pytest.mark.slow
def test_at_the_question_of_the_command(tmp_path: Path) -> None:
    """It declines the race, and the probe is the answer."""
    train = images().split("train")
    for index in range(len(train)):
        place = tmp_path / "photos" / CLASSES[int(train.labels[index])]
        place.mkdir(parents=True, exist_ok=True)
        train.image(index).save(place / f"{index}.png")
    model = write_models(tmp_path)[0]
    command = interruptible(
        "fit", str(tmp_path / "photos"), "--candidate", model, "--time", "10min", "-o", str(tmp_path / "best")
    )
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
