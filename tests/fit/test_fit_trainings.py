"""The trainings of a fit: how long they are, and how a winner goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from fit_jobs import fit_job
from grey_images import images, write_models

from compoundnet.data import Dataset
from compoundnet.fit import Candidate, Fit, Limits, Screened, finish, trainings
from compoundnet.fit.candidates import measured
from compoundnet.fit.finish import Finish
from compoundnet.fit.forms import Finalist
from compoundnet.fit.in_time import TimeIsUpError
from compoundnet.fit.starts import StartingModels
from compoundnet.fit.state import Answer, HeldOut
from compoundnet.fit.trainings import EPOCHS, EPOCHS_SCALED, LEAST_STEPS, Lesson, Trainings
from compoundnet.models import ModelFolder, load, open_folder
from compoundnet.train import Task, evaluate, train
from compoundnet.train.frozen import early_stages


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_models(tmp_path_factory.mktemp("models"))[0]


@pytest.fixture
def candidate(model: str) -> Candidate:
    return measured(model, open_folder(model).network, 32, 3)


@pytest.fixture
def made(model: str, candidate: Candidate, tmp_path: Path) -> Trainings:
    """Trainings of 3 epochs on 72 of 90 images, at 3 steps an epoch."""
    starts = {candidate.key: open_folder(model)}
    return Trainings(images(), tmp_path, starts, frozenset(), 1, time.time() + 1000, length=0.1)


def test_few_images_are_seen_more_often(made: Trainings, candidate: Candidate) -> None:
    assert made.images == 72
    assert made.usual(candidate) == 34 and 34 * 3 >= LEAST_STEPS > 33 * 3
    many = made._replace(dataset=images(1000))
    assert many.usual(candidate) == EPOCHS
    assert many._replace(fresh=frozenset([candidate.key])).usual(candidate) == EPOCHS_SCALED
    assert made.epochs(candidate) == 3


def test_the_early_stages_of_a_pretrained_network_are_not_trained(made: Trainings, candidate: Candidate) -> None:
    assert made.task(candidate).recipe.frozen_stages == early_stages(made.starts[candidate.key].network) > 0
    inherited = made._replace(fresh=frozenset([candidate.key]))
    assert inherited.task(candidate).recipe.frozen_stages == 0


def test_a_winner_goes_on_from_where_it_was(
    made: Trainings, candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Task] = []

    def watched(task: Task, *arguments: object, **options: object) -> object:
        asked.append(task)
        return train(task, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(trainings, "train", watched)
    model = made.finish(candidate, print)
    found = made.on_all(candidate, model, 2, print)
    first, then = asked
    assert (len(first.train), len(then.train)) == (72, 90) and then.held is None
    assert then.start is not None and then.start.folder == model.folder
    assert (then.recipe.epochs, then.recipe.frozen_epochs, then.recipe.warmup_epochs) == (2, 0, 0)
    assert then.recipe.lr == pytest.approx(0.3 * first.recipe.lr)
    assert found.postprocess == model.postprocess
    before, after = (load(one).state_dict()["classifier.weight"] for one in (model, found))
    assert 0 < float((after - before).norm()) < float(before.norm())
    # A later call has another time left, and keeps the length.
    assert made.on_all(candidate, model, 5, print).folder == found.folder and len(asked) == 2
    # With a teacher it is another network.
    taught = made.on_all(candidate, model, 5, print, Lesson(model, "itself"))
    assert taught.folder != found.folder and asked[-1].teacher is not None


@pytest.mark.slow
def test_what_was_begun_on_all_images_keeps_its_length(
    made: Trainings, candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made.finish(candidate, print)
    with pytest.raises(TimeIsUpError, match="the time was up after step 1"):
        made._replace(until=time.time() - 1).on_all(candidate, model, 2, print)
    assert made.on_all(candidate, model, 7, print).folder.name.endswith("-all-2")


def test_a_student_goes_on_for_as_long_again(made: Trainings, candidate: Candidate) -> None:
    model = made.finish(candidate, print)
    student = made.taught(candidate, model, Lesson(model, "itself"), print)
    assert student.folder.name == f"{made.place(candidate).name}-taught-itself"
    before, after = (load(one).state_dict()["classifier.weight"] for one in (model, student))
    assert 0 < float((after - before).norm()) < float(before.norm())


@pytest.mark.parametrize(
    ("probe", "limits", "seconds", "deployed", "said"),
    [
        (0.0, Limits(max_latency=5), 1000.0, [56, 48, 40, 32], "in its final form it takes 9 ms"),
        (0.99, Limits(max_latency=5), 1000.0, [], "so it is not taken"),
        (0.0, Limits(max_latency=5), -1.0, [56], "so m at 64 px in int8 is not tried at still lower resolutions"),
        (0.0, Limits(max_size=10**6), 1000.0, [], ""),  # a file has the same size at each
    ],
)
def test_what_misses_its_budget_is_tried_at_lower_resolutions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probe: float, limits: Limits, seconds: float, deployed: list[int],
    said: str,
) -> None:  # fmt: skip
    """A network of 64 px; 40 to 56 px were not screened, and do not fit in their final form; none if the probe is
    better."""
    start = open_folder(write_models(tmp_path)[1])
    wide, low = (measured("m", start.network, side, 3) for side in (64, 32))
    other = measured("other", start.network, 48, 3)
    trainings = Trainings(
        images(), tmp_path / "trainings", {wide.key: start}, frozenset(), 1, time.time() + 1000, 0, 0.1
    )
    model = trainings.finish(wide, print)
    screened = tuple(Screened(one, 1.0, 0.5) for one in (wide, low, other))
    state, deadline = Fit("greys", "", "", limits, 1, "", screened=screened), time.time() + seconds
    asked: list[Finalist] = []

    def deploy(
        finalist: Finalist, make: Callable[[Path], ModelFolder], state: Fit, data: Dataset, target: Path, until: float
    ) -> tuple[Answer | None, str]:
        asked.append(finalist)
        side = finalist.screened.candidate.resolution
        made = make(tmp_path / f"made-{side}")
        assert made.preprocess.size == side and until == deadline
        if side != 32:
            return None, "it takes 9 ms"
        return Answer(finalist.screened.candidate, "best", "best.onnx", True, 0.5, 1.0, 1, None), ""

    monkeypatch.setattr(finish, "deploy", deploy)
    opened = StartingModels({"m": start, "other": start}, images().split("train"), tmp_path / "inherited")
    lines: list[str] = []
    made = Finish(fit_job(lines.append, starts=opened, deadline=deadline), state, trainings, {})
    held = images().split("test")
    in_int8 = msgspec.structs.replace(screened[0], candidate=wide.in_precision("int8"))
    missed = Finalist(in_int8, held, fine_tuned=True, held_out=HeldOut(0.9, probe, len(held)), on_all=True)
    assert (made._deployed_lower(missed, wide, model, model) is not None) == (32 in deployed)
    assert [finalist.screened.candidate.resolution for finalist in asked] == deployed
    assert any(line.endswith(said) for line in lines) or not said
    if deployed:  # in any precision that fits, and with the probe that there is
        assert asked[0].screened == Screened(measured("m", start.network, 56, 3), accuracy=0.5)
    if probe:  # at the resolution of training it was taken before
        assert made._deployed_lower(missed, measured("m", start.network, 56, 3), model, model) is None
        assert [finalist.screened.candidate.resolution for finalist in asked] == [56]
    if 32 not in deployed:
        return
    answer = made.state.answer
    assert answer is not None and answer.candidate == low
    right = evaluate(tmp_path / "made-32", Dataset("held", {held.name: held}), split=held.name).result.top1
    assert asked[-1].held_out == HeldOut(right, 0.0, len(held)) and asked[-1].on_all
