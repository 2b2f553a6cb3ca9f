"""Class activation maps and Grad-CAM: the identities that define them, and where they point on known photos."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from known_photos import cat, need_lite0, package_file
from PIL import Image
from random_net import random_net, reduced
from small_model import write_small_model

from compoundnet import arch, models, runtime, zoo
from compoundnet.base import CompoundNetError
from compoundnet.explain import Explainer
from compoundnet.explain.methods import last_map

PHOTOS = tomllib.loads((Path(__file__).parent / "boxes.toml").read_text(encoding="utf-8"))["photos"]
FAMILIES = [
    "efficientnet-b0",
    "efficientnet-lite0",
    "efficientnet-edgetpu-s",
    "efficientnetv2-b0",
    "tinynet-c",
    "mobilenet-v2",
    "resnet-50",
]


@pytest.fixture(scope="module")
def lite0() -> Explainer:
    return Explainer(need_lite0(), threads=1)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> models.ModelFolder:
    return write_small_model(tmp_path_factory.mktemp("models") / "small")


def noise(width: int = 90, height: int = 60) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


# The identity.


def test_a_maps_mean_and_the_bias_are_the_logit_of_predict(lite0: Explainer) -> None:
    bias = models.load(need_lite0()).get_parameter("classifier.bias").detach().numpy()
    predicted = runtime.Predictor(need_lite0(), top=5, threads=1)(cat()).predictions
    found = lite0(cat(), top=5)
    for shown, expected in zip(found.maps, predicted, strict=True):
        assert float(shown.grid.mean()) + bias[shown.index] == pytest.approx(shown.logit, abs=1e-4)
        assert (shown.index, shown.label) == (expected.index, expected.label)
        assert shown.probability == pytest.approx(expected.probability, abs=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_identity_holds_for_every_family(name: str) -> None:
    net = random_net(reduced(name))
    how = models.Preprocess.authors(64)
    with torch.inference_mode():
        logits = net(torch.from_numpy(how.pixels(noise()))[None])[0]
    bias = net.get_parameter("classifier.bias").detach()
    for shown in Explainer(net, preprocess=how)(noise(), top=10).maps:
        assert shown.logit == pytest.approx(float(logits[shown.index]), rel=1e-4, abs=1e-4)
        assert float(shown.grid.mean()) + float(bias[shown.index]) == pytest.approx(shown.logit, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_a_model_explains_alike_on_every_backend(backend: str, small: models.ModelFolder) -> None:
    expected = Explainer(models.load(small), preprocess=small.preprocess, labels=small.labels)(noise()).maps
    for shown, wanted in zip(Explainer(small, backend=backend)(noise()).maps, expected, strict=True):
        assert (shown.label, shown.peak) == (wanted.label, wanted.peak)
        np.testing.assert_allclose(shown.grid, wanted.grid, rtol=1e-4, atol=1e-5)


# Grad-CAM.


@pytest.mark.parametrize("photo", [cat, lambda: package_file("skimage", "data/coffee.png")])
def test_cam_is_grad_cam_up_to_a_positive_factor(lite0: Explainer, photo: Any) -> None:
    pytest.importorskip("pytorch_grad_cam")
    by_gradients = Explainer(need_lite0(), method="gradcam", threads=1)(photo(), top=3).maps
    for shown, other in zip(lite0(photo(), top=3).maps, by_gradients, strict=True):
        assert shown.index == other.index
        positive = np.maximum(shown.grid, 0)
        assert np.corrcoef(positive.ravel(), other.grid.ravel())[0, 1] > 0.999
        assert positive.max() / other.grid.max() > 0
        assert shown.peak == other.peak


def test_grad_cam_takes_the_comparison_networks() -> None:
    pytest.importorskip("pytorch_grad_cam")
    torch.manual_seed(0)
    module = zoo.network("densenet-169").build(num_classes=5).eval()
    found = Explainer(module, method="gradcam", preprocess=models.Preprocess.authors(64))(noise(), top=2)
    assert [shown.label for shown in found.maps] == [str(shown.index) for shown in found.maps]
    for shown in found.maps:
        assert shown.grid.ndim == 2
        assert np.isfinite(shown.grid).all()
        assert shown.grid.min() >= 0
    assert max(float(shown.grid.max()) for shown in found.maps) > 0


def test_grad_cam_leaves_the_module_as_it_was() -> None:
    pytest.importorskip("pytorch_grad_cam")
    net = random_net(reduced("resnet-50")).eval()
    Explainer(net, method="gradcam", preprocess=models.Preprocess.authors(64))(noise())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())


def test_the_last_map_is_what_the_pool_reads() -> None:
    net = random_net(reduced("efficientnet-b0")).eval()
    assert last_map(net, 64) is net.head
    with pytest.raises(CompoundNetError, match="Flatten makes no feature map of 64 px images"):
        last_map(torch.nn.Flatten(), 64)


# Known photos.


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda photo: photo["class"])
def test_the_peak_lies_on_the_object(lite0: Explainer, photo: dict[str, Any]) -> None:
    path = package_file(photo["package"], photo["file"])
    (shown,) = lite0(path, classes=[photo["class"]]).maps
    x, y = shown.peak
    assert any(left <= x < right and top <= y < bottom for left, top, right, bottom in photo["boxes"]), shown.peak


def test_ten_photos_and_the_cat_have_boxes() -> None:
    assert len({photo["file"] for photo in PHOTOS}) == 11


# Asking for classes.


def test_classes_are_asked_for_by_label_or_number(small: models.ModelFolder) -> None:
    explainer = Explainer(small)
    found = explainer(noise(), classes=["CLASS 3", "0"])
    assert [shown.label for shown in found.maps] == ["class 3", "class 0"]
    assert len(found.predictions) == 3
    with pytest.raises(CompoundNetError, match=r"no class 'klass 3'; did you mean class 3.*numbers, 0 to 6"):
        explainer(noise(), classes=["klass 3"])
    with pytest.raises(CompoundNetError, match="no class '7'"):
        explainer(noise(), classes=["7"])
    with pytest.raises(CompoundNetError, match="top must be at least 1, got 0"):
        explainer(noise(), top=0)


def test_labels_that_differ_by_case_alone_are_told_apart() -> None:
    labels = ["A", "a", "b", "b", *map(str, range(6))]
    letters = Explainer(random_net(reduced("efficientnet-b0")), preprocess=models.Preprocess.authors(64), labels=labels)
    assert [letters.index(name) for name in ("A", "a", "B", "b")] == [0, 1, 2, 2]
    image = Image.new("RGB", (64, 64))
    assert [one.index for one in letters(image, classes=["a", 3]).maps] == [1, 3]
    with pytest.raises(CompoundNetError, match="has no class 10: classes have numbers from 0 to 9"):
        letters(image, classes=[10])


def test_a_model_of_few_classes_has_no_more_maps(small: models.ModelFolder) -> None:
    assert len(Explainer(small)(noise(), top=50).maps) == 7


def test_an_explainer_says_what_it_is(small: models.Model) -> None:
    assert repr(Explainer(small)) == "<Explainer of small: cam, 7 classes, 32 px>"
    other = Explainer(torch.nn.Conv2d(3, 3, 1), method="gradcam", preprocess=models.Preprocess.authors(32))
    assert repr(other) == "<Explainer of Conv2d: gradcam, 32 px>"


# What cannot be explained.


def test_what_cannot_be_explained_is_told(small: models.ModelFolder, tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match="no method 'gradcm'; did you mean gradcam"):
        Explainer(small, method="gradcm")
    with pytest.raises(CompoundNetError, match="from onnxruntime or torch, not from a backend 'openvino'"):
        Explainer(small, backend="openvino")
    with pytest.raises(CompoundNetError, match="only the backend torch has, not onnxruntime"):
        Explainer(small, method="gradcam", backend="onnxruntime")
    with pytest.raises(CompoundNetError, match="reads 1 channels and predicts 7 classes"):
        Explainer(write_small_model(tmp_path / "grey", in_channels=1))
    with pytest.raises(CompoundNetError, match=r"a Conv2d does not say how its images.*give preprocess="):
        Explainer(torch.nn.Conv2d(3, 3, 1))
    with pytest.raises(CompoundNetError, match=r"Conv2d is not known to have a linear classifier.*method gradcam"):
        Explainer(torch.nn.Conv2d(3, 3, 1), preprocess=models.Preprocess.authors(32))


@pytest.mark.parametrize("name", ["mobilenet-v4-conv-small", "efficientnet-b0"])
def test_networks_without_a_linear_head_are_explained_by_grad_cam_which_is_said(name: str) -> None:
    network = reduced(name)
    if name == "efficientnet-b0":
        network = network.replace(head=arch.Head(64, pool="max"))
    net, how = random_net(network), models.Preprocess.authors(64)
    explainer = Explainer(net, preprocess=how)
    assert explainer.method == "gradcam"
    why = "has a max pool before its classifier" if network.head.pool == "max" else "has a convolution between the pool"
    assert explainer.note is not None and why in explainer.note and "used Grad-CAM" in explainer.note
    found = explainer(noise(), top=2)
    assert (found.method, len(found.maps)) == ("gradcam", 2)
    with pytest.raises(CompoundNetError, match=f"{why}.* has no class activation maps; use the method gradcam"):
        Explainer(net, method="cam", preprocess=how)
    assert Explainer(net, method="gradcam", preprocess=how).note is None


def test_networks_without_weights_are_told_what_to_do() -> None:
    with pytest.raises(CompoundNetError, match="random weights would mean nothing; `compoundnet train DATA --network"):
        Explainer("resnet-18")
    with pytest.raises(CompoundNetError, match="takes a torch module that has weights"):
        Explainer("inception-v4")
    with pytest.raises(CompoundNetError, match="did you mean efficientnet-lite0"):
        Explainer("efficientnet-lite00")


def test_damaged_weights_are_told(small: models.ModelFolder) -> None:
    net = models.load(small)
    with torch.no_grad():
        net.get_parameter("classifier.weight").fill_(float("nan"))
    with pytest.raises(CompoundNetError, match="values that are not finite"):
        Explainer(net)(noise())
