"""The images of each batch of an epoch, on each of several processes."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError
from compoundnet.data.randomness import balanced_order, epoch_order, repeated_order


class Order(msgspec.Struct, frozen=True, eq=False):
    """A pure function of seed and epoch: any batch can be computed without those before it.

    Process r has the r-th part of each `batch * world` images. Together the processes therefore see the same images as
    one process with `world` times the batch, and each image is on exactly one of them.

    An order consists of draw numbers: draw d is image `d % count`. They are the images' own numbers, except where
    `labels` or `repeats` make an image occur more than once in an epoch: its second draw is its number plus `count`,
    and so on, so that each draw has random choices of its own.

    Attributes:
        count: Number of images.
        batch: Images in a batch on one process.
        shuffle: Whether to use the order of `epoch_order` instead of that of the split.
        drop_last: Drop the images that do not fill a batch on every process.
        seed: Of the order.
        rank: Number of this process.
        world: Number of processes.
        pieces: Number of batches of the epoch, whose sizes differ by at most one image; it replaces `batch` and
            `drop_last`. 0: batches of `batch`. (Training takes every image, and a last batch of a few images would have
            a noisy gradient and batch-norm statistics.)
        labels: int64[count], the class of each image, if every class is to be drawn equally often (`balanced_order`).
        repeats: How often an image is drawn in a row (`repeated_order`).
    """

    count: int
    batch: int
    shuffle: bool
    drop_last: bool
    seed: int = 0
    rank: int = 0
    world: int = 1
    pieces: int = 0
    labels: NDArray[np.int64] | None = None
    repeats: int = 1

    def __post_init__(self) -> None:
        if self.batch < 1 or not 0 <= self.rank < self.world:
            raise ValueError(
                f"batch must be at least 1 and 0 <= rank < world, got {self.batch}, {self.rank}, {self.world}"
            )
        if self.pieces:
            if self.pieces * self.world > self.count:
                raise CompoundNetError(
                    f"{self.count} images cannot be divided into {self.pieces} batches on each of {self.world}"
                    " processes"
                )
        elif self.drop_last and self.count < self.batch * self.world:
            raise CompoundNetError(
                f"{self.count} images do not fill one batch of {self.batch}"
                + (f" on each of {self.world} processes" if self.world > 1 else "")
                + f"; give a batch of at most {self.count // self.world}"
            )

    def batches(self) -> int:
        """Return the number of this process's batches in an epoch; without `drop_last` some processes may have one
        less."""
        if self.pieces:
            return self.pieces
        whole, rest = divmod(self.count, self.batch * self.world)
        return whole + (not self.drop_last and len(self._share(rest)) > 0)

    def size(self, number: int) -> int:
        """Return the number of images in batch `number` of an epoch, over all processes together."""
        start, end = self._bounds(number)
        return end - start

    def indices(self, epoch: int, start_batch: int = 0) -> Iterator[NDArray[np.int64]]:
        """Yield int64[<= batch], the draw numbers, for each batch from `start_batch` on."""
        order = self._epoch(epoch)
        for number in range(start_batch, self.batches()):
            start, end = self._bounds(number)
            yield order[start:end][self._share(end - start)]

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        if self.labels is not None:
            return balanced_order(self.labels, self.seed, epoch)
        if self.repeats > 1:
            return repeated_order(self.count, self.repeats, self.seed, epoch)
        return epoch_order(self.count, self.seed, epoch) if self.shuffle else np.arange(self.count)

    def _bounds(self, number: int) -> tuple[int, int]:
        """Return where a total batch starts and ends in the order of the epoch."""
        if self.pieces:
            return self.count * number // self.pieces, self.count * (number + 1) // self.pieces
        total = self.batch * self.world
        return number * total, min(self.count, (number + 1) * total)

    def _share(self, count: int) -> NDArray[np.int64]:
        """Return the positions of this process in a total batch: as many as any other process has, or one less."""
        return np.array_split(np.arange(count), self.world)[self.rank]
