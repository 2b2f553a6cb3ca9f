"""fit --format: a format that ONNX Runtime does not run has latencies of its own, by ratios to those of the screen."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from grey_images import images, write_models

from compoundnet.base import CompoundNetError
from compoundnet.fit import Fit, Limits, fit, screen_run
from compoundnet.fit.pace import Pace
from compoundnet.fit.ways import check_format, compare_ways, other_ways
from compoundnet.models import open_folder
from compoundnet.runtime.exports.formats import FORMATS

NO_LITERT = importlib.util.find_spec("litert_torch") is None


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """See `write_models`."""
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, models: list[str]) -> tuple[Path, Fit]:
    output = tmp_path_factory.mktemp("fit") / "best"
    return output, fit(images(), output, Limits(max_latency=1000), models=models, format="torch")


@pytest.mark.parametrize(
    "form",
    [
        pytest.param("onnx", marks=pytest.mark.slow),
        pytest.param("openvino", marks=pytest.mark.slow),
        "torch",
        pytest.param(
            "litert", marks=[pytest.mark.slow, pytest.mark.skipif(NO_LITERT, reason="litert-torch is not installed")]
        ),
    ],
)
def test_the_ways_that_are_compared(models: list[str], form: str) -> None:
    """ONNX Runtime in float32 is that of the screen; each other way has a ratio, the first of another format too."""
    ratios = compare_ways(open_folder(models[0]), 32, images(), form, 1)
    own = [] if form == "onnx" else [("", "float32")]
    assert list(ratios) == [f"{backend} {precision}" for backend, precision in [*own, *other_ways(form)]]
    assert all(ratio > 0 for ratio in ratios.values())


def test_the_answer_is_a_file_of_the_format(found: tuple[Path, Fit]) -> None:
    output, result = found
    answer = result.answer
    assert answer is not None and answer.file == f"{output}{FORMATS['torch'].suffix}" and Path(answer.file).exists()
    assert result.ratios[" float32"] > 0


@pytest.mark.parametrize(("form", "latency"), [("torch", 6.0), pytest.param("onnx", 2.0, marks=pytest.mark.slow)])
def test_latencies_are_those_of_the_format(
    models: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, latency: float
) -> None:
    """Each network takes 2 ms on ONNX Runtime, in which the screen times it, and three times as long in the format."""
    monkeypatch.setattr(screen_run, "network_latency", lambda *_: 2.0)
    monkeypatch.setattr(Pace, "time", lambda _, latency: latency())
    monkeypatch.setattr(screen_run, "compare_ways", lambda *_: {" float32": 3.0})
    result = fit(images(), tmp_path / "best", Limits(max_latency=1000), models=models, format=form)
    assert {one.latency for one in result.screened} == {latency}


@pytest.mark.slow
def test_another_format_is_timed_anew(found: tuple[Path, Fit], models: list[str]) -> None:
    output, before = found
    said: list[str] = []
    after = fit(images(), output, Limits(max_latency=1000), models=models, notify=said.append)
    assert f"{output}.fit holds latencies in the format torch; candidates are timed anew" in said
    assert after.answer is not None and after.answer.file == f"{output}.onnx"
    assert len(after.screened) == len(before.screened) and after.ratios == {}


def test_a_format_that_nothing_here_runs_is_written_afterwards() -> None:
    command = r"`compoundnet export BEST -o BEST\.mlpackage`"
    with pytest.raises(CompoundNetError, match=f"take another, and {command} afterwards"):
        check_format("coreml")


def test_a_format_that_is_not_known_names_those_that_are_timed(tmp_path: Path) -> None:
    """Before the images are looked at."""
    with pytest.raises(CompoundNetError, match=r"there is no format 'gguf'; known: litert, onnx, openvino, torch$"):
        fit(tmp_path / "none", tmp_path / "best", format="gguf")
    assert not list(tmp_path.iterdir())


def test_a_format_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    with pytest.raises(CompoundNetError, match=r"the format litert needs .*compoundnet\[litert\]"):
        check_format("litert")
