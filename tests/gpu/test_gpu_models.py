"""A model on a GPU gives what it gives on the CPU: sessions, prediction, evaluation, maps, the command line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sample_images import write_classes, write_image
from small_train import CLASSES, small_dataset, small_network

import compoundnet as cn
from compoundnet.base import CompoundNetError
from compoundnet.models import ModelFolder, Preprocess, load, write_folder
from compoundnet.runtime import Failure, Predictor, export, session
from compoundnet.train import Hardware, evaluate, launch

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def full_float32() -> Iterator[None]:
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    network = small_network()
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "small"
    state = cn.build(network).state_dict()
    return write_folder(folder, network, state, Preprocess.authors(32), labels=CLASSES, readme="For tests.\n")


def images(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((count, 3, 32, 32), dtype=np.float32)


@pytest.mark.parametrize("backend", ["torch", "compile"])
def test_a_session_gives_the_logits_of_the_cpu(model: ModelFolder, backend: str) -> None:
    here, there = session(model, backend="torch"), session(model, backend=backend, device="cuda")
    for count in (1, 5):
        np.testing.assert_allclose(there(images(count)), here(images(count)), rtol=1e-3, atol=1e-4)


def test_a_session_of_a_module_on_the_gpu_leaves_it_there(model: ModelFolder) -> None:
    net = load(model).cuda()
    for device in ("cpu", "cuda"):
        found = session(net, backend="torch", device=device)(images(3))
        np.testing.assert_allclose(found, session(model, backend="torch")(images(3)), rtol=1e-3, atol=1e-4)
    assert all(tensor.is_cuda for tensor in net.state_dict().values())


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_an_archive_of_torch_export_runs_there(model: ModelFolder, tmp_path: Path, precision: str) -> None:
    export(model, tmp_path / "small.pt2", format="torch", precision=precision)
    found = session(tmp_path / "small.pt2", device="cuda")(images(2))
    np.testing.assert_allclose(found, session(model, backend="torch")(images(2)), rtol=2e-2, atol=2e-2)


def test_a_batch_that_does_not_fit_is_refused_in_words(model: ModelFolder) -> None:
    run = session(model, device="cuda")
    run(images(1))
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(64e6 / torch.cuda.get_device_properties(0).total_memory)
    try:
        with pytest.raises(CompoundNetError, match="a batch of 4096 does not fit the memory of cuda; give a smaller"):
            run(images(4096))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert run(images(1)).shape == (1, 3)


def test_predictions_and_evaluations_are_those_of_the_cpu(model: ModelFolder, tmp_path: Path) -> None:
    write_classes(tmp_path / "images", 4)
    paths = sorted((tmp_path / "images").rglob("*.jpg"))
    there, here = (list(Predictor(model, backend="torch", device=name).many(paths)) for name in ("cuda", "cpu"))
    for one, two in zip(there, here, strict=True):
        assert not isinstance(one, Failure) and not isinstance(two, Failure)
        assert [it.label for it in one.predictions] == [it.label for it in two.predictions]
        assert one.predictions[0].probability == pytest.approx(two.predictions[0].probability, abs=1e-4)
    results = [
        evaluate(model, small_dataset(), fabric=launch(hardware), workers=2)
        for hardware in (Hardware(devices=1, accelerator="gpu"), Hardware(devices=1, accelerator="cpu"))
    ]
    assert np.array_equal(results[0].confusion, results[1].confusion)
    assert results[0].result.count == 30


@pytest.mark.parametrize("method", ["cam", "gradcam"])
def test_a_module_on_the_gpu_is_explained_as_on_the_cpu(model: ModelFolder, tmp_path: Path, method: str) -> None:
    if method == "gradcam":
        pytest.importorskip("pytorch_grad_cam")
    image = write_image(tmp_path / "image.png", size=(60, 50))
    there = cn.Explainer(load(model).cuda(), method=method, preprocess=model.preprocess)(image)
    here = cn.Explainer(model, method=method, backend="torch")(image)
    for one, two in zip(there.maps, here.maps, strict=True):
        assert one.index == two.index
        np.testing.assert_allclose(one.grid, two.grid, rtol=1e-3, atol=1e-4)


def compoundnet(*arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "compoundnet", *map(str, arguments)],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Tensor Cores" not in done.stderr
    return done.stdout


def test_the_commands_run_there(tmp_path: Path) -> None:
    write_classes(tmp_path / "images", 12)
    network, model = tmp_path / "small.toml", tmp_path / "model"
    small_network().save(network)
    settings = ("epochs=0", "steps=2", "batch=8", "precision=bf16", "minival=0", "select=last")
    options = [word for setting in settings for word in ("--set", setting)]
    compoundnet(
        "train", tmp_path / "images", "--network", network, "--recipe", "imagenet", *options, "--accelerator", "gpu",
        "--workers", "2", "-o", model,
    )  # fmt: skip
    assert "top-1" in compoundnet("evaluate", model, tmp_path / "images", "--accelerator", "gpu")
    assert "cat" in compoundnet("predict", model, tmp_path / "images" / "cat" / "0.jpg", "--device", "cuda")
    compoundnet("explain", model, tmp_path / "images" / "cat" / "0.jpg", "-o", tmp_path / "maps")
    assert (tmp_path / "maps" / "maps.json").exists()
