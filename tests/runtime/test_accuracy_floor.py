"""int8 with a floor: layers go back to float32, the most sensitive first, until accuracy holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from command import run
from deep_images import RANGE, write_deep
from outlier_model import images, write_outlier_model
from random_net import random_net, reduced
from sample_images import write_classes
from small_model import write_small_model

from compoundnet import arch, base, models, runtime, train
from compoundnet.data import Dataset, Split
from compoundnet.data.dataset import UNKNOWN, Labels
from compoundnet.data.sources import Arrays
from compoundnet.runtime.exports.accuracy_floor import LabelledImages
from compoundnet.runtime.exports.comparison import runner
from compoundnet.runtime.exports.quantise import OnnxQuantiser
from compoundnet.runtime.onnx_graph import write_onnx


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> models.ModelFolder:
    return write_outlier_model(tmp_path_factory.mktemp("floor") / "model")


@pytest.fixture(scope="module")
def data(model: models.ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in the folders of the classes that the model predicts in float32."""
    folder, predictor = tmp_path_factory.mktemp("data"), runtime.Predictor(model, top=1, threads=1)
    for index, image in enumerate(images()):
        target = folder / predictor(image).label / f"{index}.png"
        target.parent.mkdir(exist_ok=True)
        image.save(target)
    return folder


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_the_sensitive_layer_goes_back_to_float32(
    suffix: str, model: models.ModelFolder, data: Path, tmp_path: Path
) -> None:
    if suffix == ".xml":
        pytest.importorskip("openvino")
    lines: list[str] = []
    file = tmp_path / f"floor{suffix}"
    done = runtime.export(model, file, precision="int8", calibrate=data, max_drop=0.1, data=data, notify=lines.append)
    floor = done.floor
    assert floor is not None
    assert 0 < len(floor.float32_layers) < floor.layers
    assert floor.drop <= 0.1 < 1 - float(lines[1].split("accuracy ")[1].split("%")[0]) / 100
    assert floor.float32_accuracy == 1.0
    assert floor.accuracy == pytest.approx(1 - floor.drop)
    assert (floor.images, floor.split, floor.files) == (60, "all", len(lines) - 2)
    predictor = runtime.Predictor(file, top=1, threads=1)
    right = [predictor(path).label == path.parent.name for path in sorted(data.rglob("*.png"))]
    assert np.mean(right) == pytest.approx(floor.accuracy)
    assert {path.suffix for path in tmp_path.iterdir()} == ({".onnx"} if suffix == ".onnx" else {".xml", ".bin"})


@pytest.mark.parametrize("name", ["efficientnet-b0", "mobilenet-v2"])
def test_with_all_layers_in_float32_nothing_is_int8(name: str, tmp_path: Path) -> None:
    """Activations, means and squeeze-excitation go with the layer before them, those of the first layers too."""
    net = random_net(reduced(name)).eval()
    write_onnx(net.fuse(), tmp_path / "float32.onnx", channels=3, size=32)
    random = np.random.default_rng(0)
    pixels = random.standard_normal((4, 3, 32, 32), dtype=np.float32)
    quantiser = OnnxQuantiser(tmp_path / "float32.onnx", pixels, {})
    quantiser.write(tmp_path / "none.onnx", quantiser.layers)
    quantiser.write(tmp_path / "all.onnx")
    whole, none, all_int8 = (runner(tmp_path / f"{kind}.onnx")(pixels[:1]) for kind in ("float32", "none", "all"))
    assert np.abs(none - whole).max() <= 1e-5 * np.abs(whole).max() < np.abs(all_int8 - whole).max()


def test_images_of_12_bits_are_read_with_the_range_of_the_model(tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "model", labels=("dark", "light"))
    how = msgspec.structs.replace(model.preprocess, range=RANGE)
    folder, lines = write_deep(tmp_path / "deep"), list[str]()
    for range_of_model in (RANGE, None):
        model = msgspec.structs.replace(model, preprocess=msgspec.structs.replace(how, range=range_of_model))
        read = LabelledImages(folder, model, lines.append)
        expected = [how.pixels(file) for file in sorted(folder.rglob("*.png"))]
        assert sorted(image.sum() for image, _ in read) == sorted(image.sum() for image in expected)
    assert ["0 to 4095 is assumed" in line for line in lines] == [False, False, True]  # what was understood, both times


def test_the_images_are_those_of_a_split_that_is_named(tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "model", labels=("cat", "dog"))
    for folders, name, count in (("train", "all", 4), ("train val", "val", 6), ("train val test", "test", 8)):
        for place, split in enumerate(folders.split()):
            write_classes(tmp_path / folders / split, 2 + place)
        lines: list[str] = []
        found = LabelledImages(tmp_path / folders, model, lines.append)
        assert (found.name, len(found)) == (name, count)
        assert [line.split(":")[0] for line in lines] == [folders]


def test_a_model_of_grey_images_is_refused(tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "grey", labels=("cat", "dog"), in_channels=1)
    split = Split("test", ("cat", "dog"), np.arange(40) % 2, Arrays("x", np.zeros((40, 8, 8, 3), np.uint8)))
    told = "grey takes images of 1 channel, and all images are read as RGB, grey ones too"
    with pytest.raises(base.CompoundNetError, match=told):
        LabelledImages(Dataset("pets", {"test": split}), model)
    for measure in (train.tune, train.evaluate):
        with pytest.raises(base.CompoundNetError, match=told):
            measure(model, Dataset("pets", {"test": split}))


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (np.full(4, UNKNOWN), "the classes of pets's test images are not published, so accuracy cannot be computed"),
        (np.eye(4, 2, dtype=np.bool_), "gives an image exactly one class, and these images have several labels each"),
    ],
)
def test_labels_that_a_model_cannot_be_judged_by_are_refused(labels: Labels, told: str, tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "model", labels=("cat", "dog"))
    split = Split("test", ("cat", "dog"), labels, Arrays("x", np.zeros((4, 8, 8, 3), np.uint8)))
    with pytest.raises(base.CompoundNetError, match=told):
        LabelledImages(Dataset("pets", {"test": split}), model)
    with pytest.raises(base.CompoundNetError, match=told):
        train.tune(model, Dataset("pets", {"test": split.subset(np.resize(np.arange(4), 40))}))


def test_a_drop_that_holds_leaves_all_layers_in_int8(model: models.ModelFolder, data: Path, tmp_path: Path) -> None:
    done = runtime.export(model, tmp_path / "a.onnx", precision="int8", calibrate=data, max_drop=0.99, data=data)
    assert done.floor is not None
    assert (done.floor.float32_layers, done.floor.files) == ((), 1)


def test_a_drop_that_nothing_meets_is_told_with_the_best_and_nothing_is_written(
    model: models.ModelFolder, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = OnnxQuantiser.write

    def all_in_int8(quantiser: OnnxQuantiser, file: Path, float32: object = ()) -> None:
        whole(quantiser, file)

    monkeypatch.setattr(OnnxQuantiser, "write", all_in_int8)
    told = r"no int8 file has an accuracy within 5\.00% of float32's 100\.00%; the best found has .*Nothing was written"
    with pytest.raises(base.CompoundNetError, match=told):
        runtime.export(model, tmp_path / "a.onnx", precision="int8", calibrate=data, max_drop=0.05, data=data)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_drop": 0.01}, "max-drop is for --precision int8, not float32"),
        ({"data": "."}, "labelled images are for --max-drop"),
        ({"precision": "int8", "calibrate": ".", "max_drop": 0.01}, "give --data a folder of class folders"),
        ({"precision": "int8", "calibrate": ".", "max_drop": 1.0, "data": "."}, "from 0 to 1, got 1"),
    ],
)
def test_options_that_make_no_sense_are_told(
    options: dict[str, Any], told: str, model: models.ModelFolder, tmp_path: Path
) -> None:
    with pytest.raises(base.CompoundNetError, match=told):
        runtime.export(model, tmp_path / "a.onnx", **options)


@pytest.mark.slow
def test_a_trained_b0_with_squeeze_excitation_keeps_its_accuracy(tmp_path: Path) -> None:
    """Narrow and shallow, with SiLU, on scikit-learn's digits."""
    pytest.importorskip("sklearn")
    from compoundnet import data as datasets

    spec = arch.scale(arch.network("efficientnet-b0"), width=0.25, depth=0.4, resolution=32).replace(num_classes=10)
    digits = datasets.open_dataset("digits")
    (tmp_path / "b0.toml").write_text(spec.dumps())
    trained = run("train", "digits", "--network", tmp_path / "b0.toml", "--set", "epochs=6", "-o", tmp_path / "model")
    assert trained.returncode == 0, trained.stderr
    for name, count in (("train", 200), ("test", 359)):
        split = digits.split(name)
        for index in range(count):
            image, label = split[index]
            file = tmp_path / "digits" / name / split.classes[int(label)] / f"{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            image.save(file)
    calibrate, model = tmp_path / "digits" / "train", tmp_path / "model"
    done = runtime.export(
        model, tmp_path / "b0.onnx", precision="int8", calibrate=calibrate, max_drop=0.0, data=tmp_path / "digits"
    )
    assert done.floor is not None
    assert done.floor.float32_accuracy > 0.9
    assert done.floor.accuracy >= done.floor.float32_accuracy
    assert len(done.floor.float32_layers) < done.floor.layers
