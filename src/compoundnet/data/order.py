"""Which images each batch of an epoch holds, on each of several processes."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError
from compoundnet.data.randomness import epoch_order


class Order(msgspec.Struct, frozen=True):
    """A pure function of seed and epoch: any batch can be asked for without those before it.

    count, batch   images, and images a batch on one process
    shuffle        in the order of `epoch_order`, else as they are
    drop_last      leave the rest out that does not fill a batch on every process
    rank, world    this process, and how many there are. Process r has the r-th part of each `batch * world` images:
                   together they see what one sees with `world` times the batch; every image is on exactly one
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
        """How many batches this process has in an epoch; without `drop_last` the last may be missing on some."""
        whole, rest = divmod(self.count, self.batch * self.world)
        return whole + (not self.drop_last and len(self._share(rest)) > 0)

    def indices(self, epoch: int, start_batch: int = 0) -> Iterator[NDArray[np.int64]]:
        """int64[<= batch] for each batch from `start_batch` on."""
        order = epoch_order(self.count, self.seed, epoch) if self.shuffle else np.arange(self.count)
        total = self.batch * self.world
        for number in range(start_batch, self.batches()):
            members = order[number * total : (number + 1) * total]
            yield members[self._share(len(members))]

    def _share(self, count: int) -> NDArray[np.int64]:
        """Which of a total batch's images are this process's: as many as on any other, or one less."""
        return np.array_split(np.arange(count), self.world)[self.rank]
