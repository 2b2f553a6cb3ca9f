"""Counts of a network's correct predictions: whole numbers, summed exactly over any number of processes.

(torchmetrics was considered: its distributed state would be this one matrix and this one sum.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from compoundnet.base import Progress, ignore
from compoundnet.data import Split
from compoundnet.data.loader import loader
from compoundnet.models import Preprocess
from compoundnet.nn import ConvNet
from compoundnet.train.processes import total

if TYPE_CHECKING:
    from lightning.fabric import Fabric

_TOP = 5


class Counts(msgspec.Struct, frozen=True, eq=False):
    """Predictions against true classes.

    Attributes:
        confusion: int64[classes, classes]; rows are true classes, columns predicted ones.
        in_top5: images whose class is among the five most probable.
        loss: mean cross-entropy.
    """

    confusion: NDArray[np.int64]
    in_top5: int
    loss: float

    @property
    def count(self) -> int:
        """Number of images."""
        return int(self.confusion.sum())

    @property
    def top1(self) -> float:
        """Fraction of the images whose most probable class is correct."""
        return int(self.confusion.trace()) / self.count

    @property
    def top5(self) -> float | None:
        """Fraction of the images whose class is among the top five; None for five classes or fewer (always 1)."""
        return self.in_top5 / self.count if len(self.confusion) > _TOP else None

    @property
    def mean_per_class(self) -> float:
        """Mean over the classes with images of the fraction of correct predictions."""
        totals = self.confusion.sum(1)
        present = totals > 0
        return float((self.confusion.diagonal()[present] / totals[present]).mean())


def count(
    net: ConvNet,
    split: Split,
    preprocess: Preprocess,
    fabric: Fabric,
    *,
    batch: int = 64,
    workers: int | None = 0,
) -> Counts:
    """Count the predictions of a network on this process's device; see `count_predictions`."""

    def predict(images: Tensor) -> Tensor:
        logits: Tensor = net(images.to(fabric.device, memory_format=torch.channels_last, non_blocking=True))
        return logits

    return count_predictions(predict, net.num_classes, split, preprocess, fabric, batch=batch, workers=workers)


@torch.inference_mode()
def count_predictions(
    predict: Callable[[Tensor], Tensor],
    classes: int,
    split: Split,
    preprocess: Preprocess,
    fabric: Fabric,
    *,
    batch: int = 64,
    workers: int | None = 0,
    labels: NDArray[np.int64] | None = None,
    progress: Progress = ignore,
) -> Counts:
    """Predict every image of a split once, divided among the processes. All processes return the total.

    Args:
        predict: from images float32[N, 3, S, S] on the CPU to logits [N, classes] on any device.
        classes: of the network.
        split: the images.
        preprocess: the network's.
        fabric: the processes.
        batch: images at a time on each process.
        workers: decoding processes for each process; None chooses.
        labels: int64[split's classes], the network's number of each class; its own number by default.
        progress: called with the number of images that this process has just finished.
    """
    mapped = torch.from_numpy(np.arange(len(split.classes)) if labels is None else labels)
    confusion = torch.zeros(classes * classes, dtype=torch.int64, device=fabric.device)
    in_top5 = torch.zeros((), dtype=torch.int64, device=fabric.device)
    loss = torch.zeros((), dtype=torch.float64, device=fabric.device)
    for images, numbers, _ in loader(
        split, preprocess, batch=batch, workers=workers, rank=fabric.global_rank, world=fabric.world_size,
        pin_memory=fabric.device.type == "cuda",
    ):  # fmt: skip
        truth = mapped[numbers].to(fabric.device)
        logits = predict(images).to(fabric.device, torch.float32)
        best = logits.topk(min(_TOP, classes)).indices
        confusion += torch.bincount(truth * classes + best[:, 0], minlength=classes * classes)
        in_top5 += (best == truth[:, None]).sum()
        loss += F.cross_entropy(logits, truth, reduction="sum")
        progress(len(numbers))
    sums = [total(fabric, value) for value in (confusion, in_top5, loss)]
    matrix = sums[0].view(classes, classes).cpu().numpy()
    return Counts(matrix, int(sums[1]), float(sums[2]) / max(1, int(matrix.sum())))
