"""Counts of a network's correct predictions: whole numbers, summed exactly over any number of processes.

(torchmetrics was considered: its distributed state would be the array of `predict_images`.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

from compoundnet.base import Progress, ignore
from compoundnet.data import Split
from compoundnet.data.loader import loader
from compoundnet.models import Preprocess
from compoundnet.nn import ConvNet
from compoundnet.train.processes import total

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# From images float32[N, 3, S, S] on the CPU to logits [N, classes] on any device.
Predict = Callable[[Tensor], Tensor]


class Counts(msgspec.Struct, frozen=True, eq=False):
    """Predictions against true classes.

    Attributes:
        confusion: int64[classes, classes], as `confusion_of` returns it.
        in_top5: Images whose class is among the five most probable.
        loss: Mean cross-entropy.
    """

    TOP: ClassVar[int] = 5

    confusion: sparse.csr_array
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
    def score(self) -> float:
        """The figure by which the best evaluation is chosen: `top1`."""
        return self.top1

    @property
    def top5(self) -> float | None:
        """Fraction of the images whose class is among the top five; None for five classes or fewer (always 1)."""
        return self.in_top5 / self.count if self.confusion.shape[0] > self.TOP else None

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
    progress: Progress = ignore,
) -> Counts:
    """Count the predictions of a network on this process's device; see `predict_images`."""
    found = predict_images(
        on_device(net, fabric), lambda logits, labels, _: _count_values(logits, labels), split, preprocess, fabric,
        columns=3, batch=batch, workers=workers, progress=progress,
    )  # fmt: skip
    return _counted(found, net.num_classes)


def counts_of_logits(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Counts:
    """Return the counts of logits float32[N, classes] of images with labels int64[N]."""
    return _counted(_count_values(torch.from_numpy(logits), torch.from_numpy(labels)).numpy(), logits.shape[1])


def _count_values(logits: Tensor, labels: Tensor) -> Tensor:
    """The pair of classes of each image as one number, whether it is among the five most probable, and the loss."""
    classes = logits.shape[1]
    best = logits.topk(min(Counts.TOP, classes)).indices
    loss = F.cross_entropy(logits, labels, reduction="none")
    found = (labels * classes + best[:, 0], (best == labels[:, None]).any(1), loss)
    return torch.stack([column.double() for column in found], 1)


def _counted(values: NDArray[np.float64], classes: int) -> Counts:
    pairs, in_top5, losses = values.T
    truth, predicted = np.divmod(pairs.astype(np.int64), classes)
    confusion = confusion_of(truth, predicted, classes)
    return Counts(confusion, int(in_top5.sum()), float(losses.sum()) / max(1, len(losses)))


def confusion_of(truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> sparse.csr_array:
    """Return how many images have each pair of true class (row) and predicted class (column).

    Sparse, since the matrix of ImageNet-21k's 21,843 classes would take 3.8 GB.

    Args:
        truth: int64[N].
        predicted: int64[N].
        classes: The number of classes.

    Returns:
        int64[classes, classes].
    """
    ones = np.ones(len(truth), np.int64)
    return sparse.coo_array((ones, (truth, predicted)), shape=(classes, classes)).tocsr()


def on_device(net: ConvNet, fabric: Fabric) -> Predict:
    """Return a network as a function for `predict_images`, on this process's device."""

    def predict(images: Tensor) -> Tensor:
        logits: Tensor = net(images.to(fabric.device, memory_format=torch.channels_last, non_blocking=True))
        return logits

    return predict


@torch.inference_mode()
def predict_images(
    predict: Predict,
    values: Callable[[Tensor, Tensor, Tensor], Tensor],
    split: Split,
    preprocess: Preprocess,
    fabric: Fabric,
    *,
    columns: int,
    batch: int = 64,
    workers: int | None = 0,
    progress: Progress = ignore,
) -> NDArray[np.float64]:
    """Predict every image of a split once, divided among the processes, and keep some values of each.

    Args:
        predict: From images float32[N, 3, S, S] on the CPU to logits [N, classes] on any device.
        values: From logits float32[N, classes], labels int64[N] and the images' numbers int64[N], on the process's
            device, to [N, columns].
        split: The images.
        preprocess: The network's.
        fabric: The processes.
        columns: The number of values.
        batch: Images at a time on each process.
        workers: Decoding processes for each process; None chooses.
        progress: Called with the number of images that this process has just finished.

    Returns:
        float64[images, columns] in the order of the split, the same on all processes.
    """
    found = torch.zeros((len(split), columns), dtype=torch.float64, device=fabric.device)
    for images, labels, indices, _ in loader(
        split, preprocess, batch=batch, workers=workers, rank=fabric.global_rank, world=fabric.world_size,
        pin_memory=fabric.device.type == "cuda",
    ):  # fmt: skip
        logits = predict(images).to(fabric.device, torch.float32)
        numbers = indices.to(fabric.device)
        found[numbers] = values(logits, labels.to(fabric.device), numbers).double()
        progress(len(labels))
    # Each image is a row of zeros on all processes but one.
    array: NDArray[np.float64] = total(fabric, found).cpu().numpy()
    return array
