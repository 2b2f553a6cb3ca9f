"""The plots of a fit: of more models than there are colours, of each bound, and of what was fine-tuned."""

from __future__ import annotations

import re

import msgspec
from fitted import answered, lite0

from compoundnet.fit import Candidate, Fit, Limits, Rung
from compoundnet.fit.front_plot import (
    bounded,
    describe_cost,
    describe_front,
    draw_cost,
    draw_front,
    look,
    pareto,
    trained_resolution,
    tuned_of,
)
from compoundnet.fit.screen import Screened


def fit_of(count: int) -> Fit:
    """Of so many models, each at two resolutions; the later ones are slower and better."""
    screened = tuple(
        Screened(
            Candidate(f"net-{number:02}", side, "float32", 1, 1, 1, 1), 1.0 + number + side / 1000,
            0.5 + number / 100 + side / 1e4,
        )
        for number in range(count)
        for side in (64, 96)
    )  # fmt: skip
    return Fit("data", "", "", Limits(), 1, "cpu", screened=screened)


def test_each_line_has_a_look_of_its_own() -> None:
    assert len({look(place) for place in range(28)}) == 28
    assert [look(place)[1] for place in (0, 6, 7)] == ["o", "o", "s"]


def test_the_plot_names_all_models_and_the_front() -> None:
    found = fit_of(9)
    svg, png = draw_front(found)
    assert png.startswith(b"\x89PNG")
    assert all(f"net-{number:02}" in svg.decode() for number in range(9))
    assert [one.candidate.resolution for one in pareto(found)] == [64, 96] * 9


def test_of_two_points_side_by_side_the_more_accurate_is_named() -> None:
    found = fit_of(1)
    near, far = ((1.0, 1.01, 2.0), (1.0, 1.5, 2.0))
    for latencies, named in ((near, ["67", "79"]), (far, ["61", "67", "79"])):
        screened = tuple(
            Screened(Candidate("net", side, "float32", 1, 1, 1, 1), latency, side / 100)
            for side, latency in zip((61, 67, 79), latencies, strict=True)
        )
        svg = draw_front(msgspec.structs.replace(found, screened=screened))[0].decode()
        assert [label for label in re.findall(r"<!-- (\d+) -->", svg) if label in ("61", "67", "79")] == named


def test_there_is_a_plot_for_each_bound_besides_latency() -> None:
    found = answered(lite0(64), limits=Limits(max_latency=8, max_size=2e7, max_memory=3e7))
    size, memory = bounded(found)
    assert (size.name, memory.name) == ("max_size", "max_memory")
    assert "limit, 20.0 MB" in draw_cost(found, size).decode()
    assert "fine-tuned" not in draw_cost(found, memory).decode()
    assert describe_cost(found, size) == (
        "Accuracy against size of the file of 2 candidates: 13.6 MB to 13.6 MB; the limit is 20.0 MB, that of the"
        " answer 13.7 MB."
    )
    assert describe_cost(found, memory).endswith(
        ": 21.2 MB to 22.8 MB; the limit is 30.0 MB, that of the answer 21.2 MB."
    )
    assert bounded(answered(lite0(64))) == []


def test_fine_tuned_networks_are_shown_by_the_held_out_images() -> None:
    raced = (Rung(2, 10, ((lite0(96), 0.75), (lite0(64), 0.6))), Rung(10, 10, ((lite0(96), 0.8),)))
    found = answered(lite0(112), limits=Limits(max_size=2e7), fine_tuned=True, rungs=raced)
    own = msgspec.structs.replace(lite0(112), size_bytes=13_700_000)  # that of the file
    assert tuned_of(found) == [
        Screened(lite0(96), 96 / 20, 0.8), Screened(lite0(64), 64 / 20, 0.6), Screened(own, 4.5, 0.85),
    ]  # fmt: skip
    assert trained_resolution(found) == 96
    (size,) = bounded(found)
    for svg in (draw_front(found)[0], draw_cost(found, size)):
        assert "fine-tuned, on held-out images" in svg.decode() and "the answer" in svg.decode()
    assert "efficientnet-lite0 at 112 px 85.0%" in describe_front(found)
    same = answered(lite0(96), fine_tuned=True, rungs=raced)
    assert [one.accuracy for one in tuned_of(same)] == [0.6, 0.85], "the answer is as it was measured"
    assert tuned_of(answered(lite0(64))) == [] and trained_resolution(answered(lite0(64))) is None
