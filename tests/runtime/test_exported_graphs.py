"""Exported files whose graph is not what their metadata say, or whose work has no bound: an error of the file."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from random_net import random_net, small_network

from compoundnet import base, models, runtime


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    runtime.export(random_net(small_network()), folder / "small.onnx")
    return folder


def with_loop(model: onnx.ModelProto) -> None:
    model.graph.node.add(op_type="Loop", output=["more"])


def with_inner_loop(model: onnx.ModelProto) -> None:
    node = model.graph.node.add(op_type="If", output=["more"])
    branch = node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g
    branch.node.add(op_type="Scan", output=["inner"])


def with_function(model: onnx.ModelProto) -> None:
    model.functions.add(name="f", domain="d").node.add(op_type="Relu", input=["a"], output=["b"])


@pytest.mark.parametrize("place", [with_loop, with_inner_loop, with_function])
def test_an_onnx_file_with_unbounded_work_is_refused(
    exported: Path, tmp_path: Path, place: Callable[[onnx.ModelProto], None]
) -> None:
    model, file = onnx.load(exported / "small.onnx"), tmp_path / "a.onnx"
    place(model)
    file.write_bytes(model.SerializeToString())
    with pytest.raises(base.CompoundNetError, match="nothing bounds its work; it was not run"):
        models.open_exported(file)


def test_an_xml_file_with_a_loop_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text('<net><layers><layer name="again" type="TensorIterator"/></layers></net>')
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(base.CompoundNetError, match=r"a loop or a function \(again\)"):
        models.open_exported(tmp_path / "a.xml")


@pytest.mark.slow
def test_a_tflite_file_with_the_body_of_a_loop_is_refused(tmp_path: Path) -> None:
    from ai_edge_litert.tools import flatbuffer_utils

    file = tmp_path / "a.tflite"
    runtime.export(random_net(small_network()), file)
    content = file.read_bytes()
    tree = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    tree.subgraphs.append(tree.subgraphs[0])
    with zipfile.ZipFile(file) as archive:
        start = min(entry.header_offset for entry in archive.infolist())
    file.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(tree)) + content[start:])
    with pytest.raises(base.CompoundNetError, match="nothing bounds its work"):
        runtime.session(file)


def other_input(model: onnx.ModelProto) -> None:
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 3, 48, 48), strict=True):
        dim.dim_value = size


def second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(onnx.helper.make_tensor_value_info("second", onnx.TensorProto.FLOAT, [1]))


def flat_input(model: onnx.ModelProto) -> None:
    del model.graph.input[0].type.tensor_type.shape.dim[:]


def terabytes(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if "logits" in node.output)
    node.output[0] = "kept"
    shape = onnx.numpy_helper.from_array(np.array([2_000_000, 2_000_000, 1, 1]), "shape")
    model.graph.initializer.append(shape)
    model.graph.node.append(onnx.helper.make_node("Expand", ["kept", "shape"], ["large"]))
    model.graph.node.append(onnx.helper.make_node("ReduceMax", ["large"], ["logits"]))


@pytest.mark.parametrize("change", [other_input, second_input, flat_input, terabytes])
def test_an_onnx_file_that_does_not_run_is_an_error_of_the_file(
    exported: Path, tmp_path: Path, change: Callable[[onnx.ModelProto], None], capfd: pytest.CaptureFixture[str]
) -> None:
    model, file = onnx.load(exported / "small.onnx"), tmp_path / "a.onnx"
    change(model)
    file.write_bytes(model.SerializeToString())
    size = models.open_exported(file).preprocess.size
    with pytest.raises(base.CompoundNetError, match=r"a\.onnx: onnxruntime cannot run it"):
        runtime.session(file)(np.zeros((1, 3, size, size), np.float32))
    assert "onnxruntime:," not in capfd.readouterr().err  # its own log


def test_an_onnx_file_with_other_outputs_than_it_says_is_refused(exported: Path, tmp_path: Path) -> None:
    model, file = onnx.load(exported / "small.onnx"), tmp_path / "a.onnx"
    node = next(node for node in model.graph.node if "logits" in node.output)
    node.output[0] = "kept"
    model.graph.node.append(onnx.helper.make_node("Concat", ["kept", "kept"], ["logits"], axis=1))
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    file.write_bytes(model.SerializeToString())
    opened = models.open_exported(file)
    with pytest.raises(base.CompoundNetError, match="where its metadata say"):
        runtime.session(file)(np.zeros((1, 3, opened.preprocess.size, opened.preprocess.size), np.float32))
