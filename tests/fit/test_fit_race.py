"""The race of a fit: how it is planned, what it leaves, that it goes on, and that test images are used once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from grey_images import images, write_models

from compoundnet.data import Dataset
from compoundnet.fit import Candidate, Fit, Limits, deployment, finding, fit, read_fit, trainings
from compoundnet.fit.race import RungStudy
from compoundnet.fit.race_plan import RacePlan, plan_in_time, plan_race
from compoundnet.fit.trainings import Trainings, key
from compoundnet.models import open_folder
from compoundnet.train import Watcher, evaluate
from compoundnet.train.interruptions import InterruptedRunError


def candidate(number: int) -> Candidate:
    return Candidate("m", 32 + number, "float32", 1, 1, 1, 1)


@pytest.mark.parametrize(("seconds", "counts"), [(20, [1]), (100, [3, 1]), (1000, [9, 3, 1]), (5, None)])
def test_a_race_is_as_large_as_the_time_allows(seconds: float, counts: list[int] | None) -> None:
    plan = plan_race([(candidate(number), 10.0) for number in range(12)], seconds)
    if counts is None:
        assert plan is None
        return
    assert plan is not None and plan.seconds <= seconds
    found = [count for count, _ in plan.rungs]
    assert found[-1] == 1 and plan.rungs[-1][1] == 1.0
    assert len(plan.entrants) == found[0] >= counts[0] and len(found) >= len(counts)
    parts = [part for _, part in plan.rungs]
    assert parts == sorted(parts)
    assert plan.entrants == tuple(candidate(number) for number in range(found[0]))


def test_what_takes_too_long_does_not_start_and_workers_share_the_work() -> None:
    plan = plan_race([(candidate(0), 1000.0), (candidate(1), 10.0)], 50)
    assert plan is not None and plan.entrants == (candidate(1),)
    alone, together = (plan_race([(candidate(number), 10.0) for number in range(9)], 60, workers) for workers in (1, 4))
    assert alone is not None and together is not None and len(together.entrants) > len(alone.entrants)


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Fit, list[str], list[str], list[str]]:
    """A fit with a race of two small models; which splits were evaluated, and what was said."""
    folder = tmp_path_factory.mktemp("race")
    models, notes, evaluated = write_models(folder), list[str](), list[str]()

    def counting(model: object, data: Dataset, **options: object) -> object:
        evaluated.append(str(options.get("split") or data.evaluation))
        return evaluate(model, data, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deployment, "evaluate", counting)
        patch.setattr(finding, "_SCREEN", 1.0)  # or a busy machine would go on screening in the second call
        found = fit(images(), folder / "best", models=models, seconds=300, notify=notes.append)
    return folder, found, models, notes, evaluated


def test_a_race_ends_with_one_network_that_was_fine_tuned(
    raced: tuple[Path, Fit, list[str], list[str], list[str]],
) -> None:
    folder, found, _, notes, evaluated = raced
    assert [len(rung.results) for rung in found.rungs][-1] == 1
    for before, after in zip(found.rungs, found.rungs[1:], strict=False):
        kept = [one for one, _ in before.results][: len(after.results)]
        assert {one for one, _ in after.results} == set(kept)
        assert before.epochs < after.epochs
    assert evaluated == ["test"], "test images are for the answer alone"
    assert found.finished and found.answer is not None and found.answer.result is not None
    assert any(note.startswith("fine-tuning ") and "of --time are left" in note for note in notes)
    said = [note for note in notes if "held-out training images right" in note]
    assert said and any(text in found.notes for text in said)
    if found.answer.fine_tuned:
        assert found.answer.held_out is not None and found.answer.held_out.images == 18
    assert read_fit(folder / "best.fit") == found
    page = (folder / "best.fit" / "report.html").read_text()
    assert 'id="race"' in page and str(found.rungs[0].results[0][0]) in page


def test_the_same_command_does_nothing_twice(
    raced: tuple[Path, Fit, list[str], list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, before, models, _, _ = raced

    def again(*_: object, **__: object) -> object:
        raise AssertionError("done again")

    monkeypatch.setattr(Trainings, "train_until", again)
    monkeypatch.setattr(Trainings, "estimate", again)
    monkeypatch.setattr(Trainings, "finish_on_all", again)
    monkeypatch.setattr(deployment, "export", again)
    monkeypatch.setattr(deployment, "evaluate", again)
    after = fit(images(), folder / "best", models=models, seconds=300)
    assert after.answer == before.answer and after.rungs == before.rungs


def test_a_training_pauses_and_goes_on(
    raced: tuple[Path, Fit, list[str], list[str], list[str]], tmp_path: Path
) -> None:
    model = raced[2][0]
    one = msgspec.structs.replace(raced[1].ranking[0].candidate, model=model, resolution=32)
    made = Trainings(images(), tmp_path, {key(one): open_folder(model)}, frozenset(), 1, time.time() + 1000)
    steps: list[int] = []

    class Counting(Watcher):
        def stepped(self, step: int, loss: float) -> None:
            steps.append(step)

    made.train_until(one, 2, Counting())
    first, steps = len(steps), []
    later = made.train_until(one, 4, Counting())
    assert first > 0 and steps[0] == first + 1, "it went on from its checkpoint"
    steps = []
    assert made.train_until(one, 4, Counting()).accuracy == later.accuracy and steps == []
    with pytest.raises(trainings.TimeIsUpError, match="the time was up after step"):
        made._replace(until=time.time() - 1).train_until(one, 6)
    whole = Trainings(images(), tmp_path / "at once", made.starts, frozenset(), 1, time.time() + 1000)
    assert whole.train_until(one, 4).accuracy == later.accuracy, "a pause changes nothing"


@pytest.mark.slow
def test_what_ends_a_race_leaves_the_probe_and_the_same_command_goes_on(
    raced: tuple[Path, Fit, list[str], list[str], list[str]], tmp_path: Path
) -> None:
    asked: list[str] = []

    def refuse(text: str) -> bool:
        asked.append(text)
        return False

    def again(confirm: Callable[[str], bool] = lambda _: True) -> Fit:
        return fit(images(), tmp_path / "best", models=raced[2][:1], seconds=300, confirm=confirm)

    def stopped(*_: object) -> object:
        raise InterruptedRunError("stopped")

    found = again(refuse)
    assert found.answer is not None and not found.answer.fine_tuned and found.answer.result is not None
    assert asked and "the answer is the probe: fine-tuning was not confirmed" in found.notes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainings, "estimate", lambda *_: 1e6)
        short = again()
    assert any("fine-tuning would take at least" in note and "left of --time" in note for note in short.notes)
    assert short.answer == found.answer and not any("not confirmed" in note for note in short.notes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainings, "train_until", stopped)
        interrupted = again()
    assert "the answer is the probe: fine-tuning was stopped; the same command goes on" in interrupted.notes
    assert (tmp_path / "best.onnx").exists() and interrupted.finished
    after = again()
    assert after.rungs and not any("was stopped" in note for note in after.notes)


def test_settings_of_a_rung_are_its_candidates() -> None:
    study = RungStudy((candidate(0), candidate(1)), (2, 3), last=False)
    assert study.trials() == 2 and study.params()[1] == {"candidate": 1.0, "epochs": 3.0}
    assert Limits(max_latency=5).times(2).max_latency == 10


def test_a_plan_weighs_a_better_candidate_against_a_longer_schedule() -> None:
    good, fast = candidate(0), candidate(1)
    costs = [(good, 100.0), (fast, 20.0)]

    def planned(left: float, accuracies: tuple[float, float] = (0.72, 0.70)) -> RacePlan | None:
        return plan_in_time(costs, accuracies, left, 1)

    ample = planned(1000)
    assert ample is not None
    assert (ample.entrants, ample.length, ample.final) == ((good, fast), 1.0, 1.0)
    # 100 s of the good one on the others, and 125 s on all images, are too long; of the fast one they are not.
    short = planned(100, (0.80, 0.60))
    assert short is not None
    assert short.entrants[0] == good and short.final < 1
    short = planned(100)
    assert short is not None
    assert (short.entrants, short.final) == ((fast,), 1.0)
    # Nothing is left for all images; and at last for nothing.
    least = planned(21)
    assert least is not None
    assert (least.entrants, least.length, least.final) == ((fast,), 0.5, 0.0)
    assert planned(5) is None
    # Where an accuracy suffices, the order decides.
    assert planned(1000, (0.0, 0.0)) == ample
