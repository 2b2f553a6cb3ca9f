"""The final form of an answer: where int8 loses too much, the layers that lose most stay in float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from outlier_model import LABELS, images, write_outlier_model

from compoundnet import runtime
from compoundnet.base import CompoundNetError, UnwritableError
from compoundnet.data import Dataset, Split
from compoundnet.data.sources import Arrays
from compoundnet.fit import Limits, Screened, forms
from compoundnet.fit.candidates import Candidate
from compoundnet.fit.deployment import copied, deploy
from compoundnet.fit.forms import Finalist, Form, excess_of
from compoundnet.fit.limits import drops
from compoundnet.fit.state import Answer, Fit
from compoundnet.models import ModelFolder
from compoundnet.runtime import Export
from compoundnet.runtime.timing.rounds import Latency


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return write_outlier_model(tmp_path_factory.mktemp("outlier") / "model")


@pytest.fixture(scope="module")
def dataset(model: ModelFolder) -> Dataset:
    """Images with the classes that the model predicts in float32."""
    predictor = runtime.Predictor(model, top=1, threads=1)
    labels = np.array([LABELS.index(predictor(image).label) for image in images()])
    pixels = np.stack([np.asarray(image) for image in images()])
    return Dataset("outliers", {"train": Split("train", tuple(LABELS), labels, Arrays("train", pixels))})


@pytest.fixture
def finalist(model: ModelFolder, dataset: Dataset) -> Finalist:
    """A candidate whose float32 was too large, so that only int8 is tried."""
    return Finalist(Screened(candidate(str(model.folder)), 1.0, 0.9), dataset.split("train"))


def candidate(model: str = "m") -> Candidate:
    return Candidate(model, 32, "int8", 10**6, 10**5, 10**5, 10**5)


def state(max_drop: float | None, **limits: float) -> Fit:
    return Fit("outliers", "", "", Limits(max_drop=max_drop, **limits), 1, "")  # type: ignore[arg-type]


def test_the_layers_that_lose_most_stay_in_float32(
    model: ModelFolder, dataset: Dataset, finalist: Finalist, tmp_path: Path
) -> None:
    answer, excess = deploy(finalist, copied(model, 32), state(0.1), dataset, tmp_path / "best")
    assert answer is not None, excess
    assert answer.float32_layers >= 1
    assert f"in int8, probe, {answer.float32_layers} layers in float32: " in answer.text()
    assert answer.drop is not None and answer.drop <= 0.1
    predictor = runtime.Predictor(tmp_path / "best.onnx", top=1, threads=1)
    right = [
        predictor(image).label == LABELS[label]
        for image, label in zip(images(), dataset.split("train").labels, strict=True)
    ]
    assert np.mean(right) == pytest.approx(1 - answer.drop)
    answer, excess = deploy(finalist, copied(model, 32), state(0.1, max_size=1000), dataset, tmp_path / "other")
    assert answer is None
    assert excess.startswith("it has ") and excess.endswith(" layers in float32")


def test_a_drop_that_holds_or_that_nothing_meets(
    model: ModelFolder, dataset: Dataset, finalist: Finalist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, _ = deploy(finalist, copied(model, 32), state(0.99), dataset, tmp_path / "holds")
    assert answer is not None and answer.float32_layers == 0

    from compoundnet.runtime.exports.quantise import OnnxQuantiser

    whole = OnnxQuantiser.write
    monkeypatch.setattr(OnnxQuantiser, "write", lambda quantiser, file, float32=(): whole(quantiser, file))
    answer, excess = deploy(finalist, copied(model, 32), state(0.1), dataset, tmp_path / "fails")
    assert answer is None
    assert "points of accuracy, more than --max-drop 10%" in excess
    assert not (tmp_path / "fails").exists() and not (tmp_path / "fails.onnx").exists()


def test_what_is_slow_because_the_machine_is_does_not_miss_its_budget(
    model: ModelFolder, dataset: Dataset, finalist: Finalist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file takes 10 ms, and the network of the screen, which took 2 ms then, 4 or 2 ms beside it."""
    own = msgspec.structs.replace(finalist.screened.candidate, precision="float32")
    screened = finalist._replace(screened=Screened(own, 2.0, 0.9))

    def deployed(before: float, target: Path) -> tuple[Answer | None, str]:
        def timed(calls: dict[str, Callable[[], object]]) -> dict[str, Latency]:
            for call in calls.values():
                call()
            took = {"": 10.0, "before": before}
            return {name: Latency(ms, ms, ms, ms, ms, 0.0, 1) for name, ms in took.items() if name in calls}

        monkeypatch.setattr(forms, "time_calls", timed)
        return deploy(screened, copied(model, 32), state(0.9, max_latency=6), dataset, target)

    answer, _ = deployed(4.0, tmp_path / "slower")
    assert answer is not None and (answer.latency, answer.slower) == (5.0, 2.0)
    assert "5 ms (10 now, as this machine is 2.00 times slower than when it was screened)" in answer.text()
    answer, excess = deployed(2.0, tmp_path / "as before")
    assert answer is None and excess.startswith("it takes 10 ms")


def test_layers_are_not_looked_for_when_the_time_is_up(
    model: ModelFolder, dataset: Dataset, finalist: Finalist, tmp_path: Path
) -> None:
    answer, excess = deploy(finalist, copied(model, 32), state(0.1), dataset, tmp_path / "late", until=0.0)
    assert answer is None
    assert excess.endswith("more than --max-drop 10%, and there is no time to look for layers that stay in float32")


@pytest.mark.parametrize(("instead", "taken"), [(0.0, True), (0.9, False)])
def test_without_a_bound_int8_is_weighed_against_what_would_be_the_answer(
    model: ModelFolder, dataset: Dataset, finalist: Finalist, tmp_path: Path, instead: float, taken: bool
) -> None:
    finalist = finalist._replace(instead=instead)
    answer, excess = deploy(finalist, copied(model, 32), state(None), dataset, tmp_path / "best", until=0.0)
    assert (answer is not None) == taken
    if answer is None:
        assert excess.startswith("it loses ") and excess.endswith("where another has 90.0%")
        return
    assert answer.drop is not None and answer.drop > 0.1 and answer.float32_layers == 0
    lost = f"{100 * answer.drop:.1f} points lost in int8 (there is no time to look for layers that stay in float32), "
    assert f"90.0% cross-validated, {lost}" in answer.text()


def test_a_precision_that_is_only_faster_must_not_lose_a_point() -> None:
    form = Form("int8", export=cast(Export, SimpleNamespace(bytes=10, floor=None)), latency=1.0, slower=1.0, drop=0.02)
    chosen = Finalist(Screened(candidate(), 1.0, 0.9), cast(Split, None), instead=0.5)
    limits = Limits(min_accuracy=0.5)
    assert excess_of(form, chosen, limits, optional=False) is None
    assert excess_of(form, chosen, limits, optional=True) == "loses 2.0 points of accuracy, more than 1%"
    bounded = excess_of(form, chosen, Limits(max_drop=0.015), optional=False)
    assert bounded == "loses 2.0 points of accuracy, more than --max-drop 1.5%"
    # What is only faster must keep the accuracy that suffices, if float32 has it.
    for accuracy, less in ((0.515, True), (0.525, False), (0.49, False)):
        near = Finalist(Screened(candidate(), 1.0, accuracy), cast(Split, None))
        some = form._replace(drop=0.02)
        found = excess_of(some, near, Limits(min_accuracy=0.5, max_drop=0.05), optional=True)
        assert (found == "loses 2.0 points of accuracy, which leaves 49.5%, less than --min-accuracy 50.0%") == less
        assert (found is None) != less
        assert excess_of(some, near, Limits(min_accuracy=0.5, max_drop=0.05), optional=False) is None
    # A point is as good as float32, whatever comes next.
    little = form._replace(drop=0.01)
    assert excess_of(little, chosen._replace(instead=0.899), Limits(), optional=False) is None
    assert excess_of(form, chosen._replace(instead=0.881), Limits(), optional=False) == (
        "loses 2.0 points of accuracy, which leaves 88.0%, where another has 88.1%"
    )


@pytest.mark.parametrize("max_drop", [None, 0.1])
def test_where_no_layers_are_enough_it_is_said(
    model: ModelFolder, dataset: Dataset, finalist: Finalist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    max_drop: float | None,
) -> None:  # fmt: skip
    def refused(*arguments: Any, **options: Any) -> Any:
        if "max_drop" in options:
            raise CompoundNetError("int8 loses more")
        return exported(*arguments, **options)

    exported = runtime.export
    monkeypatch.setattr(forms, "export", refused)
    answer, excess = deploy(finalist, copied(model, 32), state(max_drop), dataset, tmp_path / "best")
    said = "no choice of layers that stay in float32 is enough"
    if max_drop is not None:
        assert answer is None and excess.endswith(f"more than --max-drop 10%, and {said}")
    else:
        assert answer is not None and answer.layers_sought and f"lost in int8 ({said})" in answer.text()


def test_a_full_disk_is_not_taken_for_layers_that_lose_too_much(
    model: ModelFolder, dataset: Dataset, finalist: Finalist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **options: Any) -> Any:
        if "max_drop" in options:
            raise UnwritableError("best.onnx: cannot be written: No space left on device")
        return exported(*arguments, **options)

    exported = runtime.export
    monkeypatch.setattr(forms, "export", full)
    with pytest.raises(UnwritableError, match="No space left"):
        deploy(finalist, copied(model, 32), state(None), dataset, tmp_path / "best")


@pytest.mark.parametrize("max_drop", [None, pytest.param(0.1, marks=pytest.mark.slow)])
def test_where_layers_in_float32_cost_too_much_the_file_without_them_is_taken(
    model: ModelFolder, dataset: Dataset, finalist: Finalist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    max_drop: float | None,
) -> None:  # fmt: skip
    """Unless a bound says that it loses too much."""
    monkeypatch.setattr(forms, "LITTLE", 0.1)
    whole, _ = deploy(finalist, copied(model, 32), state(0.99), dataset, tmp_path / "whole")
    mixed, _ = deploy(finalist, copied(model, 32), state(max_drop), dataset, tmp_path / "mixed")
    assert whole is not None and mixed is not None and mixed.float32_layers > 0
    assert mixed.drop is not None and mixed.drop <= 0.1
    monkeypatch.setattr(forms, "_costs", lambda form, _: "takes 9 ms" if form.float32_layers else None)
    answer, excess = deploy(finalist, copied(model, 32), state(max_drop), dataset, tmp_path / "plain")
    if max_drop is not None:
        assert answer is None and excess == "it takes 9 ms"
        return
    assert answer is not None, excess
    assert (answer.float32_layers, answer.size_bytes) == (0, whole.size_bytes) != (0, mixed.size_bytes)
    assert (tmp_path / "plain.onnx").stat().st_size == whole.size_bytes
    assert answer.no_layers == "the file takes 9 ms" and "lost in int8 (the file takes 9 ms)" in answer.text()
    answer, _ = deploy(finalist, copied(model, 32), state(max_drop), dataset, tmp_path / "mixed", until=0.0)
    assert answer is not None and not answer.layers_sought


def test_no_layers_stay_in_float32_on_a_microcontroller(
    model: ModelFolder, dataset: Dataset, finalist: Finalist, tmp_path: Path
) -> None:
    """Its bounds are those of a network that is int8 throughout."""
    answer, _ = deploy(finalist, copied(model, 32), state(0.99, max_flash=1e9), dataset, tmp_path / "whole")
    assert answer is not None and answer.float32_layers == 0
    answer, excess = deploy(finalist, copied(model, 32), state(0.1, max_flash=1e9), dataset, tmp_path / "bounded")
    assert answer is None and excess.endswith("points of accuracy, more than --max-drop 10%")
    answer, _ = deploy(finalist, copied(model, 32), state(None, max_sram=1e9), dataset, tmp_path / "free")
    assert answer is not None and answer.float32_layers == 0 and (answer.drop or 0) > 0.1


def test_a_drop_of_exactly_what_is_allowed() -> None:
    drop = 0.745 - 0.735
    assert drop > 0.01, "floats hold it inexactly"
    assert not drops(drop, 0.01) and drops(0.0101, 0.01)


def test_few_held_out_images_do_not_judge_a_precision(
    model: ModelFolder, dataset: Dataset, finalist: Finalist, tmp_path: Path
) -> None:
    held = dataset.split("train").subset(np.arange(2))
    answer, _ = deploy(finalist._replace(held=held), copied(model, 32), state(0.99), dataset, tmp_path / "best")
    assert answer is not None and answer.drop is not None
    assert answer.drop not in (0.0, 0.5, 1.0) and answer.drop * len(dataset.split("train")) % 1 < 1e-6
