"""Files that preprocess images themselves: uint8[H, W, 3] of any size in, probabilities of `predict` out."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import onnx
import pytest
from known_photos import need_lite0, package_file
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image
from random_net import random_net, small_network
from small_model import write_small_model

from compoundnet import base, models, runtime
from compoundnet.runtime.onnx_preprocess import add_preprocessing

# Rows, columns: smaller and larger than the input, odd, long, and one pixel.
SIZES = [(300, 451), (451, 300), (64, 64), (63, 65), (31, 40), (9, 200), (1, 1), (700, 512)]
# Operators of the plain file, and those of the preprocessing: each is in TensorRT's list (onnx-tensorrt, 8.4 to 10).
PREPROCESSING_OPERATORS = {
    *("Abs", "Add", "Cast", "Clip", "Concat", "Div", "Floor", "Gather", "Identity", "MatMul", "Max", "Min", "Mul"),
    *("Range", "ReduceSum", "Round", "Shape", "Sigmoid", "Slice", "Softmax", "Squeeze", "Sub", "Transpose"),
    "Unsqueeze",
}


def preprocessor(how: models.Preprocess) -> onnx.ModelProto:
    """A file whose network passes the pixels on."""
    count = 3 * how.size**2
    pixels = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, how.size, how.size])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, count])
    graph = helper.make_graph([helper.make_node("Flatten", ["images"], ["logits"])], "pixels", [pixels], [logits])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    add_preprocessing(model, how, models.Postprocess())
    onnx.checker.check_model(model, full_check=True)
    del model.graph.output[:]
    model.graph.output.append(pixels)
    return model


def photo(rows: int, columns: int) -> NDArray[np.uint8]:
    """Smooth, with noise of a few levels."""
    random = np.random.default_rng(rows)
    small = Image.fromarray(random.integers(0, 256, (7, 5, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((columns, rows), Image.Resampling.BICUBIC)).astype(int)
    return np.clip(smooth + random.integers(-9, 10, smooth.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("fit", "interpolation", "crop"), [*product(("crop", "pad", "squash"), ("bicubic", "bilinear"), (0.875, 1.0))]
)
def test_the_pixels_are_those_of_preprocess(
    fit: Literal["crop", "pad", "squash"], interpolation: Literal["bicubic", "bilinear"], crop: float
) -> None:
    import onnxruntime

    how = models.Preprocess(size=64, crop=crop, fit=fit, interpolation=interpolation)
    model = preprocessor(how)
    assert {node.op_type for node in model.graph.node} - {"Flatten"} <= PREPROCESSING_OPERATORS
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for rows, columns in SIZES:
        image = photo(rows, columns)
        (found,) = session.run(None, {"image": image})
        levels = np.abs(found[0] - how.pixels(image)) * 255 * np.array(how.std)[:, None, None]
        # Rounding to 8 bits differs where a value is half way. Pillow from 13 on resizes the height of some images
        # first, which changes more of them.
        assert levels.max() < 2.01, (rows, columns)
        if rows <= columns:
            assert (levels > 0.5).mean() < 0.02, (rows, columns)


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("opset", [13, 21])
def test_its_probabilities_are_those_of_predict(opset: int, multilabel: bool, tmp_path: Path) -> None:
    import onnxruntime

    how = models.Postprocess(temperature=1.7, function="sigmoid" if multilabel else "softmax")
    model = write_small_model(tmp_path / "small", postprocess=how)
    file = tmp_path / "whole.onnx"
    done = runtime.export(model, file, with_preprocessing=True, opset=opset)
    assert done.with_preprocessing
    assert done.probability_difference is not None and done.probability_difference < 1e-3
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (given,), (out,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("image", "tensor(uint8)", ["height", "width", 3])
    assert (out.name, out.shape) == ("probabilities", [1, 7])
    predictors = [runtime.Predictor(which, top=7, threads=1) for which in (model, file)]
    for size in SIZES:
        image = photo(*size)
        (found,) = session.run(None, {"image": image})[0]
        for predictor in predictors:
            for one in predictor(image).predictions:
                assert found[one.index] == pytest.approx(one.probability, abs=0.01)


def test_openvino_reads_the_file_with_and_without_its_preprocessing(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    import openvino

    file = tmp_path / "whole.onnx"
    runtime.export(write_small_model(tmp_path / "small"), file, with_preprocessing=True)
    compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    image = photo(90, 70)
    predictor = runtime.Predictor(file, top=7, backend="openvino", threads=1)
    for one in predictor(image).predictions:
        assert compiled([image])[0][0, one.index] == pytest.approx(one.probability, abs=0.01)


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_other_precisions_can_preprocess_too(precision: str, tmp_path: Path) -> None:
    model, images = write_small_model(tmp_path / "small"), tmp_path / "images"
    images.mkdir()
    for index, size in enumerate(SIZES[:3]):
        Image.fromarray(photo(*size)).save(images / f"{index}.png")
    calibrate = images if precision == "int8" else None
    done = runtime.export(
        model, tmp_path / "a.onnx", precision=precision, with_preprocessing=True, calibrate=calibrate, images=images
    )
    assert done.probability_difference is not None and done.probability_difference < 0.01
    assert models.open_exported(tmp_path / "a.onnx").with_preprocessing


def test_a_model_that_does_not_read_rgb_cannot_preprocess(tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "grey", in_channels=1)
    with pytest.raises(base.CompoundNetError, match="with-preprocessing is for models that read 3"):
        runtime.export(model, tmp_path / "grey.onnx", with_preprocessing=True)
    assert not (tmp_path / "grey.onnx").exists()


def test_a_difference_from_predict_is_an_error_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compoundnet.runtime.exports import formats

    def other(file: Path, described: models.ExportedModel, target: Path) -> None:
        how = msgspec.structs.replace(described.preprocess, mean=(0.9, 0.1, 0.5))
        include(file, msgspec.structs.replace(described, preprocess=how), target)

    include = formats.include_preprocessing
    monkeypatch.setattr("compoundnet.runtime.exports.export.include_preprocessing", other)
    with pytest.raises(base.CompoundNetError, match=r"net\.onnx was not kept: with its own preprocessing"):
        runtime.export(random_net(small_network()), tmp_path / "net.onnx", with_preprocessing=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_real_photos_of_a_hundred_sizes(tmp_path: Path) -> None:
    """Lite0 on foolbox' photos, cut to sizes from 40 to 512 px."""
    import onnxruntime

    model, file = models.open_model(need_lite0()), tmp_path / "whole.onnx"
    photos = sorted(package_file("foolbox", "data").glob("imagenet_*.jpg"))
    runtime.export(model, file, with_preprocessing=True, opset=13)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    predictor = runtime.Predictor(model, top=1000)
    random = np.random.default_rng(0)
    for path in photos:
        whole = np.asarray(Image.open(path).convert("RGB"))
        for _ in range(5):
            rows, columns = random.integers(40, 513, 2)
            image = np.ascontiguousarray(whole[:rows, :columns])
            (found,) = session.run(None, {"image": image})[0]
            expected = predictor(image).predictions
            assert found.argmax() == expected[0].index
            assert max(abs(found[one.index] - one.probability) for one in expected) < 0.01
