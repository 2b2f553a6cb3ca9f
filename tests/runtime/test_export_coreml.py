"""Core ML packages, compared with the network by their structure: Core ML itself runs on macOS only."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from small_model import write_small_model

from compoundnet import base, runtime

if importlib.util.find_spec("coremltools") is None:
    pytest.skip("coremltools is not installed (compoundnet[coreml])", allow_module_level=True)


def test_a_package_holds_the_network_and_replaces_only_packages(tmp_path: Path) -> None:
    import coremltools

    model, package = write_small_model(tmp_path / "small"), tmp_path / "small.mlpackage"
    package.mkdir()
    (package / "Manifest.json").touch()  # what is replaced
    done = runtime.export(model, package, precision="float16")
    assert (done.format, done.precision, done.difference, done.limit) == ("coreml", "float16", None, None)
    assert done.bytes == sum(file.stat().st_size for file in package.rglob("*") if file.is_file())
    spec = coremltools.models.MLModel(str(package), skip_model_load=True).get_spec()
    (given,), (out,) = spec.description.input, spec.description.output
    assert (given.name, list(given.type.multiArrayType.shape)) == ("images", [1, 3, 32, 32])
    assert out.name == "logits"
    assert spec.description.metadata.userDefined["compoundnet.labels"].startswith("class 0\nclass 1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small", "small.mlpackage"]
    (tmp_path / "mine.mlpackage").mkdir()
    with pytest.raises(base.CompoundNetError, match="is a folder, and no coreml package that could be replaced"):
        runtime.export(model, tmp_path / "mine.mlpackage")


def test_what_core_ml_cannot_hold_is_told(tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "small")
    with pytest.raises(base.CompoundNetError, match="the format coreml holds float32 or float16, not int8"):
        runtime.export(model, tmp_path / "a.mlpackage", precision="int8", calibrate=tmp_path)


@pytest.mark.slow
def test_another_structure_is_an_error_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from compoundnet.runtime.exports import coreml

    whole = coreml._check

    def thinner(net: Any, described: Any, package: Path) -> None:
        next(package.rglob("weight.bin")).write_bytes(b"")
        whole(net, described, package)

    monkeypatch.setattr(coreml, "_check", thinner)
    with pytest.raises(base.CompoundNetError, match=r"small\.mlpackage was not kept: it holds"):
        runtime.export(write_small_model(tmp_path / "small"), tmp_path / "small.mlpackage")
    assert [path.name for path in tmp_path.iterdir()] == ["small"]
