"""The average of trainings: its weights, when there is time for another, and when it is not the answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from fit_jobs import fit_job
from grey_images import images, write_models

from compoundnet.data import Dataset
from compoundnet.fit import Candidate, Fit, Limits, Screened, averaging, fit, read_fit
from compoundnet.fit import trainings as trainings_module
from compoundnet.fit.averaging import MOST, Averaging, averaged
from compoundnet.fit.candidates import measured
from compoundnet.fit.finish import Winner
from compoundnet.fit.forms import Finalist
from compoundnet.fit.held_out import HeldOutComparison
from compoundnet.fit.in_time import TimeIsUpError
from compoundnet.fit.state import Answer, HeldOut
from compoundnet.fit.trainings import Trainings
from compoundnet.models import ModelFolder, load, open_folder
from compoundnet.train.interruptions import DivergedError, InterruptedRunError


@pytest.fixture
def candidate(tmp_path: Path) -> Candidate:
    model = write_models(tmp_path / "models")[0]
    return measured(model, open_folder(model).network, 32, 3)


@pytest.fixture
def trainings(candidate: Candidate, tmp_path: Path) -> Trainings:
    """Trainings of 3 of 34 usual epochs."""
    starts = {candidate.key: open_folder(candidate.model)}
    return Trainings(images(), tmp_path / "t", starts, frozenset(), 1, time.time() + 1000, length=0.1)


@pytest.fixture
def winner(candidate: Candidate, trainings: Trainings) -> Winner:
    model = trainings.on_all(candidate, trainings.finish(candidate, print), 2, print)
    held = HeldOut(0.5, 0.4, 18)
    finalist = Finalist(
        Screened(candidate, 1.0, 0.4), images().split("test"), fine_tuned=True, held_out=held, on_all=True
    )
    return Winner(candidate, finalist, model, None)


def answer_of(winner: Winner, averaged: int = 1) -> Answer:
    """An answer as of the first deployment."""
    return Answer(
        winner.candidate, "best", "best.onnx", True, 0.4, 1.0, 1, None, held_out=winner.finalist.held_out, on_all=True,
        averaged=averaged,
    )  # fmt: skip


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Finalist, ModelFolder]]:
    """What was deployed, instead of an export; each fits."""
    asked: list[tuple[Finalist, ModelFolder]] = []

    def deploy(
        finalist: Finalist, make: Callable[[Path], ModelFolder], state: Fit, data: Dataset, target: Path, until: float
    ) -> tuple[Answer | None, str]:
        asked.append((finalist, make(tmp_path / f"made-{len(asked)}")))
        assert state.answer is not None
        return msgspec.structs.replace(state.answer, averaged=finalist.averaged), ""

    monkeypatch.setattr(averaging, "deploy", deploy)
    return asked


def average(
    winner: Winner, trainings: Trainings, seconds: float, answer: Answer | None = None
) -> tuple[Fit, list[str]]:
    """Run the average of a winner whose training of the usual length takes so many seconds; and what was said."""
    state, said = Fit("greys", "", "", Limits(), 1, "", answer=answer or answer_of(winner)), list[str]()
    made = Averaging(fit_job(said.append, seconds=1000.0), state, trainings, seconds)
    made.run(winner)
    return made.state, said


def test_the_weights_are_the_mean(winner: Winner, trainings: Trainings, tmp_path: Path) -> None:
    others = [trainings.again(winner.candidate, number, winner.model, 2, print) for number in (1, 2)]
    found = averaged([winner.model, *others], tmp_path / "average")
    states = [load(one).state_dict() for one in (winner.model, *others)]
    for name, tensor in load(found).state_dict().items():
        if not tensor.is_floating_point():  # the batches that batch norms counted
            continue
        torch.testing.assert_close(tensor, torch.stack([one[name] for one in states]).mean(0), rtol=1e-5, atol=1e-6)
    assert not torch.equal(states[1]["classifier.weight"], states[2]["classifier.weight"]), "each has its own seed"
    assert (found.labels, found.preprocess, found.postprocess) == (
        winner.model.labels, winner.model.preprocess, winner.model.postprocess,
    )  # fmt: skip
    assert "mean of those of 3 such trainings" in (found.folder / "README.md").read_text()
    assert open_folder(str(found.folder)).network == winner.model.network


def test_a_training_from_the_start_sees_all_images_and_goes_on(
    winner: Winner, trainings: Trainings, candidate: Candidate
) -> None:
    made = trainings.again(candidate, 1, winner.model, 2, print)
    assert made.folder.name == f"{trainings.place(candidate).name}-again-1-all-2"
    assert "90 images" in (made.folder / "README.md").read_text()
    assert made.postprocess == winner.model.postprocess
    assert trainings.begun_on_all(candidate, number=1) == 2 and trainings.begun_on_all(candidate, number=2) is None
    assert trainings.begun_on_all(candidate) == 2, "that which went on is another"
    assert trainings.again(candidate, 1, winner.model, 9, print).folder == made.folder


def test_it_is_done_as_often_as_there_is_time_for(
    winner: Winner, trainings: Trainings, deployed: list[tuple[Finalist, ModelFolder]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training of the usual 34 epochs takes 900 of 1,000 s with images held out, more on all."""
    asked: list[tuple[int, int]] = []

    def again(self: Trainings, one: Candidate, number: int, model: ModelFolder, epochs: int, *_: object) -> ModelFolder:
        asked.append((number, epochs))
        return winner.model

    monkeypatch.setattr(Trainings, "again", again)
    found, said = average(winner, trainings, 900.0)
    assert (asked, deployed, said) == ([], [], []) and found.answer == answer_of(winner)
    found, said = average(winner, trainings, 700.0)
    epochs = asked[0][1]
    assert 34 <= epochs < 2 * 34 and f"for {epochs} epochs, to average the weights" in said[0]
    asked.clear()
    average(winner, trainings, 1.0)
    assert asked == [(number, 2 * 34) for number in range(1, MOST)]
    asked.clear()
    found, said = average(winner, trainings._replace(fresh=frozenset([winner.candidate.key])), 1.0)
    assert said == ["there is time for more trainings, but inherited or new weights are not averaged"]
    assert asked == [] and found.answer == answer_of(winner), "networks with inherited weights"


def test_the_average_takes_the_place_of_the_answer(
    winner: Winner, trainings: Trainings, deployed: list[tuple[Finalist, ModelFolder]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(averaging, "MOST", 2)
    found, said = average(winner, trainings._replace(length=1 / 34), 1.0)
    ((finalist, model),) = deployed
    assert finalist == winner.finalist._replace(averaged=2)
    assert found.answer is not None and found.answer.averaged == 2 and "2 trainings averaged" in found.answer.text()
    weights, before = (load(one).state_dict()["classifier.weight"] for one in (model, winner.model))
    assert not torch.equal(weights, before)
    assert said[-1] in found.notes and "the average of 2 trainings has " in said[-1] and "so it is taken" in said[-1]
    # The same command trains and deploys nothing again.
    average(winner, trainings._replace(length=1 / 34), 1.0, found.answer)
    assert len(deployed) == 1


@pytest.mark.parametrize(("right", "taken"), [(88, True), (80, False)])
def test_trainings_that_went_different_ways_are_not_averaged(
    winner: Winner, trainings: Trainings, deployed: list[tuple[Finalist, ModelFolder]], monkeypatch: pytest.MonkeyPatch,
    right: int, taken: bool,
) -> None:  # fmt: skip
    """One training has all of the 90 training images right, and the average most, or so few that it is not chance."""
    monkeypatch.setattr(averaging, "MOST", 2)
    monkeypatch.setattr(Trainings, "again", lambda *_: winner.model)
    rights = iter([90, right])
    monkeypatch.setattr(averaging, "right_by_network", lambda *_: np.arange(90) < next(rights))
    found, said = average(winner, trainings, 1.0)
    assert len(deployed) == taken and (found.answer != answer_of(winner)) == taken
    assert said[-1].endswith("so it is taken" if taken else "so it is not taken") and said[-1] in found.notes


def test_an_average_that_misses_the_budget_leaves_the_answer(
    winner: Winner, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(averaging, "MOST", 2)
    monkeypatch.setattr(Trainings, "again", lambda *_: winner.model)
    monkeypatch.setattr(averaging, "deploy", lambda *_: (None, "it takes 9 ms"))
    found, said = average(winner, trainings, 1.0)
    assert found.answer == answer_of(winner)
    assert said[-1] == "the average: in its final form it takes 9 ms, so that one training stays"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (TimeIsUpError("the time was up after step 1"), "the time was up after step 1"),
        (DivergedError("the loss is nan; start again with --set lr=0.001"), "training diverged"),
    ],
)
def test_another_training_may_not_end(
    winner: Winner, trainings: Trainings, deployed: list[tuple[Finalist, ModelFolder]], monkeypatch: pytest.MonkeyPatch,
    error: Exception, why: str,
) -> None:  # fmt: skip
    """What is finished before that is averaged."""

    def again(self: Trainings, one: Candidate, number: int, *_: object) -> ModelFolder:
        if number == 2:
            raise error
        return winner.model

    monkeypatch.setattr(Trainings, "again", again)
    found, said = average(winner, trainings, 1.0)
    assert found.answer is not None and found.answer.averaged == 2 and len(deployed) == 1
    assert f"training it once more: {why}; it is left out" in said


def test_a_stop_leaves_one_training_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network is taken whatever the probe, since these images are too few to tell."""
    monkeypatch.setattr(trainings_module, "LEAST_STEPS", 1)
    monkeypatch.setattr(averaging, "MOST", 2)
    monkeypatch.setattr(HeldOutComparison, "better", lambda *_: True)
    models, said = write_models(tmp_path)[:1], list[str]()

    def run() -> Answer:
        found = fit(images(), tmp_path / "best", models=models, seconds=300, notify=said.append)
        assert found.finished and found.answer is not None and found == read_fit(tmp_path / "best.fit")
        return found.answer

    with monkeypatch.context() as patch:
        patch.setattr(Trainings, "again", stopped)
        before = run()
    assert (before.fine_tuned, before.on_all, before.averaged) == (True, True, 1)
    assert any("fine-tuned network of before: fine-tuning was stopped" in line for line in said)
    after = run()
    assert (after.candidate, after.held_out, after.averaged) == (before.candidate, before.held_out, 2)
    assert "mean of those of 2 such trainings" in (tmp_path / "best" / "README.md").read_text()
    assert "averaged over 2 such trainings" in (tmp_path / "best.fit" / "report.html").read_text()


def stopped(*_: object) -> ModelFolder:
    """Ctrl-C while it is trained."""
    raise InterruptedRunError("stopped")
