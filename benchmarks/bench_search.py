"""How many trials reinforce, evolution and random take to a network of the best 0.05 %, on objectives known everywhere.

20 made-up accuracies over 5,308,416 real networks (landscape.py), one sampler seed each; the samplers' settings were
chosen on other such functions with other seeds. Writes docs/studies/samplers.png and .svg.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
from landscape import Landscape

from compoundnet.base import write_whole
from compoundnet.plots.canvas import OKABE_ITO, QUIET, canvas, encode
from compoundnet.search.architecture.samplers import EvolutionSampler, ReinforceSampler
from compoundnet.search.architecture.samplers.history import HistorySampler

SEEDS = range(20)
MOST = 30_000
OUTPUT = Path(__file__).parent.parent / "docs/studies"


class Uniform(HistorySampler):
    """Random search through the same interface; like the others it does not try a network twice."""

    def drawer(self, *_):  # type: ignore[no-untyped-def]  # the base's types
        return lambda random: random.integers(self.options)


SAMPLERS: dict[str, Callable[..., HistorySampler]] = {
    "reinforce": ReinforceSampler,
    "evolution": EvolutionSampler,
    "random": Uniform,
}


def trials_to_top(landscape: Landscape, sampler: HistorySampler, seed: int, most: int = MOST) -> int:
    """Trials, the successful one included, until a reward of the best 0.05 %."""
    picks = np.zeros((most, len(landscape.options)), dtype=np.int64)
    rewards = np.zeros(most)
    learns = not isinstance(sampler, Uniform)
    for number in range(most):
        random = np.random.default_rng([seed, number])  # as the sampler seeds itself in a study
        known = number if learns else 0
        picks[number] = sampler.propose(picks[:known], rewards[:known], random)
        rewards[number] = landscape.reward(picks[number])
        if rewards[number] >= landscape.top:
            return number + 1
    raise RuntimeError(f"{most} trials were not enough")


def draw(found: dict[str, list[int]]) -> tuple[bytes, bytes]:
    """Share of the seeds that have got there, by trials."""
    from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

    colors = {"reinforce": OKABE_ITO["blue"], "evolution": OKABE_ITO["vermillion"], "random": OKABE_ITO["black"]}
    low = min(min(counts) for counts in found.values()) / 2
    high = max(max(counts) for counts in found.values()) * 1.15
    fastest = min(found.values(), key=statistics.median)
    with canvas(4.6) as figure:
        axes = figure.add_subplot()
        for name, counts in found.items():
            ordered = sorted(counts)
            steps = [low, *ordered, high]
            shares = [0.0, *(np.arange(1, len(ordered) + 1) / len(ordered)), 1.0]
            axes.step(steps, shares, where="post", color=colors[name], linewidth=2.4)
            median = statistics.median(ordered)
            axes.plot(median, 0.5, "o", color=colors[name], markersize=9, zorder=3)
            left = counts is fastest  # the curves lie to the right
            axes.annotate(
                f"{name}\nmedian {median:,.0f}", (median, 0.5), xytext=(-10 if left else 10, 6 if left else -6),
                textcoords="offset points", color=colors[name], fontweight="bold",
                ha="right" if left else "left", va="bottom" if left else "top",
            )  # fmt: skip
        axes.axhline(0.5, color=QUIET, linewidth=0.8, zorder=0)
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.set_ylim(0, 1.02)
        axes.xaxis.set_major_locator(FixedLocator([t for t in (10, 30, 100, 300, 1000, 3000, 10000) if low < t < high]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("trials")
        axes.set_ylabel("searches that have found one")
        axes.set_title("Trials to a network of the best 0.05 %, 20 searches each")
        return encode(figure, "Share of searches that found a network of the best 0.05 %, by number of trials")


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    found: dict[str, list[int]] = {name: [] for name in SAMPLERS}
    for seed in SEEDS:
        landscape = Landscape(seed)
        for name, make in SAMPLERS.items():
            found[name].append(trials_to_top(landscape, make(landscape.space.choices(), seed=seed), seed))
    random = statistics.median(found["random"])
    print(f"trials to a reward of the best 0.05 % of {landscape.rewards.size:,} networks, {len(SEEDS)} seeds")
    print("(random's median is ln 2 / 0.0005 = 1,386 in the long run)")
    for name, counts in found.items():
        median = statistics.median(counts)
        print(
            f"  {name:10s} median {median:7,.0f}   {min(counts):5,} to {max(counts):6,}   {random / median:5.1f}x fewer"
        )
    svg, png = draw(found)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    write_whole(OUTPUT / "samplers.svg", svg)
    write_whole(OUTPUT / "samplers.png", png)


if __name__ == "__main__":
    main()
