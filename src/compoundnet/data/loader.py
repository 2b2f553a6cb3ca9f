"""Batches of a split in a fixed order, decoded by worker processes."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from compoundnet.base import CompoundNetError, format_bytes
from compoundnet.base.machine import cores
from compoundnet.data.augment import Augmentation
from compoundnet.data.dataset import Split
from compoundnet.data.order import Order
from compoundnet.data.training_transform import TrainingTransform
from compoundnet.data.workers import Batch, Request, Workers
from compoundnet.models import Preprocess

_log = logging.getLogger(__name__)
# Where worker processes put batches, on Linux; and the batches that each of them decodes ahead.
_SHARED, _AHEAD = Path("/dev/shm"), 2

# Below these numbers of images, decoding in this process takes less time than starting workers.
_FEW_IMAGES, _FEW_TRAINING_IMAGES = 100, 5000
_MOST_WORKERS = 16
# Truncated images that are named one by one; a camera-trap set has thousands.
_NAMED = 10


class Loader:
    """The batches of one epoch, from `start_batch` on; `loader` makes one.

    Attributes:
        order: The images of each batch.
        epoch: The epoch over which it iterates.
        start_batch: The first batch of the iteration.
    """

    def __init__(
        self,
        order: Order,
        workers: Workers,
        refused: _Refused,
        epoch: int,
        start_batch: int,
        left_out: Callable[[str], object] | None = None,
    ) -> None:
        self.order, self.epoch, self.start_batch = order, epoch, start_batch
        self._workers, self._refused, self._left_out = workers, refused, left_out

    def __repr__(self) -> str:
        order = self.order
        share = f" of process {order.rank} of {order.world}" if order.world > 1 else ""
        start = f" from batch {self.start_batch:,}" if self.start_batch else ""
        return (
            f"<Loader: {order.count:,} images{' shuffled' * order.shuffle} in {order.batches():,} batches"
            f"{'' if order.pieces else f' of {order.batch}'}{share}, epoch {self.epoch}{start}>"
        )

    def at(self, epoch: int, start_batch: int = 0) -> Loader:
        """Return this loader at another epoch and batch.

        Both share the worker processes, which start with the first batch and end when the last such loader is deleted.
        Iterate over only one of them at a time.
        """
        return Loader(self.order, self._workers, self._refused, epoch, start_batch, self._left_out)

    def __len__(self) -> int:
        """Return the number of batches from `start_batch` to the end of the epoch."""
        return max(0, self.order.batches() - self.start_batch)

    def __iter__(self) -> Iterator[Batch]:
        requests = [Request(self.epoch, draws) for draws in self.order.indices(self.epoch, self.start_batch)]
        for batch, refused, damaged in self._workers.run(requests):
            for error in refused:
                if self._left_out is not None:
                    self._left_out(error)
                if self._left_out is None or self._refused.training:
                    self._refused.add(self.epoch, error)
            for damage in damaged:
                self._refused.add_damaged(damage)
            if batch is None:
                raise CompoundNetError(f"{len(refused)} images in a row cannot be read, such as {refused[0]}")
            yield batch
        self._refused.count_damaged()


class _Refused:
    """The unreadable images of an epoch: each is logged once, and up to `most` are allowed.

    Of truncated images that are used as far as they go, the first ten are named, and all are counted.
    """

    def __init__(self, most: int, training: bool) -> None:
        self._most, self.training = most, training
        self._epoch, self._errors = -1, set[str]()
        self._damaged, self._counted = set[str](), 0

    def add_damaged(self, damage: str) -> None:
        if damage not in self._damaged:
            self._damaged.add(damage)
            if len(self._damaged) <= _NAMED:
                _log.warning("%s; used as far as it can be decoded", damage)

    def count_damaged(self) -> None:
        """Log at the end of an epoch how many there are, if there are more than were named."""
        if len(self._damaged) > max(_NAMED, self._counted):
            self._counted = len(self._damaged)
            _log.warning(
                "%s truncated images are used as far as they can be decoded; `compoundnet data check"
                " --allow-truncated` lists them",
                f"{self._counted:,}",
            )

    def add(self, epoch: int, error: str) -> None:
        """Raise CompoundNetError if it is one too many."""
        if epoch != self._epoch:
            self._epoch, self._errors = epoch, set()
        if error in self._errors:
            return
        self._errors.add(error)
        if len(self._errors) <= self._most:
            _log.warning("%s; skipped (%d of at most %d)", error, len(self._errors), self._most)
            return
        raise too_many_unreadable(self._most, error, training=self.training)


def too_many_unreadable(most: int, error: str, *, training: bool, kind: str = "") -> CompoundNetError:
    """Return the error for more than `most` unreadable images.

    Args:
        most: How many are tolerated.
        error: The name of one, and why it cannot be read.
        training: Whether it is a training that stops, which can tolerate more.
        kind: Of the images, such as "held-out".
    """
    kind = f"{kind} " if kind else ""
    what = f"more than {most:,} {kind}images" if most else f"{'a' if kind else 'an'} {kind}image"
    # Where test images are chosen by a hash of the names, a removed image moves others from one split to the other. A
    # training that is resumed would find other images, and an evaluation would measure images that were trained on.
    advice = "repair them, or "
    advice += "allow for more with --set max_bad=N" if training else "remove them if the data has its own test split"
    if "truncated" in error:
        advice += ", or take what is there of truncated ones with --allow-truncated"
    return CompoundNetError(
        f"{what} cannot be read: {error}. `compoundnet data check` lists every such image; {advice}"
    )


def loader(
    split: Split,
    transform: TrainingTransform | Preprocess,
    *,
    batch: int,
    augment: Augmentation | None = None,
    seed: int = 0,
    epoch: int = 0,
    start_batch: int = 0,
    workers: int | None = 0,
    rank: int = 0,
    world: int = 1,
    shuffle: bool | None = None,
    drop_last: bool | None = None,
    pieces: int = 0,
    balanced: bool = False,
    repeats: int = 1,
    max_bad: int = 0,
    left_out: Callable[[str], object] | None = None,
    pin_memory: bool = False,
) -> Loader:
    """Load batches of `split`, each (images, labels, indices).

    Only seed and epoch determine the order and every random choice: the images are the same bit for bit with any number
    of workers and any `start_batch`.

    Args:
        split: The images. The transform of the split is not applied.
        transform: A TrainingTransform returns uint8[N, 3, S, S] for `normalise` on the device; a Preprocess returns
            normalised float32 values, as in prediction.
        batch: Images in a batch on this process.
        augment: Replaces the augmentation of the training transform.
        seed: See above.
        epoch: See above.
        start_batch: The first batch.
        workers: Processes that decode; 0 decodes in this one, None chooses (`worker_count`).
        rank: Number of this process among those that share the split; together they read each image once.
        world: Number of these processes.
        shuffle: By default only for training.
        drop_last: Drop the images that do not fill a batch on every process; by default only for training.
        pieces: Number of batches of an epoch, of equal size up to one image, in place of `batch` and `drop_last`.
        balanced: Whether to draw every class equally often, see `balanced_order`. Only for training.
        max_bad: Unreadable images that this process tolerates in an epoch: each is named in the log, and the next
            readable one takes its place. Only for training.
        left_out: Called with the name of each unreadable image and why. In evaluation the image is then missing from
            its batch, which may be empty; by default the first one is an error.
        pin_memory: Whether to put batches in page-locked memory, for an asynchronous copy to a GPU.

    Raises:
        CompoundNetError: while iterating, when there are more than `max_bad` unreadable images, unless they are left
            out.
    """
    if workers is None:
        workers = worker_count(len(split), training=isinstance(transform, TrainingTransform))
    training = isinstance(transform, TrainingTransform)
    if (max_bad or augment is not None or balanced or repeats > 1) and not training:
        raise ValueError(
            "max_bad, augment, balanced and repeats are for training: evaluation must count every image once, as it is"
        )
    order = Order(
        count=len(split),
        batch=batch,
        shuffle=training if shuffle is None else shuffle,
        drop_last=training if drop_last is None else drop_last,
        seed=seed,
        rank=rank,
        world=world,
        pieces=pieces,
        labels=split.labels.astype(np.int64) if balanced else None,
        repeats=repeats,
    )
    workers = _with_memory(workers, order, transform)
    refused = _Refused(max_bad, training)
    decoded = Workers(split, transform, augment, seed, workers, pin_memory, max_bad)
    return Loader(order, decoded, refused, epoch, start_batch, left_out)


def _with_memory(workers: int, order: Order, transform: TrainingTransform | Preprocess) -> int:
    """Return the number of workers, or 0 if the batches that they hand over do not fit the shared memory."""
    if not workers or not _SHARED.is_dir():
        return workers
    images = -(-order.count // (order.pieces * order.world)) if order.pieces else min(order.batch, order.count)
    if isinstance(transform, TrainingTransform):
        pixels = transform.size**2 + transform.second**2
    else:
        pixels = 4 * transform.size**2  # 4 bytes a value
    needed = (_AHEAD * workers + 1) * images * 3 * pixels
    free = shutil.disk_usage(_SHARED).free
    if needed <= free:
        return workers
    _log.warning(
        "%d workers need %s of shared memory, and %s has %s: images are decoded in this process, which takes longer"
        " (Docker: --shm-size; or fewer --workers, or a smaller batch)",
        workers, format_bytes(needed), _SHARED, format_bytes(free),
    )  # fmt: skip
    return 0


def worker_count(images: int, *, training: bool) -> int:
    """Choose the number of decoding processes for each process that runs the network; 0 for few images."""
    few = _FEW_TRAINING_IMAGES if training else _FEW_IMAGES
    return 0 if images < few else most_workers()


def most_workers() -> int:
    """Return the number of decoding processes that keep up with each process that runs the network."""
    return max(1, min(_MOST_WORKERS, cores() - 1))


def normalise(images: torch.Tensor, how: Preprocess) -> torch.Tensor:
    """Compute (pixel / 255 - mean) / std of uint8 images, on their own device; float ones are normalised already.

    Args:
        images: [N, 3, S, S].
        how: Mean and standard deviation.

    Returns:
        float32[N, 3, S, S], channels last in memory.
    """
    if images.dtype != torch.uint8:
        return images
    rows = images.permute(0, 2, 3, 1).flatten(2)
    target = torch.empty(rows.shape, dtype=torch.float32, device=rows.device)
    scale, shift = _scale_and_shift(how.mean, how.std, images.shape[3], rows.device)
    # On a CPU image by image, so that each image stays in the cache.
    for pixels, written in zip(rows, target, strict=True) if rows.device.type == "cpu" else [(rows, target)]:
        written.copy_(pixels).mul_(scale).sub_(shift)
    return target.view(len(images), -1, images.shape[3], 3).permute(0, 3, 1, 2)


@lru_cache(maxsize=8)  # made once: a copy to a GPU waits for all that the GPU has still to do
def _scale_and_shift(
    mean: tuple[float, ...], std: tuple[float, ...], pixels: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return 1 / (255 std) and mean / std of the channels, each repeated for every pixel of a row: one long vector is
    faster than many of three."""
    # Not an inference tensor, even if the first batch is an evaluation's.
    with torch.inference_mode(False):
        means, stds = (torch.tensor(values, dtype=torch.float32).expand(3).repeat(pixels) for values in (mean, std))
        return (1 / (255 * stds)).to(device), (means / stds).to(device)
