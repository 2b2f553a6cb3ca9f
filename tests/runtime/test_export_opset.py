"""ONNX files for older runtimes: any opset from 13 to 21, the lowest IR version, the same logits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from known_photos import cat, need_lite0
from random_net import random_net, reduced, small_network

from compoundnet import base, models, runtime
from compoundnet.runtime.onnx_graph import write_onnx

# ONNX's table of releases: the IR version in which an opset appeared (onnx/docs/Versioning.md).
IR_VERSIONS = {13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10}


@pytest.mark.parametrize(
    ("name", "half", "opset"),
    [("small", False, 13), ("small", True, 21), ("mobilenet-v4-conv-small", True, 13)],
)
def test_every_opset_has_the_lowest_ir_version_and_the_same_logits(
    name: str, half: bool, opset: int, tmp_path: Path
) -> None:
    import onnxruntime

    net, file = random_net(small_network() if name == "small" else reduced(name)).fuse(), tmp_path / "asked.onnx"
    write_onnx(net, file, channels=3, size=64, half=half, opset=opset)
    onnx.checker.check_model(file, full_check=True)
    model = onnx.load(file)
    assert model.opset_import[0].version == opset
    assert model.ir_version == IR_VERSIONS[opset]
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    batch = np.random.default_rng(0).standard_normal((1, 3, 64, 64), dtype=np.float32)
    with torch.inference_mode():
        expected = net(torch.from_numpy(batch)).numpy()
    found = session.run(None, {"images": batch})[0]
    assert np.abs(found - expected).max() < (0.02 if half else 1e-5) * np.abs(expected).max()


def test_a_file_that_was_made_with_an_opset_is_a_model(tmp_path: Path) -> None:
    net = random_net(small_network())
    done = runtime.export(net, tmp_path / "old.onnx", opset=13, dynamic_batch=True, dynamic_size=True)
    assert done.opset == 13
    batch = np.random.default_rng(0).standard_normal((2, 3, 50, 71), dtype=np.float32)
    with torch.inference_mode():
        expected = net(torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(runtime.session(tmp_path / "old.onnx", threads=1)(batch), expected, atol=1e-4)


def test_an_operator_that_an_opset_does_not_have_is_named(tmp_path: Path) -> None:
    norm = torch.nn.LayerNorm(32).eval()
    write_onnx(norm, tmp_path / "new.onnx", channels=3, size=32, opset=17)
    with pytest.raises(
        base.CompoundNetError, match="opset 16 is too low for this network: it has no LayerNormalization"
    ):
        write_onnx(norm, tmp_path / "old.onnx", channels=3, size=32, opset=16)
    assert not (tmp_path / "old.onnx").exists()


OLD_RUNTIME = """
import sys
import numpy as np
import onnxruntime
from PIL import Image

folder, image = sys.argv[1:]
batch = np.load(f"{folder}/batch.npy")
for name in sys.stdin.read().split():
    session = onnxruntime.InferenceSession(f"{folder}/{name}.onnx", providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0].name
    found = session.run(None, {given: np.asarray(Image.open(image)) if given == "image" else batch})[0]
    np.save(f"{folder}/{name}.npy", found)
print(onnxruntime.__version__)
"""


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.16.3", "1.17.3"])
def test_older_onnx_runtimes_read_the_files(version: str, tmp_path: Path) -> None:
    """In an environment of their own: they need NumPy 1."""
    import venv

    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", f"onnxruntime=={version}", "numpy<2", "pillow"]
    installed = subprocess.run(pip, capture_output=True, text=True, check=False)
    if installed.returncode != 0:
        pytest.skip(
            f"onnxruntime {version} is not to be had for Python {sys.version_info[:2]}: {installed.stderr[-200:]}"
        )
    model = models.open_model(need_lite0())
    names = []
    for opset in (13, 15, 18, 19):
        names += [f"plain-{opset}", f"whole-{opset}"]
        runtime.export(model, tmp_path / f"plain-{opset}.onnx", opset=opset)
        runtime.export(model, tmp_path / f"whole-{opset}.onnx", opset=opset, with_preprocessing=True)
    batch = model.preprocess.pixels(cat())[None]
    np.save(tmp_path / "batch.npy", batch)
    command = [str(python), "-c", OLD_RUNTIME, str(tmp_path), str(cat())]
    done = subprocess.run(command, input=" ".join(names), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == version
    logits = runtime.session(model, threads=1)(batch)
    probabilities = model.postprocess.probabilities(logits)
    for name in names:
        expected, limit = (logits, 1e-4) if name.startswith("plain") else (probabilities, 1e-3)
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), expected, atol=limit * np.abs(expected).max())
