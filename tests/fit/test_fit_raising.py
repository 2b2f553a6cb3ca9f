"""The resolution of the answer: which higher ones are tried, which is taken, and what is deployed."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fit_jobs import fit_job
from grey_images import images, write_models
from numpy.typing import NDArray

from compoundnet.data import Split
from compoundnet.fit import Fit, Limits, Screened, raising
from compoundnet.fit.candidates import Candidate, measured
from compoundnet.fit.finish import Finish
from compoundnet.fit.forms import Finalist
from compoundnet.fit.raising import Raised, raise_resolution
from compoundnet.fit.starts import StartingModels
from compoundnet.fit.state import Answer, HeldOut
from compoundnet.fit.trainings import Trainings
from compoundnet.models import ModelFolder, open_folder
from compoundnet.runtime import Embedder

# Of 90 training images; its own resolution is 48 px, and 64 px the highest that is tried.
RIGHT = {48: 60, 56: 70, 64: 65}


@pytest.fixture
def model(tmp_path: Path) -> ModelFolder:
    opened = open_folder(write_models(tmp_path / "models")[1])
    return msgspec.structs.replace(opened, preprocess=msgspec.structs.replace(opened.preprocess, size=48))


@pytest.fixture
def trained(model: ModelFolder) -> Screened:
    return Screened(at(model, 48), 9.9, 0.5)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sides that are timed: about a tenth of a millisecond for each pixel of a side, faster than in the screen."""
    asked: list[int] = []

    def latency(embedder: Embedder, _: int) -> float:
        asked.append(embedder.preprocess.size)
        return {48: 4.4, 56: 5.6, 64: 6.4}[asked[-1]]

    monkeypatch.setattr(raising, "network_latency", latency)
    return asked


@pytest.fixture
def right(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """How many images are right at each side."""
    scores = dict(RIGHT)
    monkeypatch.setattr(
        raising, "right_by_network", lambda model, split: np.arange(len(split)) < scores[model.preprocess.size]
    )
    return scores


def at(model: ModelFolder, side: int) -> Candidate:
    return measured("m", model.network, side, model.network.num_classes)


def raised(
    trained: Screened, model: ModelFolder, limits: Limits, answer: Answer | None = None
) -> tuple[Raised | None, list[str]]:
    state, said = Fit("greys", "", "", limits, 1, "", answer=answer), list[str]()
    held, train = images().split("test"), images().split("train")
    return raise_resolution(trained, model, model.network, held, train, state, said.append), said


@pytest.mark.parametrize(
    ("limit", "asked", "taken"),
    [
        (100.0, [48, 64], 56),
        (6.5, [48, 64, 56], 56),  # 64 px take 6.4 ms, closer to the limit than 3 %
        (5.7, [48, 56], None),  # 64 px, predicted by multiply-adds, are not timed
        (4.0, [48], None),
        (None, [], 56),
    ],
)
def test_the_best_of_those_within_the_budget_is_taken(
    trained: Screened, model: ModelFolder, timed: list[int], right: dict[int, int], limit: float | None,
    asked: list[int], taken: int | None,
) -> None:  # fmt: skip
    found, said = raised(trained, model, Limits(max_latency=limit))
    assert timed == asked
    if taken is None:
        assert found is None and said == []
        return
    assert found is not None and found.screened.candidate == at(model, taken)
    assert found.screened.accuracy == 0.5, "that of the probe of 48 px"
    assert int(found.right.sum()) == 30 and len(found.right) == 30, "of the held-out images"
    (line,) = said
    assert line.startswith("m at 48 px at higher resolutions that fit: of 90 training images 66.7% at 48 px, 77.8% at")
    assert line.endswith("so 56 px are taken")
    assert ("72.2% at 64 px" in line) == ((64 in asked and 56 not in asked) or limit is None)


def test_what_is_below_one_that_was_timed_is_predicted_by_it(
    trained: Screened, model: ModelFolder, timed: list[int], right: dict[int, int]
) -> None:
    found, _ = raised(trained, model, Limits(max_latency=100.0))
    assert found is not None and timed == [48, 64]
    assert found.screened.latency == pytest.approx(6.4 * at(model, 56).macs / at(model, 64).macs)


def test_of_equals_the_highest_is_taken_and_the_own_if_none_is_as_good(
    trained: Screened, model: ModelFolder, timed: list[int], right: dict[int, int]
) -> None:
    right.update(dict.fromkeys(right, 60))
    found, said = raised(trained, model, Limits(max_latency=100.0))
    assert found is not None and found.screened.candidate.resolution == 64
    right[48] = 61
    found, said = raised(trained, model, Limits(max_latency=100.0))
    assert found is None and said[0].endswith("66.7% at 64 px are right, so that of training stays")


def test_it_is_judged_on_a_thousand_images_at_the_most(
    trained: Screened, model: ModelFolder, timed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def right(_: ModelFolder, split: Split) -> NDArray[np.bool_]:
        asked.append(len(split))
        return np.asarray(np.arange(len(split)) % 2 == 0)

    monkeypatch.setattr(raising, "right_by_network", right)
    held, said, state = images(test=1200).split("test"), list[str](), Fit("greys", "", "", Limits(), 1, "")
    found = raise_resolution(trained, model, model.network, held, held, state, said.append)
    assert found is not None and len(found.right) == 1200
    assert asked == [1000, 1000, 1000, 1200] and "of 1,000 held-out training images 50.0% at 48 px" in said[0]


def test_other_bounds_hold_too(trained: Screened, model: ModelFolder, timed: list[int], right: dict[int, int]) -> None:
    found, _ = raised(trained, model, Limits(max_latency=100.0, max_macs=at(model, 56).macs))
    assert found is not None and timed == [48, 56]
    assert raised(trained, model, Limits(max_latency=100.0, max_macs=at(model, 48).macs)) == (None, [])
    assert raised(trained, model, Limits(min_accuracy=0.9)) == (None, []), "the cheapest is wanted"


def test_a_way_other_than_the_screens_is_predicted_by_its_ratio(
    trained: Screened, model: ModelFolder, timed: list[int], right: dict[int, int]
) -> None:
    one = msgspec.structs.replace(trained, candidate=trained.candidate.in_precision("int8"), latency=2.4)
    state = Fit("greys", "", "", Limits(max_latency=3.3), 1, "", ratios={" int8": 0.5})
    split = images().split("train")
    found = raise_resolution(one, model, model.network, split, split, state, lambda _: None)
    assert found is not None and found.screened.candidate == at(model, 56).in_precision("int8")
    assert timed == [48, 64], "3.2 ms, within the limit"


@pytest.mark.parametrize(
    ("side", "held_out", "asked"),
    [
        (64, HeldOut(1.0, 0.8, 30), []),
        (48, HeldOut(1.0, 0.8, 30), []),
        (64, HeldOut(0.9, 0.8, 30), [48, 64]),  # another network
        (64, None, [48, 64]),  # a probe
    ],
)
def test_an_answer_of_before_keeps_its_resolution(
    trained: Screened, model: ModelFolder, timed: list[int], right: dict[int, int], side: int,
    held_out: HeldOut | None, asked: list[int],
) -> None:  # fmt: skip
    answer = Answer(at(model, side), "best", "best.onnx", held_out is not None, 0.5, 6.0, 1, None, held_out=held_out)
    found, said = raised(trained, model, Limits(max_latency=100.0), answer)
    assert timed == asked and bool(said) == bool(asked)
    if not asked:
        expected = None if side == 48 else Screened(at(model, 64), 6.0, 0.5)
        assert (None if found is None else found.screened) == expected


def test_the_winner_is_deployed_at_it(
    tmp_path: Path, model: ModelFolder, trained: Screened, timed: list[int], right: dict[int, int]
) -> None:
    """Judged on the held-out images at the new resolution; in a reduced precision it must be better than at its own."""
    train, held = images().split("train"), images().split("test")
    starts = StartingModels({"m": model}, train, tmp_path / "inherited")
    state = Fit("greys", "", "", Limits(max_latency=100), 1, "", screened=(trained,))
    trainings = Trainings(images(), tmp_path / "trainings", {}, frozenset(), 1, time.time() + 100)
    made = Finish(fit_job(seconds=100.0, starts=starts), state, trainings, {})
    right[56] = 89
    finalist = made._at_best_resolution(trained.candidate, model, held, HeldOut(0.9, 0.8, len(held)))
    assert finalist.screened.candidate == at(model, 56)
    assert finalist.held_out == HeldOut(1.0, 0.8, len(held)) and finalist.instead == 0.9
    in_int8 = msgspec.structs.replace(trained, candidate=trained.candidate.in_precision("int8"))
    made.state = msgspec.structs.replace(made.state, screened=(in_int8,))
    finalist = made._at_best_resolution(in_int8.candidate, model, held, HeldOut(0.9, 0.8, len(held)))
    assert finalist.screened.candidate == at(model, 56).in_precision("int8")
    assert finalist.instead == 0, "which is lost at the other resolution too"
    made.state = msgspec.structs.replace(made.state, screened=(trained,))
    assert any("so 56 px are taken" in note for note in made.state.notes)
    late = Finish(fit_job(seconds=-1.0, starts=starts), state, trainings, {})
    assert late._at_best_resolution(trained.candidate, model, held, HeldOut(0.9, 0.8, len(held))).screened == trained
    assert late.state.notes == ("the time is up, so no higher resolution is tried",)
    right[48] = 90
    finalist = made._at_best_resolution(trained.candidate, model, held, HeldOut(0.9, 0.8, len(held)))
    assert finalist.screened == trained and (finalist.held_out, finalist.instead) == (HeldOut(0.9, 0.8, len(held)), 0.0)


@pytest.mark.parametrize(
    ("on_all", "precision", "expected"), [(False, "float32", 0.727), (True, "float32", 0.627), (False, "int8", 0.627)]
)
def test_what_a_network_must_keep_in_a_reduced_precision(
    tmp_path: Path, model: ModelFolder, trained: Screened, on_all: bool, precision: str, expected: float
) -> None:
    """As accurate as the probe, 24 of 30 images, less its standard error, or within its 95 % interval where it is not
    judged alike."""
    one = msgspec.structs.replace(trained, candidate=trained.candidate.in_precision(precision))
    starts = StartingModels({"m": model}, images().split("train"), tmp_path / "inherited")
    state = Fit("greys", "", "", Limits(max_latency=100), 1, "", screened=(one,))
    trainings = Trainings(images(), tmp_path / "trainings", {}, frozenset(), 1, time.time() + 100)
    made = Finish(fit_job(seconds=100.0, starts=starts), state, trainings, {})
    finalist = Finalist(one, images().split("test"), fine_tuned=True, held_out=HeldOut(0.9, 0.8, 30), on_all=on_all)
    assert made._of_probe(finalist) == pytest.approx(expected, abs=1e-3)
