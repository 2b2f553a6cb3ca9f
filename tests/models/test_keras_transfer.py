"""Keras models of transfer learning: the network inside another model, its images' scale, and its classifier.

The files were written by Keras 3.15.1 (tests/fixtures/write_keras.py).
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from fixture_network import FIXTURES, check_close, logits, tiny_network

from compoundnet.base import CompoundNetError
from compoundnet.models import Preprocess, convert, load, read_foreign
from compoundnet.models.keras_layers import KerasLayer, classifier, input_statistics
from compoundnet.models.model import ModelFolder
from compoundnet.models.postprocess import softmax

KERAS = FIXTURES / "keras"
IMAGES = np.load(KERAS / "expected.npz")["images"].astype(np.float64)
EXPECTED = np.load(KERAS / "transfer_expected.npz")


def probabilities(path: Path, images: Any = IMAGES) -> Any:
    """Of the fixture's images with pixels from 0 to 255, by way of the preprocessing that the file asks for."""
    found = read_foreign(path, network=tiny_network())
    assert found.preprocess is not None
    normalised = (images / 255 - np.array(found.preprocess.mean)) / np.array(found.preprocess.std)
    return softmax(logits(found.network, found.state, normalised))


@pytest.mark.parametrize("form", ["keras", "h5", "weights.h5"])
def test_a_sequential_model_with_augmentation_gives_keras_probabilities(form: str) -> None:
    path = KERAS / f"transfer_sequential.{form}"
    check_close(probabilities(path), EXPECTED["sequential"])
    found = read_foreign(path, network=tiny_network())
    assert (found.layout, found.network.num_classes, found.left_out) == ("keras", 3, ())
    assert found.preprocess is not None and found.preprocess.size == 45


def test_batch_norm_before_the_classifier_is_folded_into_it() -> None:
    """The model of Keras' own tutorial, whose layers stand beside those of the network."""
    check_close(probabilities(KERAS / "transfer_tutorial.keras"), EXPECTED["tutorial"])


def test_one_output_with_a_sigmoid_becomes_two_classes_and_a_rescaling_counts() -> None:
    path = KERAS / "transfer_binary.keras"
    check_close(probabilities(path, IMAGES / 255)[:, 1:], EXPECTED["binary"])
    notes = " ".join(read_foreign(path, network=tiny_network()).notes)
    assert "two classes, 0 and 1; the sigmoid of the output is the probability of 1" in notes


def test_a_head_of_several_layers_is_left_out_and_said() -> None:
    found = read_foreign(KERAS / "transfer_deep.keras", network=tiny_network())
    assert found.network.num_classes == 0
    assert len(found.left_out) == 2
    assert found.notes[0].startswith("left out the layers after the network, which are no single dense layer: dense")


def test_convert_makes_a_model_folder(tmp_path: Path) -> None:
    model = convert(KERAS / "transfer_sequential.keras", tmp_path / "m", network=tiny_network())
    assert isinstance(model, ModelFolder)
    assert load(model)(model.preprocess(np.zeros((50, 60, 3), np.uint8))[None]).shape == (1, 3)


def rewritten(change: Callable[[dict[str, Any]], object], tmp_path: Path, name: str = "sequential") -> Path:
    """The file with another config.json."""
    path = tmp_path / "changed.keras"
    with zipfile.ZipFile(KERAS / f"transfer_{name}.keras") as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.namelist():
            content = source.read(entry)
            if entry == "config.json":
                model = json.loads(content)
                change(model)
                content = json.dumps(model).encode()
            target.writestr(entry, content)
    return path


def layers_of(model: dict[str, Any]) -> list[dict[str, Any]]:
    layers: list[dict[str, Any]] = model["config"]["layers"]
    return layers


def test_several_outputs_with_a_sigmoid_are_labels_of_their_own(tmp_path: Path) -> None:
    path = rewritten(lambda model: layers_of(model)[-1]["config"].update(activation="sigmoid"), tmp_path)
    assert read_foreign(path, network=tiny_network()).postprocess.multilabel


def test_a_maximum_over_the_features_is_kept(tmp_path: Path) -> None:
    def change(model: dict[str, Any]) -> None:
        layers_of(model["config"]["layers"][2])[-1]["class_name"] = "GlobalMaxPooling2D"

    assert read_foreign(rewritten(change, tmp_path), network=tiny_network()).network.head.pool == "max"


@pytest.mark.parametrize("kind", ["Lambda", "TFOpLambda", "Conv2D"])
def test_a_layer_that_does_something_else_to_the_images_is_refused(kind: str, tmp_path: Path) -> None:
    def change(model: dict[str, Any]) -> None:
        layers_of(model).insert(1, {"class_name": kind, "config": {"name": "mine", "function": "import os"}})

    with pytest.raises(CompoundNetError, match=rf"what the layer mine \({kind}\) does to the images"):
        read_foreign(rewritten(change, tmp_path), network=tiny_network())


def test_a_resizing_layer_gives_the_size(tmp_path: Path) -> None:
    def change(model: dict[str, Any]) -> None:
        layers_of(model).insert(1, {"class_name": "Resizing", "config": {"name": "r", "height": 64, "width": 64}})

    found = read_foreign(rewritten(change, tmp_path), network=tiny_network())
    assert found.preprocess is not None
    assert (found.preprocess.size, found.preprocess.crop) == (64, 64 / 96)
    assert found.network.resolution == 64


def test_layers_are_named_by_the_stated_model_where_the_weights_have_no_names(tmp_path: Path) -> None:
    """As Keras 3.0 to 3.5 wrote: type and number only."""
    path = tmp_path / "unnamed.keras"
    with zipfile.ZipFile(KERAS / "transfer_sequential.keras") as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.namelist():
            content = source.read(entry)
            if entry == "model.weights.h5":
                buffer = io.BytesIO(content)
                with h5py.File(buffer, "r+") as file:
                    file.visititems(lambda _, item: item.attrs.clear() if hasattr(item, "keys") else None)
                content = buffer.getvalue()
            target.writestr(entry, content)
    check_close(probabilities(path), EXPECTED["sequential"])


def test_a_full_b0_is_told_by_itself(tmp_path: Path) -> None:
    """Weights as Keras names them, inside another model, with its own dense layer."""
    from compoundnet.arch import network
    from compoundnet.models.keras_files import write_keras
    from compoundnet.nn import build

    b0 = network("efficientnet-b0").replace(num_classes=0)
    write_keras(tmp_path / "plain.h5", b0, build(b0).state_dict(), Preprocess.authors(224))
    with h5py.File(tmp_path / "plain.h5") as plain, h5py.File(tmp_path / "transfer.h5", "w") as file:
        inner = file.create_group("efficientnetb0")
        for name in plain:
            for weight in plain[name].attrs["weight_names"]:
                inner[weight.decode()] = np.asarray(plain[name][weight])
        file["dense/dense/kernel:0"], file["dense/dense/bias:0"] = np.ones((1280, 3), "f4"), np.zeros(3, "f4")
        file.attrs["layer_names"] = np.array(["efficientnetb0", "dense"], "S")
    found = read_foreign(tmp_path / "transfer.h5")
    assert (found.network.name, found.network.num_classes, found.network.resolution) == ("efficientnet-b0", 3, 224)
    assert found.preprocess is not None
    np.testing.assert_allclose(found.preprocess.std, (0.229, 0.224, 0.225), rtol=1e-5)


# The layers by themselves


def dense(name: str, activation: str = "linear") -> KerasLayer:
    return KerasLayer("Dense", name, {"activation": activation})


LAST = KerasLayer("BatchNormalization", "top_bn", {})
WEIGHTS = {
    "a/kernel": np.array([[1.0, 2], [3, 4], [5, 6]]), "a/bias": np.array([1.0, -1]),
    "b/kernel": np.array([[1.0], [2]]), "b/bias": np.array([0.5]),
    "n/gamma": np.array([2.0, 1]), "n/beta": np.array([0.0, 1]),
    "n/moving_mean": np.array([1.0, 0]), "n/moving_variance": np.array([3.0, 8]),
}  # fmt: skip


def test_linear_layers_one_after_another_are_one() -> None:
    norm = KerasLayer("BatchNormalization", "n", {"epsilon": 1.0})
    found, pool, others = classifier([LAST, dense("a"), norm, dense("b")], WEIGHTS, 3)
    assert found is not None and (pool, others) == ("avg", [])
    x = np.array([[0.3, -1, 2]])
    hidden = x @ WEIGHTS["a/kernel"] + WEIGHTS["a/bias"]
    normed = (hidden - [1, 0]) / np.sqrt([4, 9]) * [2, 1] + [0, 1]
    np.testing.assert_allclose(x @ found.kernel + found.bias, normed @ WEIGHTS["b/kernel"] + WEIGHTS["b/bias"])


@pytest.mark.parametrize(
    ("layers", "activation"),
    [
        ([dense("a", "sigmoid")], "sigmoid"),
        ([dense("a"), KerasLayer("Activation", "out", {"activation": "sigmoid"})], "sigmoid"),
        ([dense("a"), KerasLayer("Activation", "out", {"activation": "linear", "dtype": "float32"})], "linear"),
        ([dense("a", "sigmoid"), KerasLayer("Activation", "out", {"activation": "linear"})], "sigmoid"),
    ],
)
def test_an_activation_may_be_a_layer_of_its_own(layers: list[KerasLayer], activation: str) -> None:
    found = classifier([LAST, *layers], WEIGHTS, 3)[0]
    assert found is not None and found.activation == activation


@pytest.mark.parametrize("layers", [[dense("a", "relu"), dense("b")], [KerasLayer("Conv2D", "c", {}), dense("a")], []])
def test_what_is_not_linear_is_no_classifier(layers: list[KerasLayer]) -> None:
    assert classifier([LAST, *layers], WEIGHTS, 3)[0] is None


def test_the_scale_of_the_images_is_composed() -> None:
    stem = KerasLayer("Conv2D", "stem_conv", {})
    layers = [
        KerasLayer("Rescaling", "r", {"scale": 1 / 127.5, "offset": -1.0}),
        KerasLayer("Rescaling", "s", {"scale": [2.0, 2.0, 4.0], "offset": 0}),
        stem,
    ]
    found = input_statistics(layers, {}, "x.keras")
    assert found is not None
    mean, std = found
    pixel = np.array([10.0, 100, 200])
    np.testing.assert_allclose((pixel / 255 - mean) / std, (pixel / 127.5 - 1) * [2, 2, 4])
    assert input_statistics([stem], {}, "x.keras") is None
