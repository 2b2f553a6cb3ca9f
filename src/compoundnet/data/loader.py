"""Batches of a split in a fixed order, decoded by worker processes."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch

from compoundnet.base import CompoundNetError
from compoundnet.data.dataset import Split
from compoundnet.data.order import Order
from compoundnet.data.training_transform import TrainingTransform
from compoundnet.data.workers import Batch, Request, Workers
from compoundnet.models import Preprocess

_log = logging.getLogger(__name__)


class Loader:
    """What `loader` returns: iterate it for one epoch's batches, from `start_batch` on.

    `at(epoch, start_batch)` is the same loader at another place. Both share the worker processes, which start with the
    first batch and end when the last such loader is gone; so iterate one of them at a time.
    """

    def __init__(self, order: Order, workers: Workers, refused: _Refused, epoch: int, start_batch: int) -> None:
        self.order, self.epoch, self.start_batch = order, epoch, start_batch
        self._workers, self._refused = workers, refused

    def at(self, epoch: int, start_batch: int = 0) -> Loader:
        """This loader at another epoch and batch."""
        return Loader(self.order, self._workers, self._refused, epoch, start_batch)

    def __len__(self) -> int:
        """Batches from `start_batch` to the end of the epoch."""
        return max(0, self.order.batches() - self.start_batch)

    def __iter__(self) -> Iterator[Batch]:
        requests = [Request(self.epoch, indices) for indices in self.order.indices(self.epoch, self.start_batch)]
        for batch, refused in self._workers.run(requests):
            for error in refused:
                self._refused.add(self.epoch, error)
            if batch is None:
                raise CompoundNetError(f"{len(refused)} pictures in a row cannot be read, such as {refused[0]}")
            yield batch


class _Refused:
    """The pictures of an epoch that could not be read: each is named once, and there may be `most`."""

    def __init__(self, most: int, training: bool) -> None:
        self._most, self._training = most, training
        self._epoch, self._errors = -1, set[str]()

    def add(self, epoch: int, error: str) -> None:
        """Raises CompoundNetError where it is one too many."""
        if epoch != self._epoch:
            self._epoch, self._errors = epoch, set()
        if error in self._errors:
            return
        self._errors.add(error)
        if len(self._errors) <= self._most:
            _log.warning("%s; skipped (%d of at most %d)", error, len(self._errors), self._most)
            return
        what = f"more than {self._most} pictures cannot be read" if self._most else "a picture cannot be read"
        # A run that goes on must find the same pictures, so they are not to be removed from under it.
        advice = "repair them, or allow for more with --set max_bad=N" if self._training else "repair or remove them"
        raise CompoundNetError(f"{what}: {error}. `compoundnet data verify` lists every such picture; {advice}")


def loader(
    split: Split,
    transform: TrainingTransform | Preprocess,
    *,
    batch: int,
    seed: int = 0,
    epoch: int = 0,
    start_batch: int = 0,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    shuffle: bool | None = None,
    drop_last: bool | None = None,
    max_bad: int = 0,
    pin_memory: bool = False,
) -> Loader:
    """Batches of `split`, each (images, labels, indices).

    transform    a TrainingTransform gives uint8[N, 3, S, S] for `normalise` on the device; a Preprocess gives what
                 prediction computes, float32 and normalised
    batch        pictures a batch on this process
    seed, epoch  decide the order and every random choice; nothing else does, so any number of workers, and any
                 `start_batch`, gives the same pictures bit for bit
    workers      processes that decode; 0 decodes in this one
    rank, world  this process among those that share the split: together they see each picture once
    shuffle, drop_last  what training does, and evaluation does not
    max_bad      pictures of an epoch that this process may find unreadable: each is named in the log, and the next
                 readable one takes its place. One more is a CompoundNetError. Only for training: evaluation counts
                 every picture
    pin_memory   in page-locked memory, for an asynchronous copy to a GPU
    """
    training = isinstance(transform, TrainingTransform)
    if max_bad and not training:
        raise ValueError("max_bad is for training: evaluation must count every picture once")
    order = Order(
        count=len(split),
        batch=batch,
        shuffle=training if shuffle is None else shuffle,
        drop_last=training if drop_last is None else drop_last,
        seed=seed,
        rank=rank,
        world=world,
    )
    refused = _Refused(max_bad, training)
    return Loader(order, Workers(split, transform, seed, workers, pin_memory), refused, epoch, start_batch)


def normalise(images: torch.Tensor, how: Preprocess) -> torch.Tensor:
    """A batch's images as the network reads them, float32[N, 3, S, S], channels last, on the device they are on.

    uint8 becomes (pixel / 255 - mean) / std; what is float is normalised already.
    """
    if images.dtype != torch.uint8:
        return images
    rows = images.permute(0, 2, 3, 1).flatten(2)
    target = torch.empty(rows.shape, dtype=torch.float32, device=rows.device)
    mean, std = (_row(values, rows) for values in (how.mean, how.std))
    # On a CPU picture by picture, which stays in its cache.
    for pixels, written in zip(rows, target, strict=True) if rows.device.type == "cpu" else [(rows, target)]:
        written.copy_(pixels).mul_(1 / (255 * std)).sub_(mean / std)
    return target.view(len(images), -1, images.shape[3], 3).permute(0, 3, 1, 2)


def _row(values: tuple[float, ...], rows: torch.Tensor) -> torch.Tensor:
    """A value for each channel of each pixel in a row: one long run of numbers is quicker than many of three."""
    channels = torch.tensor(values, dtype=torch.float32, device=rows.device).expand(3)
    return channels.repeat(rows.shape[-1] // 3)
