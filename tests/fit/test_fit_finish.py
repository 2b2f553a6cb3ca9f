"""How a fit ends: what a stop leaves, and when the answer of before stays."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fit_jobs import fit_job
from grey_images import images, write_models

from compoundnet.fit import Fit, Limits, Screened, averaging, fit, read_fit
from compoundnet.fit import trainings as trainings_module
from compoundnet.fit.candidates import measured
from compoundnet.fit.finish import Finish
from compoundnet.fit.forms import Finalist
from compoundnet.fit.held_out import HeldOutComparison, is_ahead
from compoundnet.fit.state import Answer, HeldOut
from compoundnet.fit.trainings import Trainings
from compoundnet.models import ModelFolder, open_folder
from compoundnet.train.interruptions import DivergedError, InterruptedRunError


@pytest.fixture
def one_short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is trained once, for ten epochs, and taken whatever the probe."""
    monkeypatch.setattr(trainings_module, "LEAST_STEPS", 1)
    monkeypatch.setattr(averaging, "MOST", 1)
    monkeypatch.setattr(HeldOutComparison, "better", lambda *_: True)


@pytest.mark.usefixtures("one_short_training")
def test_a_stop_while_all_images_are_trained_on_leaves_the_network_of_the_race(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is deployed, and the same command goes on."""
    models = write_models(tmp_path)[:1]

    def stopped(*_: object) -> ModelFolder:
        raise InterruptedRunError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(Trainings, "on_all", stopped)
        found = fit(images(), tmp_path / "best", models=models, seconds=300)
    assert found.answer is not None and found.finished and found == read_fit(tmp_path / "best.fit")
    assert (found.answer.fine_tuned, found.answer.on_all, found.answer.averaged) == (True, False, 1)
    assert any("training on all images was stopped" in note for note in found.notes)
    after = fit(images(), tmp_path / "best", models=models, seconds=300)
    assert after.answer is not None and after.answer.on_all
    assert not any("was stopped" in note for note in after.notes)


@pytest.mark.usefixtures("one_short_training")
def test_a_training_on_all_images_that_fails_leaves_the_network_of_the_race(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The advice of `train` is not that of a fit, which has no --set."""

    def diverges(*_: object) -> ModelFolder:
        raise DivergedError("the loss is nan. Start again with --force --set lr=0.001")

    monkeypatch.setattr(Trainings, "on_all", diverges)
    found = fit(images(), tmp_path / "best", models=write_models(tmp_path)[:1], seconds=300)
    assert found.answer is not None and found.finished and found.answer.fine_tuned and not found.answer.on_all
    text = "training on all images: training diverged; the network that was trained on the others is the answer"
    assert text in found.notes and not any("--set" in note for note in found.notes)


@pytest.fixture
def one(tmp_path: Path) -> Screened:
    model = write_models(tmp_path / "models")[0]
    return Screened(measured(model, open_folder(model).network, 32, 3), 1.0, 0.92)


def finish_of(one: Screened, limits: Limits, answer: Answer | None, said: list[str]) -> Finish:
    state = Fit("greys", "", "", limits, 1, "", screened=(one,), answer=answer)
    trainings = Trainings(images(), Path(), {}, frozenset(), 1, time.time() + 100)
    return Finish(fit_job(said.append, seconds=0.0), state, trainings, {one.candidate: 1e6})


@pytest.mark.parametrize(("earlier", "stays"), [(0.83, True), (0.82, False), (0.8, False)])
def test_a_better_answer_of_an_earlier_race_stays(one: Screened, earlier: float, stays: bool) -> None:
    said: list[str] = []
    answer = Answer(one.candidate, "best", "best.onnx", True, 0.5, 1.0, 1, None, held_out=HeldOut(earlier, 0.5, 100))
    finalist = Finalist(one, images().split("test"), fine_tuned=True, held_out=HeldOut(0.82, 0.5, 100))
    assert finish_of(one, Limits(), answer, said)._earlier_stays(finalist) == stays
    assert (
        said
        == [
            f"the fine-tuned network of before stays: {one.candidate} has 83.0% of 100 held-out images right,"
            f" {one.candidate} 82.0% of 100"
        ][: int(stays)]
    )
    assert not finish_of(one, Limits(), None, said)._earlier_stays(finalist)


def test_where_an_accuracy_suffices_the_probe_that_reaches_it_stays(one: Screened) -> None:
    """A faster network must reach it too; where no probe does, the better of both is the answer."""
    right, at_least = np.arange(100), Limits(min_accuracy=0.9)
    for tuned, probe, limits, stays in (
        (89, 98, at_least, True),
        (90, 98, at_least, False),  # it suffices, and is not slower
        (70, 98, Limits(), True),
        (91, 91, Limits(), False),
        (91, 91, Limits(min_accuracy=0.95), False),
        (89, 98, Limits(min_accuracy=0.95), True),  # as without it: cross-validated the probe has 92 %
        (95, 99, Limits(min_accuracy=0.95), True),  # it suffices, and is slower
    ):
        compared = HeldOutComparison(right < tuned, right < probe, 0.92)
        said: list[str] = []
        made = finish_of(one, limits, None, said)
        if tuned == 95:  # the best probe is faster
            faster = msgspec.structs.replace(one.candidate, resolution=16)
            made.state = msgspec.structs.replace(made.state, screened=(Screened(faster, 0.5, 0.93), one))
        assert made._probe_stays(one.candidate, compared, HeldOut(tuned / 100, probe / 100, 100)) == stays
        assert said[0].endswith("so the probe stays") == stays
    # In a reduced precision it need not keep more than suffices.
    finalist = Finalist(one, images().split("test"), fine_tuned=True, held_out=HeldOut(0.91, 0.98, 100))
    least, freely = (finish_of(one, limits, None, [])._of_probe(finalist) for limits in (at_least, Limits()))
    assert least == 0.9 < freely


@pytest.mark.parametrize(
    ("before", "latency", "now", "stays"),
    [
        (0.95, 1.0, 0.94, True),  # it alone reaches what was asked for
        (0.94, 1.0, 0.95, False),
        (0.95, 0.9, 0.99, True),  # both do, and it is faster
        (0.95, 1.1, 0.95, False),
        (0.94, 1.1, 0.93, True),  # neither does
        (0.93, 0.9, 0.94, False),
    ],
)
def test_where_an_accuracy_suffices_the_fastest_answer_of_all_races_that_reaches_it_stays(
    one: Screened, before: float, latency: float, now: float, stays: bool
) -> None:
    other = msgspec.structs.replace(one.candidate, resolution=40)
    answer = Answer(other, "best", "best.onnx", True, 0.5, latency, 1, None, held_out=HeldOut(before, 0.5, 100))
    finalist = Finalist(one, images().split("test"), fine_tuned=True, held_out=HeldOut(now, 0.5, 100))
    assert finish_of(one, Limits(min_accuracy=0.95), answer, [])._earlier_stays(finalist) == stays
    # Of the same network the more accurate training.
    answer = msgspec.structs.replace(answer, candidate=one.candidate)
    assert finish_of(one, Limits(min_accuracy=0.9), answer, [])._earlier_stays(finalist) == (before > now)


def test_what_other_held_out_images_say_counts_within_a_standard_error() -> None:
    """That of the difference of 86.5 % of 100 and 82 % of 200 images is 4.3 points."""
    assert not is_ahead(HeldOut(0.86, 0.5, 100), HeldOut(0.82, 0.5, 200))
    assert is_ahead(HeldOut(0.87, 0.5, 100), HeldOut(0.82, 0.5, 200))
    assert is_ahead(HeldOut(0.83, 0.5, 100), HeldOut(0.82, 0.5, 100))
