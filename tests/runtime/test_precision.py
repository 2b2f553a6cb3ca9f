"""Precisions of sessions: what runs here, what is refused and why, and what `auto` takes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest
from deep_images import write_deep
from numpy.typing import NDArray
from random_net import random_net, small_network
from sample_images import write_noise
from small_model import write_small_model
from typer.testing import CliRunner

from compoundnet import base, models, runtime
from compoundnet.base import image_values, machine
from compoundnet.cli.main import app
from compoundnet.models.tuning import Tuning
from compoundnet.runtime import session_source
from compoundnet.runtime.backends import precisions
from compoundnet.runtime.backends.choices import LEAST_IMAGES
from compoundnet.runtime.timing import fastest
from compoundnet.runtime.timing.rounds import Latency, summarise
from compoundnet.runtime.timing.throughput import throughput


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> models.ModelFolder:
    return write_small_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def exported(model: models.ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("files") / "small.onnx"
    runtime.export(model, file)
    return file


def images(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((count, 3, 32, 32), dtype=np.float32)


def timed(order: list[str]) -> Callable[..., dict[str, Latency]]:
    """`time_rounds` that finds the ways as fast as their order says, and others slower."""

    def rounds(calls: Mapping[str, object], **_: object) -> dict[str, Latency]:
        return {name: summarise([1.0 + order.index(name) if name in order else 99.0]) for name in calls}

    return rounds


def test_what_runs_here_begins_with_the_default() -> None:
    ways = [str(way) for way in runtime.runnable()]
    assert ways[:2] == ["onnxruntime float32", "onnxruntime int8"]
    assert ("openvino bfloat16" in ways) == (machine.has_bfloat16() and "openvino float32" in ways)
    assert not [way for way in ways if way.endswith("float16") and "bfloat16" not in way]


@pytest.mark.parametrize(
    ("backend", "precision", "message"),
    [
        (None, "bf16", "there is no precision 'bf16'; did you mean bfloat16"),
        (None, "float16", "does not run float16 on a CPU; it runs on torch or compile on a GPU"),
        ("onnxruntime", "bfloat16", "onnxruntime does not run bfloat16 on a CPU; it runs on openvino on a CPU, and on"),
        ("torch", "bfloat16", "torch does not run bfloat16 on a CPU"),
        ("torch", "int8", "torch does not run int8 on a CPU; it runs on onnxruntime or openvino on a CPU"),
        (None, "int8", "small has no int8 form: `compoundnet models tune"),
    ],
)
def test_a_precision_that_does_not_run_is_refused(
    backend: str | None, precision: str, message: str, model: models.ModelFolder
) -> None:
    with pytest.raises(base.CompoundNetError, match=message):
        runtime.session(model, backend=backend, precision=precision)


def test_bfloat16_needs_its_instructions(model: models.ModelFolder) -> None:
    pytest.importorskip("openvino")
    if machine.has_bfloat16():
        narrow = runtime.session(model, precision="bfloat16", threads=1)
        assert (narrow.backend, narrow.precision) == ("openvino", "bfloat16")
        wide = runtime.session(model, threads=1)
        difference = np.abs(narrow(images(4)) - wide(images(4))).max() / np.abs(wide(images(4))).max()
        assert 0 < difference < 0.05
    else:
        with pytest.raises(base.CompoundNetError, match="needs a processor with AMX or AVX512-BF16, and this one"):
            runtime.session(model, precision="bfloat16")


def test_a_file_keeps_its_precision(exported: Path) -> None:
    assert runtime.session(exported, threads=1).precision == "float32"
    with pytest.raises(base.CompoundNetError, match="holds float32 and does not run in int8: export the model with"):
        runtime.session(exported, precision="int8")


def test_a_narrow_file_has_one_precision(model: models.ModelFolder, tmp_path: Path) -> None:
    file = tmp_path / "half.onnx"
    runtime.export(model, file, precision="float16")
    message = "holds float16 and does not run in bfloat16: export the model with --precision float32, or"
    with pytest.raises(base.CompoundNetError, match=message):
        runtime.session(file, precision="bfloat16")
    choice = runtime.session(file, precision="auto", threads=1).choice
    assert choice is not None
    assert choice.text().endswith("; the file holds float16 and runs in no other precision")


def test_a_gpu_that_is_not_there_is_one_line(model: models.ModelFolder) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    for precision in (None, "bfloat16", "auto"):
        with pytest.raises(base.CompoundNetError, match="torch cannot use the device 'cuda' on this machine"):
            runtime.session(model, device="cuda", precision=precision)


def test_auto_without_a_check_stays_in_float32(
    exported: Path, model: models.ModelFolder, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever other precisions run; where none does, it says so."""
    monkeypatch.setattr(fastest, "time_rounds", timed(["openvino bfloat16", "torch float32"]))
    for probe in (None, lambda: images(LEAST_IMAGES - 1)):
        session = runtime.session(model, precision="auto", threads=1, images=probe)
        assert (session.precision, session.choice is not None) == ("float32", True)
        assert session.choice is not None
        assert session.choice.images == 0
        said = "unchecked precisions are not taken" if machine.has_bfloat16() else "no other precision than float32"
        assert said in session.choice.text()


def test_auto_takes_bfloat16_where_it_agrees_and_remembers_the_check(
    model: models.ModelFolder, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO emulates bfloat16 on processors without its instructions, on which it is refused otherwise."""
    pytest.importorskip("openvino")
    monkeypatch.setattr(precisions, "has_bfloat16", lambda: True)
    monkeypatch.setattr(fastest, "time_rounds", timed(["openvino bfloat16"]))
    unchecked = runtime.session(model, precision="auto", threads=1)
    assert unchecked.precision == "float32"
    assert unchecked.choice is not None
    assert "unchecked precisions are not taken" in unchecked.choice.text()
    session = runtime.session(model, precision="auto", threads=1, images=lambda: images(LEAST_IMAGES))
    assert session.choice is not None
    first = session.choice.candidates[0]
    assert (first.backend, first.precision, session.choice.images) == ("openvino", "bfloat16", LEAST_IMAGES)
    assert first.agreement is not None
    assert first.allowed == (first.agreement >= 0.99)
    assert session.precision == ("bfloat16" if first.allowed else "float32")
    assert f"agreement with float32 on {LEAST_IMAGES} images: " in session.choice.text()
    others = runtime.session(model, precision="auto", threads=1, images=lambda: images(2 * LEAST_IMAGES))
    assert others.choice == msgspec.structs.replace(session.choice, checked_on="images given earlier")
    assert f"agreement with float32 on {LEAST_IMAGES} images given earlier: " in others.choice.text()


@pytest.mark.parametrize("shards", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_precisions_are_compared_on_images_with_the_range_that_is_found(
    shards: bool, model: models.ModelFolder, tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`predict --precision auto` reads the images of the comparison as those that it predicts, those of all shards."""
    pytest.importorskip("openvino")
    if shards:
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(precisions, "has_bfloat16", lambda: True)
    monkeypatch.setattr(fastest, "time_rounds", timed(["openvino bfloat16"]))
    monkeypatch.setattr(image_values, "_warned", set())
    words = ["predict", str(model.folder), str(write_deep(tmp_path / "deep")), "--precision", "auto", "--threads", "1"]
    done = CliRunner().invoke(app, [*words, *(["-o", str(tmp_path / "out")] if shards else [])])
    assert done.exit_code == 0, done.output
    assert "0 to 4095 is assumed" in done.stderr
    assert "on 24 images" in done.stderr
    assert "dark" not in image_values._warned  # an image was read as 0 to 65535


def test_throughput_compares_precisions_too(
    model: models.ModelFolder, tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(precisions, "has_bfloat16", lambda: True)
    files = sorted(write_noise(tmp_path, LEAST_IMAGES).iterdir())
    done = throughput([str(model.folder)], precisions=("auto",), check_on=files, threads=1, batch=2, runs=1)
    (choice,) = done.choices
    assert (choice.images, choice.batch) == (LEAST_IMAGES, 2)


@pytest.mark.parametrize("precision", ["auto", None])
def test_auto_of_a_backend_that_is_not_installed_says_what_to_install(
    precision: str | None, model: models.ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a tuned model asks for it."""
    if precision is None:
        tuning = Tuning("data", 100, "weights", 0.99, ways=())
        monkeypatch.setattr(session_source, "read_tuning", lambda *_: tuning)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else find(name))
    with pytest.raises(base.CompoundNetError, match="the backend openvino needs openvino"):
        runtime.session(model, backend="openvino", precision=precision, threads=1)


def test_auto_in_memory_times_the_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastest, "time_rounds", timed(["torch float32"]))
    session = runtime.session(random_net(small_network()), precision="auto", threads=1)
    assert (session.backend, session.precision) == ("torch", "float32")
