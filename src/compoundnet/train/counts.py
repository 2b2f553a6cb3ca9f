"""Counting a network's right answers. Whole numbers, added up over processes, so that any number of them agrees.

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

from compoundnet.data import Split
from compoundnet.data.loader import loader
from compoundnet.models import Preprocess
from compoundnet.nn import ConvNet
from compoundnet.train.processes import total

if TYPE_CHECKING:
    from lightning.fabric import Fabric

_TOP = 5


class Counts(msgspec.Struct, frozen=True, eq=False):
    """`confusion` int64[classes, classes]: rows are the true classes, columns the predicted ones. `loss` is a mean."""

    confusion: NDArray[np.int64]
    in_top5: int
    loss: float

    @property
    def count(self) -> int:
        return int(self.confusion.sum())

    @property
    def top1(self) -> float:
        """A fraction of the pictures."""
        return int(self.confusion.trace()) / self.count

    @property
    def top5(self) -> float | None:
        """None where there are no more than five classes, so that it would always be 1."""
        return self.in_top5 / self.count if len(self.confusion) > _TOP else None

    @property
    def mean_per_class(self) -> float:
        """Over the classes that have pictures."""
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
    workers: int = 0,
) -> Counts:
    """`count_answers` of a network that is on this process's device, whose classes are the split's."""

    def answer(images: Tensor) -> Tensor:
        logits: Tensor = net(images.to(fabric.device, memory_format=torch.channels_last))
        return logits

    return count_answers(answer, net.num_classes, split, preprocess, fabric, batch=batch, workers=workers)


@torch.inference_mode()
def count_answers(
    answer: Callable[[Tensor], Tensor],
    classes: int,
    split: Split,
    preprocess: Preprocess,
    fabric: Fabric,
    *,
    batch: int = 64,
    workers: int = 0,
    labels: NDArray[np.int64] | None = None,
    done: Callable[[int], object] = lambda _: None,
) -> Counts:
    """Every picture once, on whichever process: all of them return the sums of all.

    answer  logits [N, classes], on any device, of pictures float32[N, 3, S, S] on the CPU
    labels  the network's class of each of the split's classes; its own number by default
    done    is called with how many more pictures this process has seen
    """
    mapped = torch.from_numpy(np.arange(len(split.classes)) if labels is None else labels)
    confusion = torch.zeros(classes * classes, dtype=torch.int64, device=fabric.device)
    in_top5 = torch.zeros((), dtype=torch.int64, device=fabric.device)
    loss = torch.zeros((), dtype=torch.float64, device=fabric.device)
    for images, numbers, _ in loader(
        split, preprocess, batch=batch, workers=workers, rank=fabric.global_rank, world=fabric.world_size
    ):
        truth = mapped[numbers].to(fabric.device)
        logits = answer(images).to(fabric.device, torch.float32)
        best = logits.topk(min(_TOP, classes)).indices
        confusion += torch.bincount(truth * classes + best[:, 0], minlength=classes * classes)
        in_top5 += (best == truth[:, None]).sum()
        loss += F.cross_entropy(logits, truth, reduction="sum")
        done(len(numbers))
    sums = [total(fabric, value) for value in (confusion, in_top5, loss)]
    matrix = sums[0].view(classes, classes).cpu().numpy()
    return Counts(matrix, int(sums[1]), float(sums[2]) / max(1, int(matrix.sum())))
