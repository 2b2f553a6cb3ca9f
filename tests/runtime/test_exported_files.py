"""Exported files that are read: those of others, newer ones, damaged ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from random_net import random_net, small_network

from compoundnet import base, models, runtime


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("exported") / "small.onnx"
    runtime.export(random_net(small_network()), file, labels=[f"class {index}" for index in range(10)])
    return file


def test_an_onnx_file_that_is_not_ours(tmp_path: Path, exported: Path) -> None:
    model = onnx.load(exported)
    del model.metadata_props[:]
    onnx.save_model(model, tmp_path / "other.onnx")
    with pytest.raises(base.CompoundNetError, match="is not an exported model of compoundnet"):
        runtime.Predictor(tmp_path / "other.onnx")


# Sound files that ONNX Runtime does not load, and what it says of them.


def custom_domain(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "other.library"
    model.opset_import.append(onnx.helper.make_opsetid("other.library", 1))


def newer_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


def newer_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 99


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (custom_domain, "other.library:Conv"),
        (newer_opset, "ONNX Runtime only .* Opset 99 is under development"),
        (newer_ir, "Unsupported model IR version: 99"),
    ],
)
def test_files_that_onnx_runtime_cannot_load_are_told(
    change: Callable[[onnx.ModelProto], None], told: str, exported: Path, tmp_path: Path
) -> None:
    model, file = onnx.load(exported), tmp_path / "newer.onnx"
    change(model)
    onnx.save_model(model, file)
    with pytest.raises(base.CompoundNetError, match=rf"newer\.onnx: ONNX Runtime cannot load it: .*{told}") as raised:
        runtime.session(file, threads=1)
    assert "onnxruntime_src" not in str(raised.value)
    assert "::" not in str(raised.value)
    del model.metadata_props[:]
    onnx.save_model(model, file)
    with pytest.raises(base.CompoundNetError, match=r"newer\.onnx is not an exported model of compoundnet"):
        runtime.Predictor(file)


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\x08\x0a\x12" * 50])
def test_damaged_files_are_told(suffix: str, content: bytes, tmp_path: Path) -> None:
    file = tmp_path / f"a{suffix}"
    file.write_bytes(content)
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(base.CompoundNetError, match=r"a\.(onnx|xml|pt2) is no"):
        models.open_exported(file)


def test_a_truncated_onnx_file_is_told(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "half.onnx").write_bytes(exported.read_bytes()[:-3000])
    with pytest.raises(base.CompoundNetError, match=r"half\.onnx is no ONNX file, or it is damaged"):
        models.open_exported(tmp_path / "half.onnx")


def test_missing_parts_are_told(tmp_path: Path) -> None:
    with pytest.raises(base.CompoundNetError, match="there is no file"):
        models.open_model(tmp_path / "gone.onnx")
    (tmp_path / "a.xml").write_text("<net/>")
    with pytest.raises(base.CompoundNetError, match=r"needs its weights, a\.bin"):
        models.open_model(tmp_path / "a.xml")


def test_labels_that_do_not_fit_the_network_are_told(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported)
    labels = next(entry for entry in model.metadata_props if entry.key == "compoundnet.labels")
    labels.value = "just one"
    onnx.save_model(model, tmp_path / "few.onnx")
    with pytest.raises(base.CompoundNetError, match="holds 1 labels, and the network has 10 classes"):
        models.open_exported(tmp_path / "few.onnx")


@pytest.mark.parametrize("part", ["network", "preprocess", "postprocess"])
def test_a_description_larger_than_any_is_refused(exported: Path, tmp_path: Path, part: str) -> None:
    """64 MiB of empty tables take gigabytes and minutes."""
    model = onnx.load(exported)
    entry = next(entry for entry in model.metadata_props if entry.key == f"compoundnet.{part}")
    entry.value = "".join(f"[a{number}]\n" for number in range(150_000))
    onnx.save_model(model, tmp_path / "large.onnx")
    with pytest.raises(base.CompoundNetError, match=rf"compoundnet\.{part}: is larger than 1.05 MB, the limit"):
        models.open_exported(tmp_path / "large.onnx")
