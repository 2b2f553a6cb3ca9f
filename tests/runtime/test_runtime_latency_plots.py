"""The plots of a benchmark: which networks each shows, and what it says to those who do not see it."""

from __future__ import annotations

from compoundnet.paper import printed_top1
from compoundnet.runtime.timing.benchmark import Benchmark, Measurement
from compoundnet.runtime.timing.latency_plots import latency_plots
from compoundnet.runtime.timing.rounds import setting, summarise


def one(
    network: str, backend: str, index: int, *, library: str = "compoundnet", precision: str = "float32"
) -> Measurement:
    label = network if precision == "float32" else f"{network} ({precision}.onnx)"
    latency, macs = summarise([3.0 * index]), 10**8 * index
    rate = 1e3 / latency.median
    return Measurement(network, label, library, backend, "random", precision, 224, 5_000_000, macs, latency, rate)


def timed(*networks: str) -> Benchmark:
    measurements = [
        one(network, backend, index)
        for index, network in enumerate(networks, 1)
        for backend in ("onnxruntime", "torch")
    ]
    peer = one(networks[0], "eager", 3, library="timm")
    return Benchmark(setting(threads=1, batch=1), (*measurements, peer), ())


def test_accuracy_is_of_the_networks_that_table_2_prints_one_for() -> None:
    accuracy, flops = latency_plots(timed("efficientnet-b0", "efficientnet-b1", "efficientnet-lite0"), printed_top1())
    assert (accuracy.name, flops.name) == ("accuracy-latency", "flops-latency")
    assert [point["network"] for point in accuracy.points] == ["efficientnet-b0"] * 2 + ["efficientnet-b1"] * 2
    assert accuracy.points[0]["top1"] == 0.771
    assert len(flops.points) == 6  # ours only, on both backends
    assert "efficientnet-lite0 on torch 9 ms, 300M" in flops.description
    assert accuracy.png.startswith(b"\x89PNG") and b"<svg" in accuracy.svg


def test_the_paper_s_accuracy_is_not_an_int8_file_s() -> None:
    networks = ("efficientnet-b0", "efficientnet-b1")
    both = timed(*networks).measurements[:4] + tuple(
        one(network, "onnxruntime", index, precision="int8") for index, network in enumerate(networks, 1)
    )
    accuracy, flops = latency_plots(Benchmark(setting(threads=1, batch=1), both, ()), printed_top1())
    assert {point["precision"] for point in accuracy.points} == {"float32"}
    assert [point["label"] for point in flops.points][-1] == "efficientnet-b1 (int8.onnx), int8"


def test_one_network_makes_no_plot() -> None:
    assert latency_plots(timed("efficientnet-b0"), printed_top1()) == ()
