"""LiteRT files: equal to torch, with metadata and labels that mobile tools read, and models by themselves."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from known_photos import cat, need_lite0, package_file
from PIL import Image
from small_model import write_small_model

from compoundnet import base, models, runtime

if importlib.util.find_spec("litert_torch") is None:
    pytest.skip("litert-torch is not installed (compoundnet[litert])", allow_module_level=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its float32 and int8 files, and the images that calibrated the latter."""
    folder = tmp_path_factory.mktemp("litert")
    model = write_small_model(folder / "small")
    (folder / "images").mkdir()
    random = np.random.default_rng(0)
    for index in range(4):
        small = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        small.resize((60, 50), Image.Resampling.BICUBIC).save(folder / "images" / f"{index}.png")
    done = runtime.export(model, folder / "small.tflite")
    assert (done.format, done.precision, done.limit) == ("litert", "float32", 1e-4)
    assert done.difference is not None and done.difference < 1e-5
    done = runtime.export(model, folder / "int8.tflite", precision="int8", calibrate=folder / "images")
    assert done.images == 4
    assert done.agreement is not None
    assert done.bytes == (folder / "int8.tflite").stat().st_size < (folder / "small.tflite").stat().st_size
    return folder


def test_it_is_a_model_of_predict(folder: Path) -> None:
    images = sorted((folder / "images").iterdir())
    wanted = list(runtime.Predictor(folder / "small", threads=1).many(images))
    found = list(runtime.Predictor(folder / "small.tflite", threads=1).many(images))
    for one, other in zip(found, wanted, strict=True):
        assert isinstance(one, runtime.Prediction) and isinstance(other, runtime.Prediction)
        assert one.label == other.label
        assert one.predictions[0].probability == pytest.approx(other.predictions[0].probability, abs=1e-5)
    session = runtime.session(folder / "int8.tflite", threads=1)
    assert (session.backend, session.precision) == ("litert", "int8")
    assert session(np.zeros((2, 3, 32, 32), np.float32)).shape == (2, 7)


def test_int8_is_int8_from_input_to_output(folder: Path) -> None:
    from ai_edge_litert import interpreter

    opened = interpreter.Interpreter(str(folder / "int8.tflite"), num_threads=1)
    (given,), (out,) = opened.get_input_details(), opened.get_output_details()
    assert (given["dtype"], out["dtype"]) == (np.int8, np.int8)
    assert given["shape"].tolist() == [1, 32, 32, 3]
    assert list(opened.get_signature_list()["serving_default"].values()) == [["images"], ["logits"]]


def test_the_labels_and_what_describes_the_model_are_in_an_archive_behind_it(folder: Path) -> None:
    with zipfile.ZipFile(folder / "small.tflite") as archive:
        assert archive.read("labels.txt").decode().split("\n") == [f"class {index}" for index in range(7)]
        assert json.loads(archive.read("compoundnet.json"))["compoundnet.precision"] == "float32"
    found = models.open_exported(folder / "small.tflite")
    assert found.network == models.open_folder(folder / "small").network


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"PK\x05\x06" + bytes(18)])
def test_damaged_files_are_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tflite").write_bytes(content)
    with pytest.raises(base.CompoundNetError, match=r"a\.tflite is no \.tflite file that `compoundnet export` wrote"):
        models.open_exported(tmp_path / "a.tflite")


def test_a_model_whose_graph_is_damaged_is_told(folder: Path, tmp_path: Path) -> None:
    content = bytearray((folder / "small.tflite").read_bytes())
    content[4:8] = b"xxxx"
    (tmp_path / "a.tflite").write_bytes(content)
    with pytest.raises(base.CompoundNetError, match=r"a\.tflite: LiteRT cannot load it"):
        runtime.session(tmp_path / "a.tflite", threads=1)


def test_what_litert_cannot_hold_is_told_before_any_work(folder: Path, tmp_path: Path) -> None:
    for options, told in [
        ({"dynamic_batch": True}, "leave dynamic-batch and dynamic-size out"),
        ({"with_cam": True}, "with-cam is for the format onnx"),
        ({"opset": 13}, "opset is for the format onnx"),
    ]:
        with pytest.raises(base.CompoundNetError, match=told):
            runtime.export(folder / "small", tmp_path / "a.tflite", **options)  # type: ignore[arg-type]
    with pytest.raises(base.CompoundNetError, match=r"runs on onnxruntime or .*, not on litert"):
        runtime.session(folder / "small", backend="litert")


def test_the_missing_library_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> object:
        return None if name == "litert_torch" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(base.CompoundNetError, match=r"needs litert_torch: pip install 'compoundnet\[litert\]'"):
        runtime.export(folder / "small", tmp_path / "a.tflite")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_float16_is_half_as_large(folder: Path, tmp_path: Path) -> None:
    done = runtime.export(need_lite0(), tmp_path / "half.tflite", precision="float16")
    assert done.difference is not None and 1e-5 < done.difference < 0.02
    assert done.bytes < 9.6e6


@pytest.mark.slow
def test_real_photos_have_the_class_that_predict_gives(tmp_path: Path) -> None:
    name, file = need_lite0(), tmp_path / "lite0.tflite"
    runtime.export(name, file)
    photos = [*sorted(package_file("foolbox", "data").glob("imagenet_*.jpg")), cat()]
    for photo in photos:
        assert runtime.Predictor(file, top=1)(photo).label == runtime.Predictor(name, top=1)(photo).label


@pytest.mark.slow
def test_the_metadata_are_of_the_schema_of_the_metadata_tools(folder: Path, tmp_path: Path) -> None:
    """Read with the classes that tflite-support generated from it; its other parts need an old protobuf."""
    from ai_edge_litert import schema_py_generated as model_schema

    target = ["--target", str(tmp_path), "--no-deps", "tflite-support==0.4.4"]
    installed = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *target], check=False)
    if installed.returncode != 0:
        pytest.skip("tflite-support is not to be had")
    file = tmp_path / "tensorflow_lite_support" / "metadata" / "metadata_schema_py_generated.py"
    spec = importlib.util.spec_from_file_location("metadata_schema", file)
    assert spec is not None and spec.loader is not None
    schema: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(schema)

    model = model_schema.Model.GetRootAsModel((folder / "small.tflite").read_bytes(), 0)
    entries = [model.Metadata(index) for index in range(model.MetadataLength())]
    (entry,) = (one for one in entries if one.Name() == b"TFLITE_METADATA")
    content = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
    assert schema.ModelMetadata.ModelMetadataBufferHasIdentifier(content, 0)
    found = schema.ModelMetadataT.InitFromObj(schema.ModelMetadata.GetRootAsModelMetadata(content, 0))
    (graph,) = found.subgraphMetadata
    (given,), (out,) = graph.inputTensorMetadata, graph.outputTensorMetadata
    (unit,) = given.processUnits
    assert unit.options.mean.tolist() == pytest.approx([123.675, 116.28, 103.53])
    assert given.content.contentProperties.colorSpace == schema.ColorSpaceType.RGB
    assert given.content.contentProperties.defaultSize.height == 32
    (labels,) = out.associatedFiles
    assert (labels.name, labels.type) == (b"labels.txt", schema.AssociatedFileType.TENSOR_VALUE_LABELS)
