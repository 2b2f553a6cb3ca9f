"""The state of a run, and the events that it reports."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import msgspec


class Epoch(msgspec.Struct, frozen=True):
    """One epoch of the log. Losses are means over images; accuracies are fractions.

    Attributes:
        epoch: The number of the epoch, from 1.
        step: Number of steps completed at its end.
        lr: the learning rate of its last step.
        loss: on the training images, with label smoothing and augmentation.
        top1: accuracy on the training images, with augmentation; of several labels an image the fraction of images with
            all labels right at a threshold of 0.5, as in `held_top1`.
        held_loss: on the held-out images; None if they were not evaluated.
        held_top1: accuracy on the held-out images; None if they were not evaluated.
        images_per_second: over all processes.
        held_map: Of several labels an image, the mean average precision (mAP) on the held-out images; else None.
    """

    epoch: int
    step: int
    lr: float
    loss: float
    top1: float
    held_loss: float | None
    held_top1: float | None
    images_per_second: float
    held_map: float | None = None


class Watcher:
    """Receives the events of a run. Override the methods you need; only the first process calls them."""

    def started(self, step: int, steps: int, batch: int) -> None:
        """Training starts, or resumes, after `step` of `steps` steps of `batch` images."""

    def stepped(self, step: int, loss: float) -> None:
        """A step is done; `loss` is that step's."""

    def epoch_ended(self, epoch: Epoch) -> None:
        """An epoch is done."""

    def notify(self, text: str) -> None:
        """A line of text is to be shown to the user."""


@dataclasses.dataclass
class RunState:
    """The part of a checkpoint that does not consist of tensors.

    Attributes:
        step: steps done.
        history: The log so far, each `Epoch` as plain values.
        best_score: top-1 accuracy of the best evaluation so far.
        evaluations_since_best: evaluations after that one.
        loss: the sum of the losses of the current epoch's images.
        right: how many of the current epoch's images were classified correctly.
        seen: images of the current epoch so far.
        seconds: time spent on them.
    """

    step: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best_score: float = -1.0
    evaluations_since_best: int = 0
    loss: float = 0.0
    right: int = 0
    seen: int = 0
    seconds: float = 0.0


def random_seed(seed: int, step: int, part: int, rank: int) -> int:
    """Return the seed of dropout and stochastic depth in one part of one step on one process."""
    digest = hashlib.blake2b(f"{seed}/{step}/{part}/{rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
