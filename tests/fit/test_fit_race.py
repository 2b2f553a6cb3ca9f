"""The race of a fit: how it is planned, what it leaves, that it goes on, and that test images are used once."""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from fit_jobs import UNUSED
from grey_images import images, write_models

from compoundnet.base import CompoundNetError
from compoundnet.base.machine import default_threads
from compoundnet.data import Dataset
from compoundnet.fit import (
    Candidate,
    Fit,
    Limits,
    averaging,
    deployment,
    entry,
    finish,
    fit,
    forms,
    is_begun,
    race_plan,
    race_run,
    read_fit,
    steps,
    trainings,
)
from compoundnet.fit.held_out import HeldOutComparison
from compoundnet.fit.in_time import TimeIsUpError
from compoundnet.fit.state import FIT_FILE, work_folder
from compoundnet.fit.trainings import Trainings
from compoundnet.models import open_folder
from compoundnet.train import Watcher, evaluate
from compoundnet.train.engine import Engine
from compoundnet.train.interruptions import InterruptedRunError


@pytest.fixture(scope="module", autouse=True)
def race_of_few_images() -> Iterator[None]:
    """Race although only 18 images are held out, and for ten epochs; train the winner once."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (entry, finish):
            patch.setattr(module, "LEAST_HELD_OUT", 18)
        patch.setattr(trainings, "LEAST_STEPS", 1)
        patch.setattr(averaging, "MOST", 1)
        yield


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Fit, list[str], list[str], list[str]]:
    """A fit with a race of two small models; which splits were evaluated, and what was said."""
    folder = tmp_path_factory.mktemp("race")
    models, notes, evaluated = write_models(folder), list[str](), list[str]()

    def counting(model: object, data: Dataset, **options: object) -> object:
        evaluated.append(str(options.get("split") or data.evaluation))
        return evaluate(model, data, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        for module in (deployment, forms):
            patch.setattr(module, "evaluate", counting)
        patch.setattr(steps, "_SCREEN", 1.0)  # or a busy machine would go on screening in the second call
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
    assert "the stem and the first 2 stages stay as they were pretrained: that saves time" in found.notes
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
    monkeypatch.setattr(trainings, "train", again)
    monkeypatch.setattr(forms, "export", again)
    monkeypatch.setattr(deployment, "evaluate", again)
    # Nor is it asked whether to start what was begun.
    after = fit(images(), folder / "best", models=models, seconds=300, confirm=again)  # type: ignore[arg-type]
    assert after.answer == before.answer and after.rungs == before.rungs


def test_a_race_that_was_begun_needs_no_terminal(
    raced: tuple[Path, Fit, list[str], list[str], list[str]], tmp_path: Path
) -> None:
    place, data, models = raced[0] / "best", images(), raced[2]
    begun = functools.partial(is_begun, data, models=models)
    assert begun(place, Limits(), 300.0)
    assert not begun(place, Limits(), 600.0) and not begun(place, Limits(max_latency=9), 300.0)
    assert not begun(place, Limits(), 300.0, seed=1), "another seed trains everything anew"
    assert not begun(tmp_path / "best", Limits(), 300.0)
    assert not is_begun(images(seed=5), place, Limits(), 300.0, models=models), "of other images nothing is used"
    assert not begun(place, Limits(), 300.0, threads=2) and not begun(place, Limits(), 300.0, format="torch")
    assert not is_begun(data, place, Limits(), 300.0, models=["efficientnet-lite0"]), "the answer's model is missing"
    shutil.copytree(raced[0], tmp_path, dirs_exist_ok=True)
    other = dict.fromkeys(models, "of another training")
    state = msgspec.structs.replace(raced[1], weights=other)
    (tmp_path / "best.fit" / FIT_FILE).write_bytes(msgspec.json.encode(state))
    assert not begun(tmp_path / "best", Limits(), 300.0), "the models have other weights"


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ((0, 0), None),
        ((1, 1), "the stem and the first stage stay as they were pretrained: that saves time"),
        ((2, 3), "the stem and the stages whose maps have a quarter of the image's side or more stay as they were"),
        ((2, 0), "that saves time; networks with inherited weights are trained throughout"),
    ],
)
def test_what_is_not_trained_is_said(stages: tuple[int, ...], said: str | None) -> None:
    found = race_run._frozen(stages)
    assert found is None if said is None else found is not None and said in found


_NO_MEMORY = "there is not enough memory to train; give smaller models as --candidate"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (CompoundNetError("the storage is lost"), "the storage is lost"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), _NO_MEMORY),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"), _NO_MEMORY),
        (MemoryError(), _NO_MEMORY),
    ],
)
def test_what_fails_in_a_race_leaves_the_best_probe(
    raced: tuple[Path, Fit, list[str], list[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    error: Exception, said: str,
) -> None:  # fmt: skip
    """Whatever it is; and the answer is judged."""

    def fail(*_: object) -> object:
        raise error

    monkeypatch.setattr(Engine, "run", fail)
    found = fit(images(), tmp_path / "best", models=raced[2][:1], seconds=300)
    assert found.answer is not None and not found.answer.fine_tuned and found.answer.result is not None
    assert f"the answer is the probe: fine-tuning has failed: {said}" in found.notes
    assert found.answer.candidate == found.ranking[0].candidate


def test_a_fault_in_a_race_is_not_hidden(
    raced: tuple[Path, Fit, list[str], list[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> object:
        raise RuntimeError("a size mismatch")

    monkeypatch.setattr(Engine, "run", fail)
    with pytest.raises(RuntimeError, match="a size mismatch"):
        fit(images(), tmp_path / "best", models=raced[2][:1], seconds=300)


def test_a_network_that_is_as_good_as_that_of_an_earlier_race_is_deployed(
    raced: tuple[Path, Fit, list[str], list[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same candidate, with as many of the same held-out images right: it is another training all the same."""
    monkeypatch.setattr(HeldOutComparison, "better", lambda *_: True)
    before = fit(images(), tmp_path / "best", models=raced[2][:1], seconds=300)
    assert before.answer is not None and before.answer.training
    earlier = msgspec.structs.replace(before.answer, training="another", size_bytes=1)
    state = msgspec.structs.replace(before, answer=earlier)
    (tmp_path / "best.fit" / FIT_FILE).write_bytes(msgspec.json.encode(state))
    after = fit(images(), tmp_path / "best", models=raced[2][:1], seconds=300).answer
    assert after is not None and (after.training, after.size_bytes) == (
        before.answer.training, before.answer.size_bytes
    )  # fmt: skip


def test_after_the_race_one_training_has_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def finish(job: object, state: Fit, trainings: Trainings, costs: object) -> Any:
        seen.append(trainings.threads)
        return SimpleNamespace(run=lambda _: None, state=state, winner=None)

    monkeypatch.setattr(race_run, "Finish", finish)
    of_four_workers = Trainings(images(), Path("trainings"), {}, frozenset(), default_threads() + 3, 0.0)
    race_run.RaceRun(UNUSED, UNUSED, UNUSED)._finish([], of_four_workers, {})
    assert seen == [default_threads()]


def test_other_images_are_trained_on_anew(
    raced: tuple[Path, Fit, list[str], list[str], list[str]], tmp_path: Path
) -> None:
    """As many of the same names; the trainings of the first ones are kept, in case the folder was a mistake."""
    folder, before, models, _, _ = raced
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    said: list[str] = []
    after = fit(images(seed=5), tmp_path / "best", models=models, seconds=300, notify=said.append)
    assert any("holds results of other images" in line for line in said)
    assert after.plan is not None and any(" epochs: " in line for line in said)
    winner, winners = after.rungs[-1].results[0][0], before.rungs[-1].results[0][0]
    for found, best in ((before, winners), (after, winner)):
        names = [path.name for path in (work_folder(tmp_path / "best", found.identity) / "trainings").iterdir()]
        assert any(name.startswith(best.key) for name in names)


def test_a_trained_model_is_named_by_its_candidate(raced: tuple[Path, Fit, list[str], list[str], list[str]]) -> None:
    folder, found, _, notes, _ = raced
    assert found.plan is not None
    winner = found.rungs[-1].results[0][0]
    starts, place = {winner.key: open_folder(winner.model)}, work_folder(folder / "best", found.identity) / "trainings"
    made = Trainings(
        images(), place, starts, frozenset(), 1, time.time() + 1000, length=found.plan.length,
        held_out=found.plan.held_out,
    )  # fmt: skip
    assert made.place(winner).exists()
    assert made.finish(winner, notes.append).name == f"{winner}, fine-tuned"


def test_a_training_pauses_and_goes_on(
    raced: tuple[Path, Fit, list[str], list[str], list[str]], tmp_path: Path
) -> None:
    model = raced[2][0]
    one = msgspec.structs.replace(raced[1].ranking[0].candidate, model=model, resolution=32)
    made = Trainings(images(), tmp_path, {one.key: open_folder(model)}, frozenset(), 1, time.time() + 1000)
    steps: list[int] = []

    class Counting(Watcher):
        def stepped(self, step: int, loss: float) -> None:
            steps.append(step)

    made.train_until(one, 2, Counting())
    first, steps = len(steps), []
    later = made.train_until(one, 4, Counting())
    assert (later.epochs, later.epochs_now) == (4, 2), "what a race takes is that of the epochs that were trained now"
    assert first > 0 and steps[0] == first + 1, "it went on from its checkpoint"
    steps = []
    once_more = made.train_until(one, 4, Counting())
    assert (once_more.accuracy, once_more.epochs_now) == (later.accuracy, 0) and steps == []
    with pytest.raises(TimeIsUpError, match="the time was up after step"):
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
    disturbed, estimate = [1e6], Trainings.estimate
    with pytest.MonkeyPatch.context() as patch:  # estimated again, since other work makes times only longer
        patch.setattr(Trainings, "estimate", lambda *given: disturbed.pop() if disturbed else estimate(*given))
        calm = again(refuse)
    assert not disturbed and "the answer is the probe: fine-tuning was not confirmed" in calm.notes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainings, "train_until", stopped)
        interrupted = again()
    assert "the answer is the probe: fine-tuning was stopped; the same command goes on" in interrupted.notes
    assert (tmp_path / "best.onnx").exists() and interrupted.finished
    after = again()
    assert after.rungs and not any("was stopped" in note for note in after.notes)


def test_of_unequal_classes_the_error_is_that_of_the_mean_per_class(
    raced: tuple[Path, Fit, list[str], list[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 30, 20 and 3 images, 6, 4 and 1 are held out: as many as 9 / (1 / 6 + 1 / 4 + 1), not 11."""
    dataset = images()
    train = dataset.split("train")
    chosen = np.concatenate([np.flatnonzero(train.labels == label)[:count] for label, count in enumerate((30, 20, 3))])
    unequal = Dataset("unequal", {"train": train.subset(chosen), "test": dataset.split("test")})
    used: list[float] = []

    def larger_first(scores: Mapping[Candidate, float], told_by: float) -> list[Candidate]:
        used.append(told_by)
        return race_plan.larger_first(scores, told_by)

    monkeypatch.setattr(race_run, "larger_first", larger_first)
    monkeypatch.setattr(entry, "LEAST_HELD_OUT", 10)
    fit(unequal, tmp_path / "best", models=raced[2], seconds=300)
    assert used and used == pytest.approx([9 / (1 / 6 + 1 / 4 + 1)] * len(used))
