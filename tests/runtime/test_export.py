"""Exported files: equal to torch, made of standard operators, models by themselves; or not written at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from random_net import random_net, reduced, small_network
from small_model import write_small_model

import compoundnet
from compoundnet import arch, base, models, nn, runtime
from compoundnet.runtime import onnx_graph
from compoundnet.runtime.exports import request
from compoundnet.runtime.exports.comparison import generated_images, runner

LABELS = [f"class {index}" for index in range(10)]
# Each is in the lists of TensorRT (onnx-tensorrt, docs/operators.md, 8.4 to 10) and of RKNN-Toolkit2 (1.3 and later).
PLAIN_OPERATORS = {"Conv", "Sigmoid", "Mul", "Clip", "Relu", "Add", "MaxPool", "GlobalAveragePool", "Flatten", "Gemm"}
FAMILIES = ["efficientnet-b0", "efficientnet-lite0", "mobilenet-v2", "mobilenet-v4-conv-small", "resnet-50"]


@pytest.fixture(scope="module")
def net() -> nn.ConvNet:
    return random_net(small_network())


@pytest.fixture(scope="module")
def exported(net: nn.ConvNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("exported") / "small.onnx"
    runtime.export(net, file, labels=LABELS)
    return file


def images(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def logits(net: nn.ConvNet, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.inference_mode():
        found: NDArray[np.float32] = net(torch.from_numpy(batch)).numpy()
    return found


def difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def run_onnx(file: Path, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(None, {"images": batch})[0]
    return found


def photo_folder(folder: Path, count: int = 4) -> Path:
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(count):
        small = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        small.resize((80, 70), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return folder


# What is in an ONNX file.


@pytest.mark.parametrize("name", FAMILIES)
def test_onnx_is_plain_and_equal(name: str, tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    net = random_net(reduced(name))
    done = runtime.export(net, file)
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    assert [opset.domain for opset in model.opset_import] == [""]
    operators = {node.op_type for node in model.graph.node}
    # No Pad, no BatchNormalization, nothing that computes shapes.
    assert operators <= PLAIN_OPERATORS
    batch = images(1, 3, 64, 64)
    assert difference(run_onnx(file, batch), logits(net, batch)) < 1e-5
    assert difference(runtime.session(file, threads=1)(batch), logits(net, batch)) < 1e-5
    assert done.difference is not None
    assert done.difference < 1e-5
    assert done.bytes == file.stat().st_size


def test_same_padding_is_in_the_convolution(exported: Path) -> None:
    stem = next(node for node in onnx.load(exported).graph.node if node.op_type == "Conv")
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in stem.attribute}
    assert attributes["strides"] == [2, 2]
    assert attributes["pads"] == [0, 0, 1, 1]


def test_input_and_output_have_names_and_shapes(exported: Path) -> None:
    graph = onnx.load(exported).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {"images": [1, 3, 64, 64], "logits": [1, 10]}


def test_onnx_says_nothing_of_the_machine_it_was_made_on(exported: Path) -> None:
    content = exported.read_bytes()
    assert str(Path(compoundnet.__file__).parent).encode() not in content
    assert b"stack_trace" not in content


@pytest.mark.parametrize("stride", [2, 3])
def test_onnx_same_upper_is_tensorflows_same(stride: int, tmp_path: Path) -> None:
    stages = tuple(arch.Stage(arch.MBConv(expansion=1, kernel=kernel), 8, stride=stride) for kernel in (3, 5))
    net = random_net(arch.Network("probe", 32, arch.Stem(8, kernel=7, stride=stride), stages, num_classes=5))
    runtime.export(net, tmp_path / "probe.onnx", dynamic_size=True)
    for height in range(32, 32 + stride**3 + 1):
        batch = images(1, 3, height, 45)
        assert difference(run_onnx(tmp_path / "probe.onnx", batch), logits(net, batch)) < 1e-5


# Dynamic dimensions, other formats and precisions.

FORMATS = [("onnx", ".onnx"), ("torch", ".pt2"), ("openvino", ".xml")]


@pytest.mark.parametrize(("form", "suffix"), FORMATS)
def test_formats_are_equal_to_torch_and_models_by_themselves(
    form: str, suffix: str, net: nn.ConvNet, tmp_path: Path
) -> None:
    if form == "openvino":
        pytest.importorskip("openvino")
    file = tmp_path / f"net{suffix}"
    done = runtime.export(net, file, format=form, labels=LABELS)
    assert (done.format, done.precision, done.size) == (form, "float32", 64)
    assert done.difference is not None
    assert done.difference < 1e-5
    assert done.images == 4
    assert done.generated
    found = models.open_exported(file)
    assert found.network == net.spec
    assert found.labels == tuple(LABELS)
    assert found.preprocess == models.Preprocess.authors(64)
    batch = images(2, 3, 64, 64)
    assert difference(runtime.session(file, threads=1)(batch), logits(net, batch)) < 1e-5


@pytest.mark.parametrize(("form", "suffix"), FORMATS)
def test_any_batch_and_size(form: str, suffix: str, net: nn.ConvNet, tmp_path: Path) -> None:
    if form == "openvino":
        pytest.importorskip("openvino")
    file = tmp_path / f"any{suffix}"
    done = runtime.export(net, file, format=form, dynamic_batch=True, dynamic_size=True)
    assert done.dynamic_batch
    assert done.dynamic_size
    session = runtime.session(file, threads=1)
    for shape in [(1, 3, 64, 64), (3, 3, 32, 32), (2, 3, 33, 50), (1, 3, 71, 96)]:
        assert difference(session(images(*shape)), logits(net, images(*shape))) < 1e-5


def test_dynamic_batch_alone_keeps_the_size(net: nn.ConvNet, tmp_path: Path) -> None:
    runtime.export(net, tmp_path / "batch.onnx", dynamic_batch=True)
    batch = images(5, 3, 64, 64)
    assert difference(run_onnx(tmp_path / "batch.onnx", batch), logits(net, batch)) < 1e-5
    (shape,) = (value.type.tensor_type.shape for value in onnx.load(tmp_path / "batch.onnx").graph.input)
    assert [dim.dim_value or dim.dim_param for dim in shape.dim] == ["batch", 3, 64, 64]


@pytest.mark.parametrize(("form", "suffix"), FORMATS)
def test_float16_is_half_as_large_and_takes_float32(form: str, suffix: str, net: nn.ConvNet, tmp_path: Path) -> None:
    if form == "openvino":
        pytest.importorskip("openvino")
    file = tmp_path / f"half{suffix}"
    done = runtime.export(net, file, format=form, precision="float16")
    assert done.difference is not None
    assert 1e-5 < done.difference < 2e-2
    # The graph itself takes some 10 kB as ONNX, 40 kB as IR and 80 kB as an archive.
    parameters = sum(tensor.numel() for tensor in net.fuse().parameters())
    assert 2 * parameters < done.bytes < 2 * parameters + 200_000
    found = runtime.session(file, threads=1)(images(1, 3, 64, 64))
    assert found.dtype == np.float32


@pytest.mark.parametrize(("form", "suffix"), [("onnx", ".onnx"), ("openvino", ".xml")])
def test_int8_is_calibrated_and_says_how_often_it_agrees(
    form: str, suffix: str, net: nn.ConvNet, tmp_path: Path
) -> None:
    if form == "openvino":
        pytest.importorskip("openvino")
    calibration = photo_folder(tmp_path / "photos")
    file = tmp_path / f"int8{suffix}"
    done = runtime.export(net, file, format=form, precision="int8", calibrate=calibration, labels=LABELS)
    assert done.limit is None
    assert done.images == 4
    assert not done.generated
    assert done.agreement is not None
    assert 0 <= done.agreement <= 1
    assert done.difference is not None
    assert 1e-4 < done.difference < 0.5
    assert models.open_exported(file).labels == tuple(LABELS)
    assert runtime.session(file)(images(2, 3, 64, 64)).shape == (2, 10)
    if form == "onnx":
        model = onnx.load(file)
        assert {node.domain for node in model.graph.node} == {""}
        scales = {tensor.name: tensor.dims for tensor in model.graph.initializer if tensor.name.endswith("_scale")}
        assert any(name.startswith("head") and list(dims) == [net.num_features] for name, dims in scales.items())
    assert sorted(path.suffix for path in tmp_path.glob("int8.*")) == sorted(
        {".onnx"} if form == "onnx" else {".xml", ".bin"}
    )


@pytest.mark.parametrize(("form", "suffix"), [("onnx", ".onnx"), ("openvino", ".xml")])
def test_int8_of_any_batch_and_size(form: str, suffix: str, net: nn.ConvNet, tmp_path: Path) -> None:
    if form == "openvino":
        pytest.importorskip("openvino")
    calibration, file = photo_folder(tmp_path / "photos"), tmp_path / f"int8{suffix}"
    done = runtime.export(
        net, file, format=form, precision="int8", calibrate=calibration, dynamic_batch=True, dynamic_size=True
    )
    assert done.dynamic_batch
    assert done.dynamic_size
    run = runner(file)  # the file itself: a session gives it one image at a time
    for shape in [(1, 3, 64, 64), (3, 3, 64, 64), (2, 3, 33, 50), (1, 3, 71, 96)]:
        assert 1e-4 < difference(run(images(*shape)), logits(net, images(*shape))) < 0.05


# An exported file is a MODEL.


def test_predict_takes_it_with_its_preprocessing_and_labels(tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "small")
    photos = sorted(photo_folder(tmp_path / "photos").iterdir())
    runtime.export(model, tmp_path / "small.onnx")
    runtime.export(model, tmp_path / "small.pt2", format="torch")
    expected = list(runtime.Predictor(model).many(photos))
    for file in ("small.onnx", "small.pt2"):
        for found, wanted in zip(runtime.Predictor(tmp_path / file).many(photos), expected, strict=True):
            assert isinstance(found, runtime.Prediction)
            assert isinstance(wanted, runtime.Prediction)
            assert [one.label for one in found.predictions] == [one.label for one in wanted.predictions]
            assert [one.probability for one in found.predictions] == pytest.approx(
                [one.probability for one in wanted.predictions], abs=1e-5
            )


def test_a_model_without_labels_has_none_in_the_file(tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "small", labelled=False)
    runtime.export(tmp_path / "small", tmp_path / "small.onnx")
    found = models.open_exported(tmp_path / "small.onnx")
    assert found.labels is None
    assert found.name == model.name


def test_a_model_that_does_not_read_rgb_is_compared_on_noise(tmp_path: Path) -> None:
    write_small_model(tmp_path / "grey", in_channels=1)
    done = runtime.export(tmp_path / "grey", tmp_path / "grey.onnx")
    assert (done.images, done.agreement) == (0, None)
    with pytest.raises(base.CompoundNetError, match="reads 1 channels"):
        runtime.export(tmp_path / "grey", tmp_path / "grey.onnx", images=photo_folder(tmp_path / "photos"))


def test_own_images_are_what_it_is_compared_on(net: nn.ConvNet, tmp_path: Path) -> None:
    done = runtime.export(net, tmp_path / "net.onnx", images=photo_folder(tmp_path / "photos", count=3))
    document = msgspec.to_builtins(done)
    assert (document["images"], document["generated"]) == (3, False)
    assert document["file"] == str(tmp_path / "net.onnx")
    assert document["limit"] == 1e-4


def test_generated_images_have_the_statistics_of_photographs() -> None:
    how = models.Preprocess.authors(64)
    for image in map(how.pixels, generated_images(64)):
        assert image.shape == (3, 64, 64)
        assert 0.3 < image.std() < 2
        # Neighbouring pixels are alike, and so are the colours of one pixel.
        assert np.corrcoef(image[0, :, 1:].ravel(), image[0, :, :-1].ravel())[0, 1] > 0.8
        assert np.corrcoef(image[0].ravel(), image[2].ravel())[0, 1] > 0.5


@pytest.mark.parametrize(
    ("form", "name", "written"),
    [
        ("onnx", "a[1]*?.onnx", ["a[1]*?.onnx"]),
        ("onnx", "float32.onnx", ["float32.onnx"]),
        ("onnx", "graph.onnx", ["graph.onnx"]),
        ("openvino", "a[1]*?.xml", ["a[1]*?.bin", "a[1]*?.xml"]),
    ],
)
def test_the_file_has_the_name_given_whatever_it_is(
    form: str, name: str, written: list[str], net: nn.ConvNet, tmp_path: Path
) -> None:
    if form == "openvino":
        pytest.importorskip("openvino")
    photos, target = photo_folder(tmp_path / "photos", count=1), tmp_path / "target"
    target.mkdir()
    done = runtime.export(net, target / name, format=form, precision="int8", calibrate=photos)
    assert sorted(path.name for path in target.iterdir()) == written
    assert done.bytes == sum(path.stat().st_size for path in target.iterdir()) > 0
    assert runtime.session(target / name, threads=1)(images(1, 3, 64, 64)).shape == (1, 10)


# What cannot be exported.


def test_one_over_the_limit_is_deleted_and_told(
    net: nn.ConvNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.onnx").write_text("older")
    monkeypatch.setitem(request.LIMITS, "float32", 1e-12)
    with pytest.raises(base.CompoundNetError, match=r"net\.onnx was not kept: its logits differ from torch's by"):
        runtime.export(net, tmp_path / "net.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    assert (tmp_path / "net.onnx").read_text() == "older"


@pytest.mark.parametrize(
    ("changed", "precision"),
    [
        ("layer", "float16"),
        ("weight", "float32"),
        ("hook", "float32"),
        pytest.param("layer", "float32", marks=pytest.mark.slow),
        pytest.param("weight", "float16", marks=pytest.mark.slow),
        pytest.param("hook", "float16", marks=pytest.mark.slow),
    ],
)
def test_a_changed_network_is_refused_as_pt2_which_would_be_read_as_the_plain_one(
    changed: str, precision: str, tmp_path: Path
) -> None:
    net = random_net(small_network())
    if changed == "layer":
        net.get_submodule("stem").act = torch.nn.Hardswish()
    elif changed == "weight":
        net.classifier = torch.nn.Linear(net.num_features, 3)
    else:
        net.get_submodule("head").register_forward_hook(lambda _module, _given, maps: 2 * maps)
    with pytest.raises(
        base.CompoundNetError, match=r"a\.pt2 was not kept: compoundnet reads the weights of a \.pt2, not"
    ):
        runtime.export(net, tmp_path / "a.pt2", precision=precision)
    assert not list(tmp_path.iterdir())
    runtime.export(net, tmp_path / "a.onnx", precision=precision)


@pytest.mark.parametrize("precision", [pytest.param("float32", marks=pytest.mark.slow), "float16"])
def test_a_network_with_its_channels_last_is_no_changed_one(precision: str, tmp_path: Path) -> None:
    net = random_net(small_network()).to(memory_format=torch.channels_last)
    assert runtime.export(net, tmp_path / "a.pt2", precision=precision).bytes > 0


def test_openvino_holds_what_an_onnx_file_does_not(
    net: nn.ConvNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(onnx_graph, "_ONE_FILE", 1000)  # in place of 2 GiB
    assert runtime.export(net, tmp_path / "a.xml").bytes > 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.xml"]
    photos = photo_folder(tmp_path / "photos", count=1)
    narrower = r"export with --precision float16, or in float32 to --format openvino or torch$"
    with pytest.raises(base.CompoundNetError, match=narrower):
        runtime.export(net, tmp_path / "b.xml", precision="int8", calibrate=photos)
    with pytest.raises(base.CompoundNetError, match=r"2 GiB at most; export to --format openvino or torch$"):
        runtime.export(net, tmp_path / "b.onnx", precision="float16")


def test_an_interruption_leaves_an_old_graph_with_its_own_weights(
    net: nn.ConvNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("net.xml", "net.bin"):
        (tmp_path / name).write_text("older")
    rename = os.rename

    def stopping(source: Path, target: Path) -> None:
        rename(source, target)
        if target == tmp_path / "net.bin" and target.read_bytes() != b"older":
            raise KeyboardInterrupt

    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, stopping)
    with pytest.raises(KeyboardInterrupt):
        runtime.export(net, tmp_path / "net.xml")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"net.xml": "older", "net.bin": "older"}


@pytest.mark.parametrize(
    ("file", "options", "message"),
    [
        ("a.onnx", {"format": "onx"}, "no format 'onx'; did you mean onnx"),
        ("a.onnx", {"precision": "int4"}, "no precision 'int4'; did you mean int8"),
        ("a.bin", {}, r"the suffix of an exported file says its format: \.onnx \(onnx\), .*; got a\.bin"),
        ("a.onnx", {"format": "torch"}, r"a file of format torch must end in \.pt2, got a\.onnx"),
        ("a.pt2", {"precision": "int8"}, "the format torch holds float32 or float16, not int8"),
        ("a.onnx", {"opset": 12}, "opset must be 13 to 21, got 12"),
        ("a.pt2", {"opset": 13}, "opset is for the format onnx, got torch"),
        ("a.pt2", {"with_preprocessing": True}, "with-preprocessing is for the format onnx"),
        ("a.onnx", {"with_preprocessing": True, "dynamic_batch": True}, "leave dynamic-batch out"),
        ("a.onnx", {"with_preprocessing": True, "dynamic_size": True}, "leave dynamic-size out"),
        ("a.onnx", {"with_preprocessing": True, "with_cam": True}, "leave with-cam out"),
        ("a.onnx", {"precision": "int8"}, "give --calibrate a folder"),
        ("a.onnx", {"calibrate": "."}, "calibration is for --precision int8, not float32"),
        ("/dev/null/a.onnx", {}, "/dev/null is not a folder"),
    ],
)
def test_impossible_wishes_are_told_before_any_work(
    file: str, options: dict[str, Any], message: str, net: nn.ConvNet, tmp_path: Path
) -> None:
    with pytest.raises(base.CompoundNetError, match=message):
        runtime.export(net, tmp_path / file, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
def test_an_exported_file_is_not_exported_again(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"a{suffix}").touch()
    told = rf"a\{suffix} is an exported file, which cannot be exported again; give what it was made of"
    with pytest.raises(base.CompoundNetError, match=told):
        runtime.export(tmp_path / f"a{suffix}", tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


def test_what_is_no_model_is_told(exported: Path, tmp_path: Path) -> None:
    for given, told in [
        (models.open_exported(exported), r"small\.onnx is an exported file"),
        (torch.nn.Linear(3, 2), "or a network of compoundnet in memory, got Linear"),
        (object(), "got object"),
    ]:
        with pytest.raises(base.CompoundNetError, match=told):
            runtime.export(given, tmp_path / "b.onnx")  # type: ignore[arg-type]  # what is tested
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("labels", "told"), [(["one"], "holds 1 labels, and the network has 10 classes"), (["a"] * 9 + [""], "is empty")]
)
def test_labels_are_checked_before_anything_is_written(
    labels: list[str], told: str, net: nn.ConvNet, tmp_path: Path
) -> None:
    with pytest.raises(base.CompoundNetError, match=f"the labels to write: .*{told}"):
        runtime.export(net, tmp_path / "net.onnx", labels=labels)
    assert not list(tmp_path.iterdir())


def test_preprocess_and_labels_override_a_models(tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "small")
    how, labels = models.Preprocess.authors(48), [f"other {index}" for index in range(model.network.num_classes)]
    runtime.export(model, tmp_path / "small.onnx", preprocess=how, labels=labels)
    found = models.open_exported(tmp_path / "small.onnx")
    assert (found.preprocess, found.labels) == (how, tuple(labels))
