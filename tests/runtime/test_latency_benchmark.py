"""benchmark: what is timed by which name, what is recorded, peers, and bad input."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_model import write_small_model

from compoundnet import arch, base, models
from compoundnet.base.machine import cores
from compoundnet.runtime import export, session_source
from compoundnet.runtime.backends import session
from compoundnet.runtime.timing.benchmark import benchmark
from compoundnet.runtime.timing.peers import WAYS, Peer, open_peer, peers, peers_of
from compoundnet.runtime.timing.resident import recorded
from compoundnet.runtime.timing.subjects import subject
from compoundnet.runtime.timing.throughput import throughput


@pytest.fixture
def small(tmp_path: Path) -> str:
    file = tmp_path / "small.toml"
    arch.scale(arch.network("efficientnet-b0"), depth=0.1, width=0.25, resolution=64).save(file)
    return str(file)


def test_networks_on_backends_in_one_result(small: str, empty_cache: Path) -> None:
    done = benchmark([small], backends=("onnxruntime", "torch"), runs=2)
    assert [(found.library, found.backend) for found in done.measurements] == [
        ("compoundnet", "onnxruntime"),
        ("compoundnet", "torch"),
    ]
    first = done.measurements[0]
    assert (first.weights, first.size, first.latency.runs) == ("random", 64, 2)
    assert first.macs == arch.cost(arch.network(small)).macs
    assert done.left_out == ()
    assert not empty_cache.exists()  # of random weights nothing is kept


def test_networks_of_one_name_are_told_apart_by_their_files(small: str, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    arch.network(small).replace(resolution=32).save(other)
    done = benchmark([small, str(other), small], backends=("torch",), runs=1)
    name = arch.network(small).name
    assert [found.label for found in done.measurements] == [f"{name} ({small})", f"{name} ({other})"]
    assert [(found.network, found.size) for found in done.measurements] == [(name, 64), (name, 32)]


def test_what_a_precision_lacks_is_left_out_with_the_reason(small: str) -> None:
    done = benchmark([small], backends=("onnxruntime",), precisions=("float32", "bfloat16", "int8"), runs=1)
    assert [(found.backend, found.precision) for found in done.measurements] == [("onnxruntime", "float32")]
    bfloat16, int8 = done.left_out
    assert "onnxruntime does not run bfloat16 on a CPU" in bfloat16
    assert "has no int8 form" in int8
    with pytest.raises(base.CompoundNetError, match="there is nothing to time: "):
        benchmark([small], backends=("torch",), precisions=("float16",), runs=1)


def test_a_file_runs_on_the_first_backend_that_can(tmp_path: Path) -> None:
    export(write_small_model(tmp_path / "model"), tmp_path / "a.pt2", format="torch")
    (found,) = benchmark([str(tmp_path / "a.pt2")], runs=1).measurements
    assert (found.backend, found.precision) == ("torch", "float32")


def test_auto_times_every_way_and_says_what_it_takes(tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "model")
    done = benchmark([str(model.folder)], precisions=("auto",), runs=1)
    (choice,) = done.choices
    ways = {(one.backend, one.precision) for one in choice.candidates}
    assert ways == {(found.backend, found.precision) for found in done.measurements}
    assert {("onnxruntime", "float32"), ("torch", "float32")} <= ways
    assert choice.precision == "float32"
    assert (choice.threads, choice.batch) == (1, 1)
    assert "99 % of the images" in choice.rule()


def test_auto_leaves_out_a_file_that_the_backend_does_not_run(small: str, tmp_path: Path) -> None:
    file = str(tmp_path / "a.onnx")
    export(write_small_model(tmp_path / "model"), file)
    done = benchmark([file, small], backends=("torch", "torch"), precisions=("auto",), runs=1)
    assert [found.label for found in done.measurements] == [arch.network(small).name]
    assert [reason.partition(",")[0] for reason in done.left_out] == ["model does not run on torch"]
    with pytest.raises(base.CompoundNetError, match="there is nothing to time: model does not run on torch"):
        benchmark([file], backends=("torch",), precisions=("auto",), runs=1)


def test_throughput_is_of_batches_on_all_cores(small: str) -> None:
    done = throughput([small], backends=("onnxruntime",), runs=2)
    (found,) = done.measurements
    assert (done.setting.threads, done.setting.batch) == (cores(), 8 * cores())
    assert found.images_per_second == pytest.approx(done.setting.batch / found.latency.median * 1e3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("option", ["batch", "threads"])
def test_throughput_of_none_at_a_time_is_refused(option: str, device: str, small: str) -> None:
    with pytest.raises(base.CompoundNetError, match=f"{option} must be .*, got 0"):
        throughput([small], device=device, **{option: 0})  # type: ignore[arg-type]


def test_a_gpu_that_is_not_there_is_one_line(small: str) -> None:
    for named in ((), ("float32",)):
        with pytest.raises(base.CompoundNetError, match="torch cannot use the device 'cuda' on this machine"):
            throughput([small], device="cuda", precisions=named)
    with pytest.raises(base.CompoundNetError, match="in precisions by name, such as bfloat16"):
        throughput([small], device="cuda", precisions=("auto",))


def test_two_exports_of_one_model_are_two_rows(tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "model")
    files = [str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")]
    for file, precision in zip(files, ("float32", "float16"), strict=True):
        export(model, file, precision=precision)
    done = benchmark(files, runs=1)
    assert [found.label for found in done.measurements] == [f"model ({file})" for file in files]
    assert [found.precision for found in done.measurements] == ["float32", "float16"]


def test_random_weights_are_the_same_each_time_and_leave_torch_s_numbers_alone() -> None:
    before = torch.get_rng_state()
    made = [subject("mobilenet-v2").source.module for _ in range(2)]
    one, other = (make().state_dict() for make in made if make is not None)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert torch.equal(before, torch.get_rng_state())


def test_comparison_networks_are_known() -> None:
    found = subject("amoebanet-b")
    assert (found.size, found.params) == (480, 557_277_864)


def test_a_name_is_a_network_s_then_a_model_s_whatever_lies_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("efficientnet-b0", "mine"):
        write_small_model(tmp_path / name)
    assert (subject("efficientnet-b0").weights, subject("efficientnet-b0").size) == ("random", 224)
    for given in ("./efficientnet-b0", "mine"):
        assert (subject(given).weights, subject(given).size) == ("trained", 32)
    # A name of `models list` only; it is fetched, which this does without.
    opened: list[str] = []

    def open_model(name: str) -> models.ModelFolder:
        opened.append(name)
        return models.read_folder(tmp_path / "mine", name)

    monkeypatch.setattr(session_source, "open_model", open_model)
    assert (subject("efficientnet-b0.in1k").weights, opened) == ("trained", ["efficientnet-b0.in1k"])


def test_a_network_without_peers_says_so(small: str) -> None:
    done = benchmark([small], backends=("torch",), runs=1, with_peers=True)
    assert len(done.measurements) == 1
    assert done.left_out == (f"no peer is listed for {arch.network(small).name}",)


@pytest.mark.slow
@pytest.mark.parametrize("peer", peers(), ids=lambda peer: peer.library)
def test_a_peer_s_networks_have_as_many_parameters_as_ours(peer: Peer) -> None:
    pytest.importorskip(peer.package)
    with torch.device("meta"):
        counts = {name: sum(one.numel() for one in peer.build(name).parameters()) for name in peer.networks}
    assert counts == {name: subject(name).params for name in peer.networks}


def test_the_libraries_that_have_efficientnet_b0() -> None:
    libraries = ["timm", "timm tf_", "torchvision", "efficientnet_pytorch"]
    assert [peer.library for peer in peers_of("efficientnet-b0")] == libraries


def test_a_package_that_is_not_installed_is_told_once(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = [
        Peer(library, "no_such_package.make", {arch.network(small).name: "it"}) for library in ("it", "it, otherwise")
    ]
    monkeypatch.setattr("compoundnet.runtime.timing.peers.peers", lambda: absent)
    done = benchmark([small], backends=("torch",), runs=1, with_peers=True)
    assert [reason.partition(";")[0] for reason in done.left_out] == ["no_such_package is not installed"]


def test_a_peer_that_fails_without_a_word_is_left_out(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Peer, "build", fail)
    name = arch.network(small).name
    monkeypatch.setattr("compoundnet.runtime.timing.peers.peers", lambda: [Peer("it", "torch.make", {name: "it"})])
    done = benchmark([small], backends=("torch",), runs=1, with_peers=True)
    assert done.left_out[0] == f"{name} of it (eager): AssertionError"


@pytest.mark.slow  # it compiles and exports a network of full size
def test_a_peer_gives_the_same_logits_in_every_way() -> None:
    pytest.importorskip("efficientnet_pytorch")
    peer = next(peer for peer in peers() if peer.library == "efficientnet_pytorch")
    images = np.random.default_rng(0).standard_normal((1, 3, 64, 64), dtype=np.float32)
    plain, *others = (logits_of(peer, way, images) for way in WAYS)
    assert plain.shape == (1, 1000)
    assert len(others) == 2
    for other in others:
        assert np.abs(plain - other).max() <= 1e-4 * np.abs(plain).max()


def logits_of(peer: Peer, way: str, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of a module that is made anew, with the same weights: opening one in a way may change it."""
    torch.manual_seed(0)
    run = open_peer(peer.build("efficientnet-b0"), way, size=64, batch=1, threads=1)
    return np.asarray(run(images)).reshape(1, -1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ["efficientnet-bo"]}, "no network or model named 'efficientnet-bo'; did you mean efficientnet-b0"),
        ({"backends": ("onnxruntme",)}, "no backend named 'onnxruntme'; did you mean onnxruntime"),
        ({"runs": 0}, "runs must be at least 1, got 0"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"precisions": ("float23",)}, "there is no precision 'float23'; did you mean float32"),
        ({"precisions": ("auto", "float32")}, "the precision auto stands alone"),
        ({"threads": 10_000}, "threads must be 1 to"),
    ],
)
def test_bad_input(arguments: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"names": ["efficientnet-b0"], **arguments}
    with pytest.raises(base.CompoundNetError, match=message):
        benchmark(**given)  # type: ignore[arg-type]  # the table above holds several types


def test_only_a_batch_in_one_piece_must_fit_memory(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "free_memory", lambda: 5_000_000)
    assert len(benchmark([small], batch=64, runs=1).measurements) == 1
    for options in ({"backends": ("torch",)}, {"with_peers": True}):
        with pytest.raises(base.CompoundNetError, match="a batch of 64 images needs about"):
            benchmark([small], batch=64, runs=1, **options)


def test_a_backend_that_is_not_installed_names_the_extra(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else find(name))
    for precision in ("float32", "auto"):
        with pytest.raises(base.CompoundNetError, match=r"compoundnet\[openvino\]"):
            benchmark([small], backends=("onnxruntime", "openvino"), precisions=(precision,), runs=1)


def test_nothing_is_timed_on_the_cpu_for_a_gpu(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compoundnet.runtime.timing.benchmark.check_device", lambda _: None)
    with pytest.raises(base.CompoundNetError, match="peers on a GPU are timed with --throughput"):
        benchmark([small], device="cuda", with_peers=True)
    with pytest.raises(base.CompoundNetError, match="onnxruntime runs on the CPU here, not on cuda"):
        benchmark([small], device="cuda", backends=("torch", "onnxruntime"))


def test_a_graph_is_recorded_on_the_gpu_of_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    where: list[str] = []

    @contextmanager
    def on(device: str) -> Iterator[None]:
        where.append(device)
        yield
        where.remove(device)

    @contextmanager
    def graph(replayed: Any, stream: str) -> Iterator[None]:
        replayed.stream = stream
        yield

    monkeypatch.setattr(torch.cuda, "device", on)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: f"a stream of {device}")
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay="it"))
    seen: list[list[str]] = []
    assert recorded(lambda: seen.append([*where]), "cuda:1") == "it"  # type: ignore[comparison-overlap]
    assert (seen, where) == ([["cuda:1"]], [])
