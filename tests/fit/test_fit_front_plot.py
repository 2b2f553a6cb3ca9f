"""The plot of a fit, of more models than there are colours."""

from __future__ import annotations

from compoundnet.fit import Candidate, Fit, Limits
from compoundnet.fit.front_plot import draw_front, look, pareto
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
