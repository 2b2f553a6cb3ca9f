"""Sessions: one interface, equal results on every backend, compiled once, and errors a person can act on."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from random_net import random_net, small_network
from small_model import write_small_model

from compoundnet import arch, base, models, nn, runtime
from compoundnet.base import machine
from compoundnet.runtime import onnx_graph
from compoundnet.runtime.backends import onnxruntime as on_onnxruntime
from compoundnet.runtime.backends import session as backend_session
from compoundnet.runtime.backends.blocked import pad_squeezed
from compoundnet.runtime.backends.registry import find_backend
from compoundnet.runtime.session_source import find_source
from compoundnet.runtime.timing import fastest
from compoundnet.runtime.timing.rounds import Latency, summarise

BACKENDS = ["onnxruntime", "torch", "openvino"]


@pytest.fixture(scope="module")
def net() -> nn.ConvNet:
    return random_net(small_network())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> models.ModelFolder:
    return write_small_model(tmp_path_factory.mktemp("models") / "small")


def images(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def logits(net: nn.ConvNet, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.inference_mode():
        found: NDArray[np.float32] = net(torch.from_numpy(batch)).numpy()
    return found


def difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def needs(backend: str) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")


# Equal results.


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch", [1, 3])
def test_backends_give_torchs_logits(backend: str, batch: int, net: nn.ConvNet) -> None:
    needs(backend)
    session = runtime.session(net, backend=backend, threads=1)
    assert (session.backend, session.threads) == (backend, 1)
    found = session(images(batch, 3, 64, 64))
    assert found.dtype == np.float32
    assert found.shape == (batch, 10)
    assert difference(found, logits(net, images(batch, 3, 64, 64))) < 1e-5


@pytest.mark.slow
def test_torch_compile_gives_torchs_logits(net: nn.ConvNet) -> None:
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    session = runtime.session(net, backend="compile", threads=1)
    assert difference(session(images(2, 3, 64, 64)), logits(net, images(2, 3, 64, 64))) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_several_threads_give_the_same(backend: str, net: nn.ConvNet) -> None:
    needs(backend)
    if machine.cores() < 2:
        pytest.skip("one core")
    batch = images(7, 3, 64, 64)
    assert difference(runtime.session(net, backend=backend, threads=2)(batch), logits(net, batch)) < 1e-5


def test_a_model_by_folder_and_opened(model: models.ModelFolder) -> None:
    batch = images(2, 3, 32, 32)
    expected = logits(models.load(model), batch)
    for given in (model, model.folder, str(model.folder)):
        assert difference(runtime.session(given)(batch), expected) < 1e-5


def test_another_size_than_the_models(net: nn.ConvNet) -> None:
    session = runtime.session(net, size=45, threads=1)
    assert session.size == 45
    assert difference(session(images(1, 3, 45, 45)), logits(net, images(1, 3, 45, 45))) < 1e-5


def test_a_module_that_is_not_ours() -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
    with torch.inference_mode():
        expected = module(torch.from_numpy(images(2, 3, 40, 40))).numpy()
    for backend in ("onnxruntime", "torch"):
        found = runtime.session(module, backend=backend, size=40)(images(2, 3, 40, 40))
        assert difference(found, expected) < 1e-5
    with pytest.raises(base.CompoundNetError, match="a Sequential does not say which image size"):
        runtime.session(module)


def test_a_network_in_training_stays_in_training(net: nn.ConvNet) -> None:
    training = random_net(net.spec).train()
    found = runtime.session(training, threads=1)(images(1, 3, 64, 64))
    assert difference(found, logits(net, images(1, 3, 64, 64))) < 1e-5
    assert training.training
    with pytest.raises(base.CompoundNetError, match="gives feature maps; a session gives logits"):
        runtime.session(nn.build(net.spec, features_only=True))


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_may_share_a_session(threads: int, net: nn.ConvNet) -> None:
    """OpenVINO's holds one request, and the images of a batch beside one another one queue."""
    needs("openvino")
    if threads > machine.cores():
        pytest.skip("one core")
    session = runtime.session(net, backend="openvino", threads=threads)
    batches = [images(2, 3, 64, 64, seed=seed) for seed in range(2)]
    expected = [session(batch) for batch in batches]
    together = threading.Barrier(2, timeout=60)

    def calls(number: int) -> bool:
        together.wait()
        return all(np.array_equal(session(batches[number]), expected[number]) for _ in range(100))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(calls, range(2))) == [True, True]


def test_torch_has_its_threads_back(net: nn.ConvNet) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        runtime.session(net, backend="torch", threads=1)(images(1, 3, 64, 64))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_images_stay_as_they_were(net: nn.ConvNet) -> None:
    batch = images(2, 3, 64, 64)
    batch.flags.writeable = False
    for backend in ("onnxruntime", "torch"):
        runtime.session(net, backend=backend, threads=1)(batch[::-1])
    np.testing.assert_array_equal(batch, images(2, 3, 64, 64))


# Squeeze-excitation in channel blocks.


def test_wider_squeezed_channels_change_nothing(net: nn.ConvNet, tmp_path: Path) -> None:
    onnx_graph.write_onnx(net.fuse(), tmp_path / "a.onnx", channels=3, size=64)
    model = onnx.load(tmp_path / "a.onnx")
    pad_squeezed(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, tmp_path / "b.onnx")
    batch = images(1, 3, 64, 64)
    a, b = (
        on_onnxruntime.raw_session(tmp_path / file).run(None, {"images": batch})[0] for file in ("a.onnx", "b.onnx")
    )
    assert difference(b, a) < 1e-6
    widths = [tensor.dims[0] for tensor in model.graph.initializer if tensor.name.endswith("se.reduce.weight")]
    assert len(widths) == net.spec.blocks
    assert all(width % 16 == 0 for width in widths)


# The cache.


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_what_onnx_runtime_cannot_write_is_a_full_disk_to_the_cache(net: nn.ConvNet, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").symlink_to("/dev/full")
    with pytest.raises(OSError, match="ONNX Runtime cannot write there, most likely because it is full"):
        on_onnxruntime._compile(find_source(net), tmp_path)


def entries(cache: Path) -> list[Path]:
    return sorted(path for path in (cache / "sessions").iterdir() if path.is_dir())


def refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("this should have been in the cache")


@pytest.mark.parametrize("stem", [16, 24])  # 24 channels leave half of a block of 16 empty
def test_compiled_once_without_layout_changes_around_squeeze_excitation(
    stem: int, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = random_net(small_network().replace(stem=arch.Stem(stem)))
    first = runtime.session(net, threads=1)(images(1, 3, 64, 64))
    monkeypatch.setattr(onnx_graph, "write_onnx", refuse)
    np.testing.assert_array_equal(runtime.session(net, threads=1)(images(1, 3, 64, 64)), first)
    assert difference(first, logits(net, images(1, 3, 64, 64))) < 1e-5
    (folder,) = entries(empty_cache)
    nodes = onnx.load(folder / "model.onnx", load_external_data=False).graph.node
    if not any(node.domain == "com.microsoft.nchwc" for node in nodes):
        pytest.skip("ONNX Runtime has no channel blocks on this processor")
    # Those of the gates, and that of the head.
    assert sum(node.op_type == "GlobalAveragePool" for node in nodes) == net.spec.blocks + 1
    # What is left: the last map is given back as the classifier reads it.
    assert sum(node.op_type in ("ReorderInput", "ReorderOutput") for node in nodes) <= 2


def test_openvino_compiles_once(net: nn.ConvNet, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("openvino")
    from compoundnet.runtime.backends import openvino as on_openvino

    first = runtime.session(net, backend="openvino", threads=1)(images(1, 3, 64, 64))
    monkeypatch.setattr(on_openvino, "compile_graph", refuse)
    for threads in range(1, min(2, machine.cores()) + 1):
        again = runtime.session(net, backend="openvino", threads=threads)(images(1, 3, 64, 64))
        np.testing.assert_array_equal(again, first)
    assert len(entries(empty_cache)) == 1


class Negative(nn.ConvNet):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -super().forward(x)


class Tripled(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 3 * x


def test_a_network_that_was_changed_by_hand_is_no_entry_of_the_plain_one(empty_cache: Path) -> None:
    """Another activation, a hook, a derived class: neither the description nor the weights say anything of them."""
    network = small_network()
    plain, quiet, hooked, own, patched = (random_net(network) for _ in range(5))
    quiet.get_submodule("head").act = torch.nn.Identity()
    own.get_submodule("head").act = Tripled()
    patched.get_submodule("head.act").__dict__["forward"] = lambda x: 4 * x
    hooked.register_forward_hook(lambda _module, _given, logits: 2 * logits)
    derived = Negative(network)
    derived.load_state_dict(plain.state_dict())
    batch = images(1, 3, 64, 64)
    nets = (plain, quiet, hooked, own, patched, derived.eval())
    found = [runtime.session(net, backend="onnxruntime", threads=1)(batch) for net in nets]
    for net, given in zip(nets, found, strict=True):
        assert difference(given, logits(net, batch)) < 1e-5
    assert len({given.tobytes() for given in found}) == 6
    assert len(entries(empty_cache)) == 2, "what a hook or a class of the user computes is not known, and not kept"


def test_other_weights_sizes_and_versions_are_other_entries(net: nn.ConvNet, monkeypatch: pytest.MonkeyPatch) -> None:
    other = random_net(net.spec, seed=1)
    found = [find_source(given, size).identified("torch") for given, size in ((net, None), (other, None), (net, 32))]
    monkeypatch.setattr(metadata, "version", lambda package: "0.0.1")
    found.append(find_source(net).identified("torch"))
    assert all(identity is not None for identity in found)
    assert len({str(identity) for identity in found}) == 4
    monkeypatch.undo()
    assert find_source(random_net(net.spec)).identified("torch") == found[0]


def test_a_cached_session_starts_without_torch(model: models.ModelFolder) -> None:
    runtime.session(model)
    code = (
        "import sys, numpy; from compoundnet import runtime;"
        f"run = runtime.session({str(model.folder)!r});"
        "assert run(numpy.zeros((2, 3, 32, 32), numpy.float32)).shape == (2, 7);"
        "print(sorted({'torch', 'onnx', 'matplotlib', 'huggingface_hub'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_damaged_session_is_compiled_anew(
    net: nn.ConvNet, empty_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = runtime.session(net, threads=1)(images(1, 3, 64, 64))
    (folder,) = entries(empty_cache)
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(runtime.session(net, threads=1)(images(1, 3, 64, 64)), expected)
    assert "is damaged (model.onnx); making it anew" in caplog.text


def test_a_cache_that_cannot_be_written_only_costs_time(
    net: nn.ConvNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COMPOUNDNET_CACHE", str(tmp_path / "file"))
    found = runtime.session(net, threads=1)(images(1, 3, 64, 64))
    assert difference(found, logits(net, images(1, 3, 64, 64))) < 1e-5
    assert "cannot be written" in caplog.text
    assert "COMPOUNDNET_CACHE" in caplog.text


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_module_stays_as_it_is(backend: str, net: nn.ConvNet) -> None:
    needs(backend)
    for module in (torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 900, 5)), net):
        module.eval()
        before = {name: (tensor.clone(), tensor.stride()) for name, tensor in module.state_dict().items()}
        runtime.session(module, backend=backend, threads=1, size=32)(images(1, 3, 32, 32))
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, before[name][0])
            assert tensor.stride() == before[name][1]


# The fastest backend.


def test_auto_measures_once_and_remembers(net: nn.ConvNet, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    milliseconds = {"onnxruntime float32": 20.0, "torch float32": 10.0, "openvino float32": 30.0}

    def timed(calls: dict[str, Any], **_: int) -> dict[str, Latency]:
        return {name: summarise([milliseconds[name]]) for name in calls}

    monkeypatch.setattr(fastest, "time_rounds", timed)
    assert runtime.session(net, backend="auto", threads=1).backend == "torch"
    monkeypatch.setattr(fastest, "time_rounds", refuse)
    assert runtime.session(net, backend="auto", threads=1).backend == "torch"


def test_auto_of_a_file_is_among_what_runs_it(net: nn.ConvNet, tmp_path: Path) -> None:
    runtime.export(net, tmp_path / "a.onnx")
    assert runtime.session(tmp_path / "a.onnx", backend="auto", threads=1).backend in ("onnxruntime", "openvino")


def test_auto_of_a_file_that_nothing_installed_runs_says_what_to_install(
    net: nn.ConvNet, tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("openvino")
    runtime.export(net, tmp_path / "a.xml", format="openvino")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else find(name))
    with pytest.raises(base.CompoundNetError, match="the backend openvino needs openvino"):
        runtime.session(tmp_path / "a.xml", backend="auto")
    assert not list(empty_cache.glob("sessions/*-fastest-*"))


# What cannot be.


def test_litert_runs_files_only(net: nn.ConvNet, model: models.ModelFolder) -> None:
    pytest.importorskip("ai_edge_litert")
    told = "litert runs exported files only, and .* is none"
    with pytest.raises(base.CompoundNetError, match=told):
        runtime.Embedder(model, backend="litert")(np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(base.CompoundNetError, match=told):
        runtime.plan_within(net.spec, 1e3, backend="litert")


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (np.zeros((3, 64, 64), np.float32), r"must be a NumPy array float32\[N, 3, .*, got float32\[3, 64, 64\]"),
        ([[1]], "must be a NumPy array .*, got a list"),
        (torch.zeros(1, 3, 64, 64), "got a Tensor"),
        (np.zeros((1, 1, 64, 64), np.float32), r"got float32\[1, 1, 64, 64\]"),
        (np.zeros((0, 3, 64, 64), np.float32), "with N at least 1"),
        (np.zeros((1, 3, 64, 64), np.float64), r"got float64\[1, 3, 64, 64\]"),
        (np.zeros((1, 3, 31, 64), np.float32), "at least 32 px|64 x 64 px, got 31 x 64"),
    ],
)
def test_images_of_another_shape_or_type(backend: str, batch: Any, message: str, net: nn.ConvNet) -> None:
    with pytest.raises(base.CompoundNetError, match=message):
        runtime.session(net, backend=backend, threads=1)(batch)


def test_images_of_another_size_than_it_was_compiled_for(net: nn.ConvNet) -> None:
    with pytest.raises(base.CompoundNetError, match="for images of 64 x 64 px, got 96 x 96; size= makes one"):
        runtime.session(net, threads=1)(images(1, 3, 96, 96))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "onxruntime"}, "no backend named 'onxruntime'; did you mean onnxruntime"),
        ({"threads": 4096}, r"threads must be 1 to \d+, the cores that this process may use, got 4096"),
        ({"threads": 0}, "threads must be 1"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"size": 16}, "size must be at least 32 px, got 16"),
        ({"backend": "onnxruntime", "device": "cuda"}, "onnxruntime runs on the CPU here"),
        ({"device": "cudda"}, "torch cannot use the device 'cudda'"),
    ],
)
def test_impossible_wishes(options: dict[str, Any], message: str, net: nn.ConvNet) -> None:
    with pytest.raises(base.CompoundNetError, match=message):
        runtime.session(net, **options)


@pytest.mark.parametrize(
    ("backend", "remedy"),
    [("openvino", r"pip install 'compoundnet\[openvino\]'"), ("onnxruntime", "pip install onnxruntime")],
)
def test_a_backend_that_is_not_installed(
    backend: str, remedy: str, net: nn.ConvNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == backend else find(name))
    with pytest.raises(base.CompoundNetError, match=f"the backend {backend} needs {backend}: {remedy}$"):
        runtime.session(net, backend=backend)


def test_a_batch_that_does_not_fit_memory(net: nn.ConvNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_session, "free_memory", lambda: 5_000_000)
    message = "a batch of 64 images needs about .* give a smaller batch"
    with pytest.raises(base.CompoundNetError, match=message):
        runtime.session(net, backend="torch", batch=64)
    session = runtime.session(net, backend="torch", threads=1)
    with pytest.raises(base.CompoundNetError, match=message):
        session(images(64, 3, 64, 64))
    # What a GPU holds is not this machine's memory; the device "meta" stands for one.
    runtime.Session(find_source(net), find_backend("torch"), 1, lambda batch: batch, "meta")(images(64, 3, 64, 64))
    # ONNX Runtime takes one image at a time, so that auto takes it, or OpenVINO.
    assert runtime.session(net, batch=64, threads=1)(images(64, 3, 64, 64)).shape == (64, 10)
    assert runtime.session(net, backend="auto", batch=64, threads=1).backend != "torch"


def test_a_file_runs_on_what_it_is_for(net: nn.ConvNet, tmp_path: Path) -> None:
    runtime.export(net, tmp_path / "a.pt2", format="torch")
    assert runtime.session(tmp_path / "a.pt2").backend == "torch"
    with pytest.raises(base.CompoundNetError, match=r"a\.pt2 runs on torch or compile, not on onnxruntime"):
        runtime.session(tmp_path / "a.pt2", backend="onnxruntime")
    with pytest.raises(base.CompoundNetError, match=r"takes 64 px images only, not 96 px.*--dynamic-size"):
        runtime.session(tmp_path / "a.pt2", size=96)
