"""A bound on latency: the fitted model, and the search for the largest network that is timed within it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from compoundnet import arch, base
from compoundnet.arch.budget import smallest
from compoundnet.arch.latency import FEATURES
from compoundnet.runtime.backends.registry import Backend, find_backend
from compoundnet.runtime.timing import latency_bound, latency_fit, subjects
from compoundnet.runtime.timing.latency_bound import refine, time_plan
from compoundnet.runtime.timing.latency_fit import fit_latency, fitted_model
from compoundnet.runtime.timing.rounds import Latency, summarise

B0 = arch.network("efficientnet-b0")
TRUE = arch.LatencyModel(macs=3e-8, activations=2e-7, params=1e-7, layers=0.01)
SIZES = [(1.0, 1.0, 224), (0.5, 1.0, 224), (1.0, 0.5, 224), (1.0, 1.0, 112), (0.5, 0.5, 112), (1.2, 1.2, 270)]
NETWORKS = [arch.scale(B0, depth=depth, width=width, resolution=side) for depth, width, side in SIZES]


def rates(model: arch.LatencyModel) -> list[float]:
    return [getattr(model, feature) for feature in FEATURES]


@pytest.mark.parametrize("model", [TRUE, arch.LatencyModel(macs=3e-8), arch.LatencyModel(activations=1e-7, layers=0.2)])
def test_exact_times_give_the_rates_back(model: arch.LatencyModel) -> None:
    found = fit_latency(NETWORKS, [model.milliseconds(network) for network in NETWORKS])
    assert rates(found) == pytest.approx(rates(model), rel=1e-6, abs=1e-14)


def test_no_rate_is_below_zero_where_that_would_fit_better() -> None:
    """So that a larger network never counts as faster."""
    times = [max(0.1, arch.cost(network).macs * 3e-8 - arch.cost(network).params * 2e-7) for network in NETWORKS]
    found = fit_latency(NETWORKS, times)
    assert min(rates(found)) >= 0
    assert found.milliseconds(arch.network("efficientnet-b1")) > found.milliseconds(B0) > 0


def test_times_that_cannot_be_are_refused() -> None:
    with pytest.raises(base.CompoundNetError, match="times above 0"):
        fit_latency(NETWORKS[:1], [0.0])


def test_a_fit_is_kept_for_the_next_time(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fit(network: arch.Network, backend: Backend, threads: int) -> arch.LatencyModel:
        asked.append(f"{network.name} {backend.name} {threads}")
        return TRUE

    monkeypatch.setattr(latency_fit, "_time_and_fit", fit)
    for threads in (1, 1, 2):
        assert fitted_model(B0, backend=find_backend("torch"), threads=threads) == TRUE
    assert asked == ["efficientnet-b0 torch 1", "efficientnet-b0 torch 2"]
    assert empty_cache.is_dir()


def search(limit: float, actual: Callable[[float], float]) -> tuple[arch.Plan, Latency, list[float]]:
    """Refine where `actual` gives the real milliseconds of a network for which the model predicts so many."""
    tried: list[float] = []

    def timed(network: arch.Network) -> Latency:
        tried.append(actual(TRUE.milliseconds(network)))
        return summarise([tried[-1]])

    floor = TRUE.milliseconds(smallest(B0)) * (1 + 1e-9)
    found, latency = refine(lambda bound: arch.plan(B0, max_latency=bound, latency=TRUE), timed, limit, floor)
    return found, latency, tried


@pytest.mark.parametrize(
    ("actual", "predicted"),  # the real time, and the prediction at which it is 40 ms
    [
        (lambda ms: ms, 40),
        (lambda ms: 2 * ms, 20),
        (lambda ms: 0.6 * ms, 40 / 0.6),
        (lambda ms: ms**1.2, 40 ** (1 / 1.2)),
        (lambda ms: ms + 8, 32),
    ],
)
def test_the_answer_is_timed_within_the_bound_and_close_to_the_largest(
    actual: Callable[[float], float], predicted: float
) -> None:
    found, latency, tried = search(40.0, actual)
    largest = arch.plan(B0, max_latency=predicted, latency=TRUE).network
    assert latency.median == actual(TRUE.milliseconds(found.network))
    assert 0.93 * actual(TRUE.milliseconds(largest)) <= latency.median <= 40
    assert len(tried) <= 6


def test_a_good_model_needs_one_timing() -> None:
    assert len(search(40.0, lambda ms: ms)[2]) == 1


def test_another_bound_that_binds_is_not_searched_past() -> None:
    tried: list[str] = []

    def timed(network: arch.Network) -> Latency:
        tried.append(network.name)
        return summarise([1.0])

    def plan(bound: float) -> arch.Plan:
        return arch.plan(B0, max_latency=bound, latency=TRUE, max_params=6e6)

    found, _ = refine(plan, timed, 1e4, 1.0)
    assert found.binding == "params" and len(tried) == 1


def test_a_bound_that_nothing_meets_names_the_least_that_is_needed() -> None:
    with pytest.raises(base.CompoundNetError, match=r"within 0\.01 ms here: the smallest \(32 px\) takes 7 ms"):
        search(0.01, lambda _: 7.0)


def test_a_smallest_network_that_is_faster_than_predicted_is_found() -> None:
    floor = TRUE.milliseconds(smallest(B0))
    assert search(floor / 2, lambda ms: ms / 4)[1].median <= floor / 2


def test_the_networks_of_the_rows_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule for small networks rounds the depth to the nearest, not up as the baseline does."""
    small = arch.scale(B0, width=0.25, resolution=64)
    found = arch.plan(small, max_macs=1.2e6, rule="compound")
    opened: list[arch.Network] = []

    def of_network(network: arch.Network) -> subjects.TimedSubject:
        opened.append(network)
        return subjects.of_network(network)

    monkeypatch.setattr(latency_bound, "of_network", of_network)
    times = time_plan(found, backend="torch")
    rows = {"compound": found, **found.alternatives}
    assert list(times) == [way for way, row in rows.items() if row is not None]
    macs = {way: arch.cost(network).macs for way, network in zip(times, opened, strict=True)}
    assert macs == {way: row.macs for way, row in rows.items() if row is not None}
    tiny = rows["tiny"]
    assert tiny is not None
    again = arch.scale(small, depth=tiny.depth, width=tiny.width, resolution=tiny.resolution)
    assert arch.cost(again).macs > macs["tiny"]
