"""`load`: the pretrained module, and what changes with other classes, channels and outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from small_models import lite0_file, small_folder
from torch import Tensor

from compoundnet import runtime
from compoundnet.base import CompoundNetError
from compoundnet.models import ModelFolder, Preprocess, load, open_folder
from compoundnet.models.torch_module import adapt_stem


@pytest.fixture(scope="module")
def lite0(cache: Path) -> ModelFolder:
    lite0_file()
    return open_folder("efficientnet-lite0")


@pytest.fixture(scope="module")
def grey() -> Tensor:
    """A grey image of one channel."""
    return torch.rand(1, 1, 96, 96, generator=torch.Generator().manual_seed(1)) * 2 - 1


def prepared(path: Path, preprocess: Preprocess) -> Tensor:
    image = Image.open(path).convert("RGB")
    side = round(min(image.size) * preprocess.crop)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((preprocess.size,) * 2, Image.Resampling.BICUBIC)
    pixels = (np.asarray(image, np.float32) / 255 - preprocess.mean) / preprocess.std
    return torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]


@pytest.mark.parametrize(
    ("photo", "classes", "least"),
    [("coffee.png", [967], 0.9), ("rocket.jpg", [657], 0.25), ("chelsea.png", [281, 282, 283, 284, 285], 0.85)],
)
@torch.inference_mode()
def test_real_weights_recognise_real_photos(photo: str, classes: list[int], least: float, lite0: ModelFolder) -> None:
    skimage = pytest.importorskip("skimage", reason="scikit-image is not installed (extra: dev)")
    path = Path(skimage.__file__).parent / "data" / photo
    if not path.exists():
        pytest.skip(f"this scikit-image does not hold {photo}")
    probabilities = load(lite0)(prepared(path, lite0.preprocess)).softmax(1)[0]
    assert int(probabilities.argmax()) in classes
    assert float(probabilities[classes].sum()) > least


def test_the_module_is_whole_and_ready(lite0: ModelFolder) -> None:
    net = load("efficientnet-lite0")
    assert not net.training
    assert net.spec == lite0.network
    assert sum(parameter.numel() for parameter in net.parameters()) == 4_652_008
    assert all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in net.parameters())
    assert all(buffer.device.type == "cpu" for buffer in net.buffers())


@torch.inference_mode()
def test_another_number_of_classes_keeps_the_trunk(lite0: ModelFolder, grey: Tensor) -> None:
    images = grey.expand(-1, 3, -1, -1)
    full, ten, none = load(lite0), load(lite0, num_classes=10), load(lite0, num_classes=0)
    assert ten(images).shape == (1, 10)
    assert ten.spec.num_classes == 10
    torch.testing.assert_close(ten.forward_features(images), full.forward_features(images))
    assert none(images).shape == (1, 1280)
    same = load(lite0, num_classes=1000).state_dict()["classifier.weight"]
    assert torch.equal(same, full.state_dict()["classifier.weight"])


@pytest.mark.parametrize("in_chans", [1, 2, 4, 6, 13])
@torch.inference_mode()
def test_a_grey_image_gives_its_rgb_response_in_any_number_of_channels(
    in_chans: int, lite0: ModelFolder, grey: Tensor
) -> None:
    expected = load(lite0)(grey.expand(-1, 3, -1, -1))
    net = load(lite0, in_chans=in_chans)
    assert net.spec.in_channels == in_chans
    found = net(grey.expand(-1, in_chans, -1, -1))
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())


def test_more_channels_repeat_the_old_ones() -> None:
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    four = adapt_stem(weight, 4)
    assert torch.equal(four[:, 1:3], weight[:, 1:])
    torch.testing.assert_close(four[:, 0] + four[:, 3], weight[:, 0])
    torch.testing.assert_close(adapt_stem(weight, 1), weight.sum(1, keepdim=True))


@torch.inference_mode()
def test_features_are_those_of_the_classifier(lite0: ModelFolder, grey: Tensor) -> None:
    images = grey.expand(-1, 3, -1, -1)
    pyramid = load(lite0, features_only=True, out_indices=[1, -1])
    fine, coarse = pyramid(images)
    assert (fine.shape, coarse.shape) == ((1, 24, 24, 24), (1, 320, 3, 3))
    full = load(lite0)
    assert full.head is not None
    torch.testing.assert_close(full.head(coarse), full.forward_features(images))


def test_a_folder_loads_as_it_was_written(tmp_path: Path) -> None:
    model = small_folder(tmp_path / "pets")
    net = load(tmp_path / "pets")
    assert net.spec == model.network
    images = torch.zeros(2, 3, 32, 32)
    assert net(images).shape == (2, 3)
    net.train()(images).sum().backward()  # what was loaded can be trained
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_loading_leaves_the_file_alone_when_the_weights_change(tmp_path: Path) -> None:
    model = small_folder(tmp_path / "pets")
    before = model.weights.read_bytes()
    net = load(model)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert model.weights.read_bytes() == before


@pytest.mark.parametrize("wrong", [{"in_chans": 0}, {"num_classes": -1}, {"features_only": True, "out_indices": [9]}])
def test_impossible_wishes_are_errors(wrong: dict[str, int], tmp_path: Path) -> None:
    small_folder(tmp_path / "pets")
    with pytest.raises(CompoundNetError, match=r"in_chans|num_classes|out_indices"):
        load(tmp_path / "pets", **wrong)  # type: ignore[call-overload]  # each is wrong in another way


def test_a_loaded_module_knows_its_preprocessing_and_labels(tmp_path: Path) -> None:
    model = small_folder(tmp_path / "model")
    net = load(model)
    assert (net.preprocess, net.labels) == (model.preprocess, ("cat", "dog", "tiger cat"))
    assert net.preprocess is not None
    image = np.zeros((40, 50, 3), np.uint8)
    assert net(net.preprocess(image)[None]).shape == (1, 3)
    assert net.fuse().labels == net.labels
    assert load(model, num_classes=5).labels is None
    net.reset_classifier(3)
    assert net.labels is None and net.preprocess == model.preprocess


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_with_the_tensors_name(value: float, tmp_path: Path) -> None:
    model = small_folder(tmp_path / "model")
    state = load_file(model.weights)
    state["classifier.weight"][0, 0] = value
    save_file(state, model.weights)
    (model.folder / "SHA256SUMS").unlink()
    for read in (load, runtime.session, lambda folder: runtime.export(folder, tmp_path / "a.onnx")):
        with pytest.raises(CompoundNetError, match=r"the tensor classifier\.weight is not finite: 1 of its .* values"):
            read(model.folder)
    assert not (tmp_path / "a.onnx").exists()
