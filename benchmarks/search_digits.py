"""Reinforce and random search at equal trials, each a real training on scikit-learn's digits; 5 sampler seeds.

Takes about half an hour on one core. What is trained is kept in FOLDER, so that an interrupted run goes on; all
searches share the weights' seed, so a network has one accuracy. Writes docs/studies/samplers_digits.md, .png and .svg.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from bench_search import OUTPUT
from harness import machine

from compoundnet.base import write_whole
from compoundnet.data import open_dataset
from compoundnet.plots.canvas import OKABE_ITO, canvas, encode
from compoundnet.search.architecture.objective import Objective
from compoundnet.search.architecture.samplers import SamplerName, make_sampler
from compoundnet.search.architecture.space import find_space
from compoundnet.train import find_recipe, override
from compoundnet.trials.measurement import measure

SAMPLERS: tuple[SamplerName, ...] = ("reinforce", "random")
SEEDS = range(5)
TRIALS = 30
TARGET = 250e3
WIDTH = 0.5
RECIPE = ("epochs=3", "batch=64")


def search(name: SamplerName, seed: int, cache: Path) -> list[float]:
    """The reward of each trial."""
    dataset = open_dataset("digits")
    space = find_space("small").fitted(num_classes=len(dataset.classes), width=WIDTH)
    objective, recipe = Objective(TARGET), override(find_recipe("proxy"), list(RECIPE))
    study = optuna.create_study(direction="maximize")
    rewards = []
    for _ in range(TRIALS):
        study.sampler = make_sampler(name, space.choices(), seed=seed, trials=TRIALS)
        trial = study.ask()
        chosen: dict[str, Any] = {
            choice: trial.suggest_categorical(choice, options) for choice, options in space.choices().items()
        }
        measured = measure(space.network(chosen), dataset, recipe, seed=0, cache=cache)
        rewards.append(objective.reward(measured.accuracy, measured.macs))
        study.tell(trial, rewards[-1])
    return rewards


def summary(found: dict[str, list[list[float]]]) -> str:
    """The best rewards as a Markdown table, and what they say."""
    best = {name: [max(rewards) for rewards in each] for name, each in found.items()}
    late = {name: [statistics.fmean(rewards[-10:]) for rewards in each] for name, each in found.items()}
    lines = [
        f"Best reward after {TRIALS} trials, seed by seed, and the mean reward of the last ten trials. Space `small` at"
        f" width {WIDTH}, target {TARGET:,.0f} multiply-adds, recipe `proxy` with {' and '.join(RECIPE)}.",
        "",
        f"| sampler | {' | '.join(f'seed {seed}' for seed in SEEDS)} | mean | last ten |",
        f"|{'---|' * (len(SEEDS) + 3)}",
    ]
    for name in found:
        values = " | ".join(f"{value:.4f}" for value in best[name])
        lines.append(f"| {name} | {values} | {statistics.fmean(best[name]):.4f} | {statistics.fmean(late[name]):.4f} |")
    lines.append("")
    for name in SAMPLERS[:-1]:
        wins = sum(ours > random for ours, random in zip(best[name], best["random"], strict=True))
        lines.append(f"{name} beats random's best reward with {wins} of {len(SEEDS)} seeds.")
    return "\n".join(lines) + "\n"


def draw(found: dict[str, list[list[float]]]) -> tuple[bytes, bytes]:
    """Best reward so far: the mean over seeds, and each seed."""
    colors = {"reinforce": OKABE_ITO["blue"], "random": OKABE_ITO["black"]}
    trials = np.arange(1, TRIALS + 1)
    with canvas(4.8) as figure:
        axes = figure.add_subplot()
        for name, each in found.items():
            curves = np.maximum.accumulate(np.array(each), axis=1)
            axes.plot(trials, curves.T, color=colors[name], linewidth=0.7, alpha=0.35)
            axes.plot(trials, curves.mean(axis=0), color=colors[name], linewidth=2.8, label=name)
        axes.set_xlim(1, TRIALS)
        low = min(max(rewards[:3]) for each in found.values() for rewards in each)
        axes.set_ylim(bottom=low - 0.005)
        axes.legend(loc="lower right", frameon=False)
        axes.set_xlabel("trials")
        axes.set_ylabel("best reward so far")
        axes.set_title("Searches on digits: mean of 5 seeds, and each")
        return encode(figure, "Best reward so far by trials, of both samplers with five seeds each")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where trained networks are remembered")
    folder = parser.parse_args().folder
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found: dict[str, Any] = {name: [] for name in SAMPLERS}
    for seed in SEEDS:
        for name in SAMPLERS:
            started = time.monotonic()
            found[name].append(search(name, seed, folder))
            print(f"seed {seed}, {name}: {max(found[name][-1]):.4f}, {time.monotonic() - started:.0f} s", flush=True)
    text = summary(found)
    print(text)
    svg, png = draw(found)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    write_whole(OUTPUT / "samplers_digits.svg", svg)
    write_whole(OUTPUT / "samplers_digits.png", png)
    write_whole(OUTPUT / "samplers_digits.md", f"{text}\nMeasured on {machine()}.\n".encode())


if __name__ == "__main__":
    main()
