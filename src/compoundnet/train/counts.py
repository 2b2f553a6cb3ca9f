"""Counts of a network's correct predictions: whole numbers, summed exactly over any number of processes.

(torchmetrics was considered: its distributed state would be the array of `predict_readable`.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

from compoundnet.base import CompoundNetError, Notify, Progress, ignore
from compoundnet.data import Split
from compoundnet.data.loader import loader, too_many_unreadable
from compoundnet.models import Preprocess
from compoundnet.nn import ConvNet
from compoundnet.train.processes import gathered, total

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# From images float32[N, 3, S, S] on the CPU to logits [N, classes] on any device.
Predict = Callable[[Tensor], Tensor]
# Unreadable images that are named in one line.
_NAMED = 10


class Tolerance(NamedTuple):
    """The unreadable images that an evaluation during a training leaves out, so that they do not end it.

    Attributes:
        most: How many; more are an error. The recipe's `max_bad`.
        kind: Of the images, such as "held-out".
        notify: Called with one line that names them, if there are any.
    """

    most: int
    kind: str
    notify: Notify


class Predicted(NamedTuple):
    """Values of the images that can be read, the same on all processes.

    Attributes:
        values: float64[M, columns], in the order of the split.
        numbers: int64[M], the images' numbers in the split.
    """

    values: NDArray[np.float64]
    numbers: NDArray[np.int64]


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
    tolerance: Tolerance | None = None,
) -> Counts:
    """Count the predictions of a network on this process's device; see `predict_readable`."""
    found = predict_readable(
        on_device(net, fabric), lambda logits, labels, _: _count_values(logits, labels), split, preprocess, fabric,
        columns=3, batch=batch, workers=workers, progress=progress, tolerance=tolerance,
    )  # fmt: skip
    return _counted(found.values, net.num_classes)


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
    """Return a network as a function for `predict_readable`, on this process's device."""

    def predict(images: Tensor) -> Tensor:
        logits: Tensor = net(images.to(fabric.device, memory_format=torch.channels_last, non_blocking=True))
        return logits

    return predict


@torch.inference_mode()
def predict_readable(
    predict: Predict,
    values: Callable[[Tensor, Tensor, Tensor], Tensor],
    split: Split,
    preprocess: Preprocess,
    fabric: Fabric,
    *,
    columns: int,
    tolerance: Tolerance | None = None,
    batch: int = 64,
    workers: int | None = 0,
    progress: Progress = ignore,
) -> Predicted:
    """Predict every image of a split that can be read once, divided among the processes, and keep some values of each.

    Args:
        predict: From images float32[N, 3, S, S] on the CPU to logits [N, classes] on any device.
        values: From logits float32[N, classes], labels int64[N] and the images' numbers int64[N], on the process's
            device, to [N, columns].
        split: The images.
        preprocess: The network's.
        fabric: The processes.
        columns: The number of values.
        tolerance: How many unreadable images are left out; None: the first one is an error.
        batch: Images at a time on each process.
        workers: Decoding processes for each process; None chooses.
        progress: Called with the number of images that this process has just finished.

    Raises:
        CompoundNetError: There are more unreadable images than are tolerated, or only such. With a tolerance all
            processes raise it.
    """
    errors: list[str] = []
    # The last column counts the image as read.
    found = torch.zeros((len(split), columns + 1), dtype=torch.float64, device=fabric.device)
    for images, labels, indices, _ in loader(
        split, preprocess, batch=batch, workers=workers, rank=fabric.global_rank, world=fabric.world_size,
        pin_memory=fabric.device.type == "cuda", left_out=None if tolerance is None else errors.append,
    ):  # fmt: skip
        if not len(labels):
            continue
        logits = predict(images).to(fabric.device, torch.float32)
        numbers = indices.to(fabric.device)
        found[numbers, :-1] = values(logits, labels.to(fabric.device), numbers).double()
        found[numbers, -1] = 1
        progress(len(labels))
    # Each image is a row of zeros on all processes but one.
    array: NDArray[np.float64] = total(fabric, found).cpu().numpy()
    read = np.flatnonzero(array[:, -1])
    if tolerance is not None and len(read) < len(split):
        errors = sorted(gathered(fabric, errors))
        if not len(read):
            raise CompoundNetError(
                f"no {tolerance.kind} image can be read, such as {errors[0]}. `compoundnet data check` lists every such"
                " image; repair them"
            )
        if len(errors) > tolerance.most:
            raise too_many_unreadable(tolerance.most, errors[0], training=True, kind=tolerance.kind)
        tolerance.notify(left_out_text(errors, len(split), tolerance.kind))
    return Predicted(array[read, :-1], read)


def left_out_text(errors: list[str], images: int, kind: str) -> str:
    """Return one line on unreadable images of `images` images of a kind; each has its name and why in `errors`."""
    many = len(errors) != 1
    more = f"; and {len(errors) - _NAMED:,} more" if len(errors) > _NAMED else ""
    return (
        f"{len(errors):,} of {images:,} {kind} images cannot be read and {'are' if many else 'is'} left out:"
        f" {'; '.join(errors[:_NAMED])}{more}"
    )
