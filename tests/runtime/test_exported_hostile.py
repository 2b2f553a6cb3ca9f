"""Exported files that were made to run code, to read other files, or to take all memory: nothing of it happens."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from random_net import random_net, small_network
from small_model import write_small_model

from compoundnet import base, models, runtime

WEIGHTS = "data/weights/model_weights_config.json"


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.write_text, (self.file, "code ran"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    net = random_net(small_network())
    runtime.export(net, folder / "small.pt2", format="torch", dynamic_size=True)
    runtime.export(net, folder / "half.pt2", format="torch", precision="float16")
    runtime.export(net, folder / "small.onnx")
    return folder


def rewritten(source: Path, target: Path, changes: dict[str, bytes], *, compressed: bool = False) -> Path:
    """A copy of an archive with other entries; names are without the folder that torch puts before them."""
    how = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", how) as new:
        top = old.namelist()[0].partition("/")[0]
        kept = {name: old.read(name) for name in old.namelist()}
        for name, content in (kept | {f"{top}/{name}": content for name, content in changes.items()}).items():
            new.writestr(name, content)
    return target


def pickled(file: Path) -> bytes:
    content = io.BytesIO()
    torch.save(Hostile(file), content)
    return content.getvalue()


def config_of(source: Path) -> dict[str, dict[str, dict[str, object]]]:
    with zipfile.ZipFile(source) as archive:
        name = next(name for name in archive.namelist() if name.endswith(WEIGHTS))
        found: dict[str, dict[str, dict[str, object]]] = json.loads(archive.read(name))
        return found


@pytest.mark.parametrize("name", ["small.pt2", "half.pt2"])
def test_a_pt2_file_gives_what_torch_gives(exported: Path, name: str) -> None:
    images = np.random.default_rng(0).standard_normal((1, 3, 64, 64), dtype=np.float32)
    program = torch.export.load(exported / name).module()
    expected = program(torch.from_numpy(images)).detach().numpy()
    found = runtime.session(exported / name, threads=1)(images)
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()


def test_code_in_a_pt2_file_never_runs(exported: Path, tmp_path: Path) -> None:
    proof, images = tmp_path / "proof", np.zeros((1, 3, 64, 64), np.float32)
    with zipfile.ZipFile(exported / "small.pt2") as archive:
        graph = next(
            json.loads(archive.read(name)) for name in archive.namelist() if name.endswith("models/model.json")
        )
    code = f"__import__('pathlib').Path({str(proof)!r}).write_text('code ran')"
    for value in graph["graph_module"]["graph"]["sym_int_values"].values():
        value["as_expr"]["expr_str"] = code
    graph["guards_code"] = [code]
    harmless = {
        "inputs": {"data/sample_inputs/model.pt": pickled(proof)},
        "expressions": {"models/model.json": json.dumps(graph).encode()},
        "constants": {"data/constants/model.pt": pickled(proof)},
        "library": {"data/aotinductor/model/model.so": b"\x7fELF"},
        "objects": {
            "data/constants/opaque_obj_0": pickle.dumps(Hostile(proof)),
            "data/constants/model_constants_config.json": json.dumps(
                {"config": {"a": {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True}}}
            ).encode(),
        },
    }
    expected = runtime.session(exported / "small.pt2", threads=1)(images)
    for name, changes in harmless.items():
        file = rewritten(exported / "small.pt2", tmp_path / f"{name}.pt2", changes)
        assert np.array_equal(runtime.session(file, threads=1)(images), expected), name
    config = config_of(exported / "small.pt2")
    for payload in config["config"].values():
        payload["use_pickle"] = True
    changes = {WEIGHTS: json.dumps(config).encode()}
    changes |= {f"data/weights/{payload['path_name']}": pickled(proof) for payload in config["config"].values()}
    file = rewritten(exported / "small.pt2", tmp_path / "weights.pt2", changes)
    with pytest.raises(base.CompoundNetError, match="is a pickle, which may run code; it was refused and nothing"):
        runtime.session(file)
    assert not proof.exists()


def without_config(source: Path, target: Path, weights: bytes) -> Path:
    """The archive as torch 2.8 writes it: all weights in one pickle."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            if "/data/weights/" not in name:
                new.writestr(name, old.read(name))
        new.writestr(f"{old.namelist()[0].partition('/')[0]}/data/weights/model.pt", weights)
    return target


def test_pickled_weights_of_older_versions_are_read_as_tensors_only(exported: Path, tmp_path: Path) -> None:
    images = np.zeros((1, 3, 64, 64), np.float32)
    content = io.BytesIO()
    torch.save(random_net(small_network()).fuse().state_dict(), content)
    file = without_config(exported / "small.pt2", tmp_path / "older.pt2", content.getvalue())
    expected = runtime.session(exported / "small.pt2", threads=1)(images)
    assert np.array_equal(runtime.session(file, threads=1)(images), expected)
    proof = tmp_path / "proof"
    file = without_config(exported / "small.pt2", tmp_path / "hostile.pt2", pickled(proof))
    with pytest.raises(base.CompoundNetError, match="wants more than tensors; it was refused and nothing was run"):
        runtime.session(file)
    assert not proof.exists()


def test_damaged_weights_of_a_pt2_file_are_reported(exported: Path, tmp_path: Path) -> None:
    def changed(**fields: object) -> dict[str, bytes]:
        config = config_of(exported / "small.pt2")
        payload = next(iter(config["config"].values()))
        meta = payload["tensor_meta"]
        assert isinstance(meta, dict)
        meta.update({name: value for name, value in fields.items() if name in meta})
        payload.update({name: value for name, value in fields.items() if name in payload})
        return {WEIGHTS: json.dumps(config).encode()}

    numbers = [{"as_int": 10**9}, {"as_int": 1}, {"as_int": 1}, {"as_int": 1}]
    cases: dict[str, tuple[dict[str, bytes], str]] = {
        "sizes": (changed(sizes=numbers), "misshapen"),
        "strides": (changed(strides=numbers), "reaches beyond its entry"),
        "rank": (changed(strides=numbers[:2]), "reaches beyond|damaged"),
        "negative": (changed(storage_offset={"as_int": -1}), "reaches beyond its entry"),
        "offset": (changed(storage_offset={"as_int": 10**15}), "reaches beyond its entry"),
        "type": (changed(dtype=5), "neither float16 nor float32"),
        "path": (changed(path_name="../../../etc/passwd"), "lacks its entry"),
        "json": ({WEIGHTS: b"[" * 100_000}, "damaged"),
        "empty": ({WEIGHTS: b""}, "damaged"),
        "symbols": (changed(storage_offset={"as_expr": {"expr_str": "1"}}), "damaged"),
    }
    for name, (changes, told) in cases.items():
        file = rewritten(exported / "small.pt2", tmp_path / f"{name}.pt2", changes)
        with pytest.raises(base.CompoundNetError, match=told):
            runtime.session(file)


def test_metadata_that_unpack_to_gigabytes_are_refused(exported: Path, tmp_path: Path) -> None:
    large = {f"extra/compoundnet.{name}": b"\0" * (33 << 20) for name in ("labels", "more")}
    file = rewritten(exported / "small.pt2", tmp_path / "bomb.pt2", large, compressed=True)
    assert file.stat().st_size < 10 << 20
    with pytest.raises(base.CompoundNetError, match=r"metadata have .* is the limit"):
        models.open_exported(file)


def path_of_a_weight(source: Path) -> str:
    return f"data/weights/{next(iter(config_of(source)['config'].values()))['path_name']}"


def test_weights_that_unpack_to_more_than_the_file_are_refused(exported: Path, tmp_path: Path) -> None:
    source, zeros = exported / "small.pt2", bytes(70 << 20)
    file = rewritten(source, tmp_path / "bomb.pt2", {path_of_a_weight(source): zeros}, compressed=True)
    with pytest.raises(base.CompoundNetError, match=r"unpacks to 73.* MB, more than its own size"):
        runtime.session(file)


def test_weights_that_are_all_in_one_entry_are_refused(exported: Path, tmp_path: Path) -> None:
    """Each would be read and kept as a whole."""
    source = exported / "small.pt2"
    config = config_of(source)
    for payload in config["config"].values():
        payload["path_name"] = "shared"
    changes = {"data/weights/shared": bytes(3 << 20), WEIGHTS: json.dumps(config).encode()}
    assert len(config["config"]) * (3 << 20) > 64 << 20
    file = rewritten(source, tmp_path / "shared.pt2", changes)
    with pytest.raises(base.CompoundNetError, match="more than its own size"):
        runtime.session(file)


def test_pickled_weights_that_unpack_to_more_than_the_file_are_refused(exported: Path, tmp_path: Path) -> None:
    content = io.BytesIO()
    torch.save(random_net(small_network()).fuse().state_dict(), content)
    packed = io.BytesIO()
    with zipfile.ZipFile(content) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr(f"{old.namelist()[0].partition('/')[0]}/data/999", bytes(70 << 20))
    file = without_config(exported / "small.pt2", tmp_path / "older.pt2", packed.getvalue())
    with pytest.raises(base.CompoundNetError, match="more than its own size"):
        runtime.session(file)


def in_initializer(model: onnx.ModelProto) -> Any:
    return model.graph.initializer[0]


def in_attribute(model: onnx.ModelProto) -> Any:
    node = model.graph.node.add(op_type="Constant", output=["more"])
    node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    return node.attribute[0].t


def in_subgraph(model: onnx.ModelProto) -> Any:
    node = model.graph.node.add(op_type="If", output=["more"])
    node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH)
    return node.attribute[0].g.initializer.add(name="inner")


def in_sparse(model: onnx.ModelProto) -> Any:
    return model.graph.sparse_initializer.add().values


@pytest.mark.parametrize("place", [in_initializer, in_attribute, in_subgraph, in_sparse])
@pytest.mark.parametrize("location", ["/etc/passwd", "../secret", "beside.bin", "link.bin", "/dev/zero", ""])
def test_an_onnx_file_reads_no_other_file(
    exported: Path, tmp_path: Path, place: Callable[[onnx.ModelProto], Any], location: str
) -> None:
    (tmp_path / "beside.bin").write_bytes(b"\0" * 64)
    (tmp_path / "link.bin").symlink_to("/etc/passwd")
    model, file = onnx.load(exported / "small.onnx"), tmp_path / "outside.onnx"
    tensor = place(model)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "64")):
        tensor.external_data.add(key=key, value=value)
    file.write_bytes(model.SerializeToString())
    with pytest.raises(base.CompoundNetError, match="lies in another file, which was not read"):
        models.open_exported(file)


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
def test_pipes_devices_and_files_that_claim_terabytes_are_no_models(suffix: str, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"")
    file = tmp_path / f"a{suffix}"
    os.mkfifo(file)
    with pytest.raises(base.CompoundNetError, match="is a pipe, not a file"):
        models.open_exported(file)
    file.unlink()
    file.symlink_to("/dev/zero")
    with pytest.raises(base.CompoundNetError, match="is a device, not a file"):
        models.open_exported(file)
    file.unlink()
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(base.CompoundNetError, match="is the limit"):
        models.open_exported(file)


def test_an_xml_file_with_exponential_entities_is_refused(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY e{number} "{f"&e{number - 1};" * 10}">' for number in range(1, 12))
    (tmp_path / "a.xml").write_text(f'<!DOCTYPE net [<!ENTITY e0 "ten chars.">{entities}]><net>&e11;</net>')
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(base.CompoundNetError, match="is not OpenVINO's IR, or it is damaged"):
        models.open_exported(tmp_path / "a.xml")


FORK = """
import os, sys, numpy as np
from compoundnet import base, runtime
opened = runtime.session(sys.argv[1], backend=sys.argv[2], threads=2)
images = np.ones((2, 3, 64, 64), np.float32)
opened(images[:1])
expected = opened(images)
child = os.fork()
if child == 0:
    try:
        os._exit(0 if np.allclose(opened(images), expected) else 4)
    except base.CompoundNetError as error:
        os._exit(5 if "does not run in a forked process" in str(error) else 6)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize(
    ("name", "backend", "code"),
    [
        ("small.onnx", "onnxruntime", 0),
        ("small.onnx", "openvino", 5),
        pytest.param("small.pt2", "torch", 5, marks=pytest.mark.slow),
    ],
)
def test_a_session_in_a_forked_process_runs_or_says_that_it_cannot(
    exported: Path, name: str, backend: str, code: int
) -> None:
    done = subprocess.run([sys.executable, "-c", FORK, exported / name, backend], check=False, timeout=100)
    assert done.returncode == code


FORK_FEATURES = """
import os, sys, numpy as np
from compoundnet import base
from compoundnet.runtime.feature_session import feature_session
opened = feature_session(sys.argv[1], backend="torch", threads=2)
image = np.ones((3, 32, 32), np.float32)
opened.run(image)
child = os.fork()
if child == 0:
    try:
        opened.run(image)
    except base.CompoundNetError as error:
        os._exit(5 if "does not run in a forked process" in str(error) else 6)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_session_of_feature_maps_in_a_forked_process_says_that_it_cannot_run(tmp_path: Path) -> None:
    write_small_model(tmp_path / "model")
    done = subprocess.run([sys.executable, "-c", FORK_FEATURES, tmp_path / "model"], check=False, timeout=100)
    assert done.returncode == 5


SIGNAL = """
import os, signal, sys, threading, numpy as np
from compoundnet import runtime
caught = []
signal.signal(signal.SIGUSR1, lambda *_: caught.append(True))
opened = [runtime.session(sys.argv[1], backend="openvino", threads=2) for _ in range(2)]
opened.pop(0)(np.ones((2, 3, 64, 64), np.float32))
thread = threading.Thread(target=opened.clear)
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGUSR1)
sys.exit(0 if caught else 1)
"""


def test_a_signal_is_delivered_after_sessions_on_openvino_are_gone(exported: Path) -> None:
    pytest.importorskip("openvino")
    done = subprocess.run([sys.executable, "-c", SIGNAL, exported / "small.onnx"], check=False, timeout=100)
    assert done.returncode == 0
