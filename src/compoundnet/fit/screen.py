"""The screen: each candidate is timed on this machine and judged by a probe on its cached features, in seconds."""

from __future__ import annotations

import time

import msgspec
import numpy as np

from compoundnet.base import Notify, Progress, ignore
from compoundnet.data import Dataset
from compoundnet.fit.candidates import Candidate, Limits
from compoundnet.models import ModelFolder
from compoundnet.runtime import Embedder
from compoundnet.runtime.timing.rounds import time_rounds
from compoundnet.train import Task, find_recipe, fit_probe, plan_task

_RUNS, _WARM_UP = 10, 2


class Screened(msgspec.Struct, frozen=True):
    """A candidate with what was measured, or why it was dropped.

    Attributes:
        candidate: The candidate.
        latency: Milliseconds of one image in float32, the median; None if it was dropped before.
        accuracy: Cross-validated accuracy of its probe on the training images, a fraction: the mean per class if
            training is balanced; None if it was dropped.
        dropped: Why it does not fit, in words; None if it fits.
        seconds: What screening it took.
    """

    candidate: Candidate
    latency: float | None = None
    accuracy: float | None = None
    dropped: str | None = None
    seconds: float = 0.0

    def __str__(self) -> str:
        latency = "" if self.latency is None else f"{self.latency:.3g} ms"
        accuracy = "" if self.accuracy is None else f"{self.accuracy:.1%} (cross-validated probe)"
        return f"{self.candidate}: {', '.join(filter(None, (latency, accuracy, self.dropped)))}"


def probe_of(candidate: Candidate, dataset: Dataset, model: ModelFolder) -> Task:
    """Return the task of the probe of a candidate."""
    recipe = find_recipe("probe").replace(resolution=candidate.resolution)
    return plan_task(recipe, dataset, start=model)


def screen(
    candidate: Candidate,
    dataset: Dataset,
    model: ModelFolder,
    limits: Limits,
    *,
    threads: int = 1,
    progress: Progress = ignore,
    notify: Notify = ignore,
) -> Screened:
    """Time a candidate, and fit a probe if it is fast enough.

    Args:
        candidate: The candidate.
        dataset: The data; only training images are used.
        model: The candidate's model, opened.
        limits: The budget.
        threads: Threads of the network that is timed; features are computed on all cores.
        progress: Called with the number of images whose features are computed.
        notify: Called with a line for each image that cannot be read.

    Raises:
        CompoundNetError: Too many images cannot be read, or a class has fewer than two images.
    """
    began = time.monotonic()
    task = probe_of(candidate, dataset, model)
    embedder = Embedder(model, preprocess=task.preprocess)
    session, image = embedder.open(threads), noise(candidate.resolution)
    latency = time_rounds({"": lambda: session(image)}, runs=_RUNS, warm_up=_WARM_UP)[""].median
    if limits.max_latency is not None and latency > limits.max_latency:
        dropped = f"more than {limits.max_latency:g} ms"
        return Screened(candidate, latency, None, dropped, time.monotonic() - began)
    vectors = embedder.of_split(task.train, max_bad=task.recipe.max_bad, progress=progress, notify=notify)
    readable = np.isfinite(vectors).all(axis=1)
    assert task.recipe.balance != "auto"
    probe = fit_probe(vectors[readable], task.train.labels[readable], task.train.classes, balance=task.recipe.balance)
    balanced = task.recipe.balance != "none" and probe.mean_per_class is not None
    accuracy = probe.mean_per_class if balanced else probe.accuracy
    return Screened(candidate, latency, accuracy, None, time.monotonic() - began)


def noise(resolution: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return an image of noise float32[1, 3, resolution, resolution], for timing."""
    return np.random.default_rng(0).standard_normal((1, 3, resolution, resolution), dtype=np.float32)
