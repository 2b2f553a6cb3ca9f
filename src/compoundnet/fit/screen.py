"""The screen: each candidate is timed on this machine and judged by a probe on its cached features, in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import msgspec
import numpy as np

from compoundnet.base import Notify, Progress, ignore
from compoundnet.data import Dataset
from compoundnet.fit.candidates import Candidate
from compoundnet.fit.limits import Limits
from compoundnet.models import ModelFolder
from compoundnet.runtime import Embedder
from compoundnet.train import Task, find_recipe, fit_probe, plan_task


class Screened(msgspec.Struct, frozen=True):
    """A candidate with what was measured, or why it was dropped.

    Attributes:
        candidate: The candidate.
        latency: Milliseconds of one image, the median; in a reduced precision as predicted from float32. None if it was
            dropped before.
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

    @property
    def fits(self) -> bool:
        """Whether it was judged and fits the budget."""
        return self.accuracy is not None and self.dropped is None

    def under(self, limit: float | None) -> Screened:
        """Return this result under another limit of latency."""
        slow = limit is not None and self.latency is not None and self.latency > limit
        return msgspec.structs.replace(self, dropped=_slow(limit) if slow and limit is not None else None)

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
    timed: Callable[[Embedder], float],
    ratios: Mapping[str, float] | None = None,
    reach: float = 1.0,
    progress: Progress = ignore,
    notify: Notify = ignore,
) -> tuple[Screened, tuple[str, ...]]:
    """Time a candidate, and fit a probe if it is fast enough.

    Args:
        candidate: The candidate.
        dataset: The data; only training images are used.
        model: The model that it starts from, opened.
        limits: The budget.
        timed: Returns the milliseconds of one image in float32 on ONNX Runtime.
        ratios: The time of each other way to compute it, as a fraction of that in float32 on ONNX Runtime.
        reach: A candidate is judged up to this times the limit of latency.
        progress: Called with the number of images whose features are computed.
        notify: Called with a line for each image that cannot be read.

    Returns:
        What was measured, and the names of the training images that cannot be read.

    Raises:
        CompoundNetError: Too many images cannot be read, or a class has fewer than two images.
    """
    began = time.monotonic()
    task = probe_of(candidate, dataset, model)
    embedder = Embedder(model, preprocess=task.preprocess)
    latency = timed(embedder) * (ratios or {}).get(candidate.way, 1.0)
    limit = limits.max_latency
    dropped = _slow(limit) if limit is not None and latency > limit else None
    if limit is not None and latency > reach * limit:
        return Screened(candidate, latency, None, dropped, time.monotonic() - began), ()
    vectors = embedder.of_split(task.train, max_bad=task.recipe.max_bad, progress=progress, notify=notify)
    readable = np.isfinite(vectors).all(axis=1)
    assert task.recipe.balance != "auto"
    probe = fit_probe(vectors[readable], task.train.labels[readable], task.train.classes, balance=task.recipe.balance)
    balanced = task.recipe.balance != "none" and probe.mean_per_class is not None
    accuracy = probe.mean_per_class if balanced else probe.accuracy
    unreadable = tuple(task.train.image_name(index) for index in np.flatnonzero(~readable).tolist())
    return Screened(candidate, latency, accuracy, dropped, time.monotonic() - began), unreadable


def _slow(limit: float | None) -> str:
    return f"more than {limit:g} ms"
