"""What a fit makes of the results of an earlier call into the same output."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from grey_images import images, write_models

from compoundnet.base import CompoundNetError
from compoundnet.fit import Fit, Limits, fit, fit_folder, read_fit
from compoundnet.fit.state import FIT_FILE, work_folder
from compoundnet.models import open_folder
from compoundnet.models.weights_files import sha256_of


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def before(tmp_path: Path, models: list[str]) -> Fit:
    """A probe of the first model."""
    found = fit(images(), tmp_path / "best", models=models[:1])
    assert found.answer is not None and found.weights == {models[0]: sha256_of(open_folder(models[0]).weights)}
    return found


def keep(folder: Path, state: Fit) -> None:
    (folder / "best.fit" / FIT_FILE).write_bytes(msgspec.json.encode(state))


def test_a_budget_that_nothing_meets_leaves_the_answer_of_before(
    tmp_path: Path, models: list[str], before: Fit
) -> None:
    said: list[str] = []
    with pytest.raises(CompoundNetError, match="nothing fits"):
        fit(images(), tmp_path / "best", Limits(max_latency=1e-6), models=models[:1])
    assert read_fit(tmp_path / "best.fit") == before
    again = fit(images(), tmp_path / "best", models=models[:1], notify=said.append)
    assert again.answer == before.answer and not any("first answer" in line for line in said)


def test_a_model_with_other_weights_is_looked_at_anew(tmp_path: Path, models: list[str], before: Fit) -> None:
    keep(tmp_path, msgspec.structs.replace(before, weights={models[0]: "of another training"}))
    work, said = work_folder(tmp_path / "best", before.identity), list[str]()
    (work / "trainings").mkdir(parents=True, exist_ok=True)
    after = fit(images(), tmp_path / "best", models=models[:1], notify=said.append)
    assert f"{models[0]} had other weights before; starting anew" in said
    assert any("a first answer" in line for line in said) and not (work / "trainings").exists()
    assert after.weights == before.weights


def test_an_answer_of_a_model_that_is_no_candidate_now_is_left_out(
    tmp_path: Path, models: list[str], before: Fit
) -> None:
    said: list[str] = []
    after = fit(images(), tmp_path / "best", models=models[1:], notify=said.append)
    assert f"the answer of before is left out: {models[0]} is not among the models now" in said
    assert after.answer is not None and after.answer.candidate.model == models[1]
    assert set(after.weights) == set(models), "of one that is given again it is known whether it has changed"


def test_an_answer_is_found_from_another_working_folder(
    tmp_path: Path, models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = fit(images(), "best", models=models[:1])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    said: list[str] = []
    after = fit(images(), "../best", models=models[:1], notify=said.append)
    assert first.answer is not None and after.answer is not None
    assert (after.answer.model, after.answer.file) == ("../best", "../best.onnx")
    assert not any("first answer" in line for line in said)


def test_the_model_that_is_started_from_is_not_overwritten(tmp_path: Path, models: list[str], before: Fit) -> None:
    with pytest.raises(CompoundNetError, match="is the folder that the answer is written to: give another output"):
        fit(images(), tmp_path / "best", models=[models[1], str(tmp_path / "best")])
    assert read_fit(tmp_path / "best.fit") == before


def test_what_was_found_of_the_images_is_kept_with_another_budget(
    tmp_path: Path, models: list[str], before: Fit
) -> None:
    said: list[str] = []
    keep(tmp_path, msgspec.structs.replace(before, unreadable=("train/7",), flip=False))
    after = fit(images(), tmp_path / "best", Limits(max_params=10**9), models=models[:1], notify=said.append)
    assert (after.unreadable, after.flip) == (("train/7",), False)
    (left,) = [line for line in said if "left out" in line]
    assert left == "1 training image cannot be read and is left out: train/7" and left in after.notes


def test_to_replace_is_to_start_anew(tmp_path: Path, models: list[str], before: Fit) -> None:
    said: list[str] = []
    fit(images(), tmp_path / "best", models=models[:1], replace=True, notify=said.append)
    assert any("a first answer" in line for line in said) and not any("going on" in line for line in said)
    assert sum("cross-validated probe" in line for line in said) == len(before.screened)


def test_notes_of_an_earlier_call_alone_are_left_out(tmp_path: Path, models: list[str], before: Fit) -> None:
    keep(tmp_path, before.noted("a choice").noted("12 s are left, too short", passing=True))
    assert fit(images(), tmp_path / "best", models=models[:1]).notes == ("a choice",)
    for seconds in (0.01, 0.02):  # each says what it has no time for, once
        found = fit(images(), tmp_path / "best", models=models[:1], seconds=seconds)
        assert found.notes == ("a choice", "the answer is the probe: the time is up")
        assert found.passing == found.notes[1:]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, models: list[str]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CompoundNetError, match="file"):
        fit(images(), tmp_path / "file" / "best", models=models[:1])
    assert not fit_folder(tmp_path / "file" / "best").exists()
