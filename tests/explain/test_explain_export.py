"""Exported files that kept the feature map: equal to torch, and still models for everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from random_net import random_net, reduced, small_network

from compoundnet import nn, runtime
from compoundnet.base import CompoundNetError
from compoundnet.explain import Explainer
from compoundnet.models import Preprocess

LABELS = [f"class {index}" for index in range(10)]


@pytest.fixture(scope="module")
def net() -> nn.ConvNet:
    return random_net(small_network())


@pytest.fixture(scope="module")
def exported(net: nn.ConvNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("exported") / "with_cam.onnx"
    assert runtime.export(net, file, labels=LABELS, with_cam=True).features
    return file


def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 110, 3), dtype=np.uint8))


def test_its_second_output_is_the_feature_map(net: nn.ConvNet, exported: Path) -> None:
    import onnxruntime

    graph = onnx.load(exported).graph
    assert [value.name for value in graph.output] == ["logits", "features"]
    batch = np.random.default_rng(0).standard_normal((1, 3, 64, 64), dtype=np.float32)
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    logits, features = session.run(None, {"images": batch})
    with torch.inference_mode():
        expected = net.forward_features(torch.from_numpy(batch))
        wanted = net.forward_head(expected)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, wanted.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"dynamic_batch": True, "dynamic_size": True}])
def test_it_is_explained_as_the_network_is(options: dict[str, Any], net: nn.ConvNet, tmp_path: Path) -> None:
    runtime.export(net, tmp_path / "net.onnx", labels=LABELS, with_cam=True, **options)
    expected = Explainer(net, preprocess=Preprocess.authors(64), labels=LABELS)(image())
    found = Explainer(tmp_path / "net.onnx")(image())
    for shown, wanted in zip(found.maps, expected.maps, strict=True):
        assert (shown.label, shown.peak) == (wanted.label, wanted.peak)
        np.testing.assert_allclose(shown.grid, wanted.grid, rtol=1e-3, atol=1e-4)


def test_float16_is_explained_too(net: nn.ConvNet, tmp_path: Path) -> None:
    runtime.export(net, tmp_path / "half.onnx", precision="float16", with_cam=True)
    expected = Explainer(net, preprocess=Preprocess.authors(64))(image(), classes=["3"]).maps[0]
    shown = Explainer(tmp_path / "half.onnx")(image(), classes=["3"]).maps[0]
    assert np.abs(shown.grid - expected.grid).max() < 2e-2 * np.abs(expected.grid).max()


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_predict_and_sessions_take_it(backend: str, net: nn.ConvNet, exported: Path) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    batch = np.random.default_rng(0).standard_normal((2, 3, 64, 64), dtype=np.float32)
    with torch.inference_mode():
        wanted = net(torch.from_numpy(batch)).numpy()
    found = runtime.session(exported, backend=backend, threads=1)(batch)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert len(runtime.Predictor(exported, backend=backend)(image()).predictions) == 5


def test_only_onnx_in_floating_point_keeps_it(net: nn.ConvNet, tmp_path: Path) -> None:
    wishes: list[dict[str, Any]] = [{"format": "torch"}, {"precision": "int8", "calibrate": tmp_path}]
    for options in wishes:
        file = tmp_path / ("net.pt2" if "format" in options else "net.onnx")
        with pytest.raises(CompoundNetError, match="with-cam is for the format onnx in float32 or float16"):
            runtime.export(net, file, with_cam=True, **options)
    assert not list(tmp_path.iterdir())


def test_networks_without_class_activation_maps_are_exported_without_it(tmp_path: Path) -> None:
    net = random_net(reduced("mobilenet-v4-conv-small"))
    with pytest.raises(CompoundNetError, match=r"has no class activation maps.*leave with-cam out"):
        runtime.export(net, tmp_path / "net.onnx", with_cam=True)
    done = runtime.export(net, tmp_path / "net.onnx")
    assert done.difference is not None
    assert done.difference <= 1e-4 and not done.features
    with pytest.raises(CompoundNetError, match="has no gradients"):
        Explainer(tmp_path / "net.onnx")


def test_a_file_without_the_map_and_other_backends_are_told(net: nn.ConvNet, exported: Path, tmp_path: Path) -> None:
    runtime.export(net, tmp_path / "plain.onnx")
    with pytest.raises(CompoundNetError, match=r"plain\.onnx did not keep the feature map.*`compoundnet export --with"):
        Explainer(tmp_path / "plain.onnx")
    with pytest.raises(CompoundNetError, match="come from onnxruntime, not from torch"):
        Explainer(exported, backend="torch")
    with pytest.raises(CompoundNetError, match="has no gradients"):
        Explainer(exported, method="gradcam")
