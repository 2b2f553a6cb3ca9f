"""The images of each batch of an epoch, on each of several processes."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError
from compoundnet.data.randomness import epoch_order


class Order(msgspec.Struct, frozen=True):
    """A pure function of seed and epoch: any batch can be computed without those before it.

    Process r has the r-th part of each `batch * world` images. Together the processes therefore see the same images as
    one process with `world` times the batch, and each image is on exactly one of them.

    Attributes:
        count: number of images.
        batch: images in a batch on one process.
        shuffle: Whether to use the order of `epoch_order` instead of that of the split.
        drop_last: drop the images that do not fill a batch on every process.
        seed: of the order.
        rank: number of this process.
        world: number of processes.
    """

    count: int
    batch: int
    shuffle: bool
    drop_last: bool
    seed: int = 0
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if self.batch < 1 or not 0 <= self.rank < self.world:
            raise ValueError(
                f"batch must be at least 1 and 0 <= rank < world, got {self.batch}, {self.rank}, {self.world}"
            )
        if self.drop_last and self.count < self.batch * self.world:
            raise CompoundNetError(
                f"{self.count} images do not fill one batch of {self.batch}"
                + (f" on each of {self.world} processes" if self.world > 1 else "")
                + f"; give a batch of at most {self.count // self.world}"
            )

    def batches(self) -> int:
        """Return the number of this process's batches in an epoch; without `drop_last` some processes may have one
        less."""
        whole, rest = divmod(self.count, self.batch * self.world)
        return whole + (not self.drop_last and len(self._share(rest)) > 0)

    def indices(self, epoch: int, start_batch: int = 0) -> Iterator[NDArray[np.int64]]:
        """Yield int64[<= batch], the images' numbers, for each batch from `start_batch` on."""
        order = epoch_order(self.count, self.seed, epoch) if self.shuffle else np.arange(self.count)
        total = self.batch * self.world
        for number in range(start_batch, self.batches()):
            members = order[number * total : (number + 1) * total]
            yield members[self._share(len(members))]

    def _share(self, count: int) -> NDArray[np.int64]:
        """Return the positions of this process in a total batch: as many as any other process has, or one less."""
        return np.array_split(np.arange(count), self.world)[self.rank]
