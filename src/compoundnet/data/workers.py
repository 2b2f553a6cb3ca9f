"""Decoding of batches, in this process or in worker processes.

torch's DataLoader runs the processes. It receives the image numbers of whole batches, so that it determines neither the
order nor any random number.

Processes are used rather than threads: both decode equally fast, but threads would often hold the lock of Python, which
the training thread needs to keep a GPU busy.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from compoundnet.base.images import UnreadableImageError, image_errors
from compoundnet.data.augment import Augmentation
from compoundnet.data.dataset import Split
from compoundnet.data.forking import forks_quietly
from compoundnet.data.pixels import augmented_pixels, cropped_pixels, evaluation_pixels
from compoundnet.data.randomness import image_random
from compoundnet.data.training_transform import TrainingTransform
from compoundnet.models import Preprocess

# The number of consecutive unreadable images after which the loader gives up. It goes on if more are tolerated, but not
# if none of these exists: then the folder is gone.
_TRIES = 16


class Request(NamedTuple):
    """One batch to decode.

    Attributes:
        epoch: The epoch that determines the random choices.
        draws: int64[N], the draw numbers (`Order`): draw d is image `d % len(split)`, with random choices of its own.
    """

    epoch: int
    draws: NDArray[np.int64]


class Batch(NamedTuple):
    """One batch from a loader.

    Attributes:
        images: uint8[N, 3, S, S], channels last in memory, from a TrainingTransform; float32, normalised, from a
            Preprocess.
        labels: int64[N].
        indices: int64[N], the images' numbers in the split.
        seconds: The same crops with the same augmentation at `TrainingTransform.second` px: uint8[N, 3, T, T], channels
            last in memory; uint8[0] if that is 0.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    seconds: torch.Tensor


class Workers:
    """Processes requests in order. The worker processes start with the first request and stay alive between epochs."""

    def __init__(
        self,
        split: Split,
        transform: TrainingTransform | Preprocess,
        augment: Augmentation | None,
        seed: int,
        processes: int,
        pin_memory: bool,
        max_bad: int = 0,
    ) -> None:
        self._requests: list[Request] = []
        self._loader: DataLoader[Any] = DataLoader(
            Decoder(split, transform, augment, seed, max_bad),
            batch_size=None,
            sampler=_Queue(self._requests),
            num_workers=processes,
            persistent_workers=processes > 0,
            worker_init_fn=_ignore_other_signals,
            pin_memory=pin_memory,
        )

    def run(self, requests: list[Request]) -> Iterator[tuple[Batch | None, list[str], list[str]]]:
        """Yield the batch of each request, or None if too many consecutive images are unreadable; the reasons for
        unreadable images; and the damage of those that are used as far as they can be decoded."""
        self._requests[:] = requests
        with forks_quietly():
            batches = iter(self._loader)
        for batch, refused, damaged in batches:
            yield (None if batch is None else Batch(*batch)), refused, damaged


def _ignore_other_signals(_: int) -> None:
    """Ignore signals from other processes than the training process.

    SLURM, `timeout` and a terminal send signals to all processes of a run, but the training process decides when to
    stop: after a step that still needs this worker's batch.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # macOS does not report who sent a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End at the SIGTERM that the parent sends to its remaining workers when it exits."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


class _Queue:
    """The sampler: DataLoader reads its requests anew each epoch."""

    def __init__(self, requests: list[Request]) -> None:
        self._requests = requests

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests)

    def __len__(self) -> int:
        return len(self._requests)


class Decoder(TorchDataset[Any]):
    """The data set passed to DataLoader, in which an item is a whole batch.

    In training an unreadable image is replaced by the next readable one in the split's order, which all that are
    tolerated may separate from it; in evaluation it is missing from its batch.
    """

    def __init__(
        self,
        split: Split,
        transform: TrainingTransform | Preprocess,
        augment: Augmentation | None,
        seed: int,
        max_bad: int = 0,
    ) -> None:
        self._split, self._transform, self._seed = split, transform, seed
        self._augmentations: tuple[Augmentation | None, ...] = ()
        self._second: TrainingTransform | None = None
        self._training = isinstance(transform, TrainingTransform)
        self._tries = min(max(_TRIES, max_bad + 1), len(split)) if self._training else 1
        if isinstance(transform, TrainingTransform):
            self._augmentations = transform.augment if augment is None else augment, transform.jitter
            if transform.second:
                self._second = msgspec.structs.replace(transform, size=transform.second)

    def __getitem__(self, request: Request) -> tuple[tuple[torch.Tensor, ...] | None, list[str], list[str]]:
        images = self._empty(len(request.draws), self._transform.size)
        none = torch.empty(0, dtype=torch.uint8)
        seconds = none if self._second is None else self._empty(len(request.draws), self._second.size)
        taken = request.draws % len(self._split)
        refused: list[str] = []
        damaged: list[str] = []
        read = np.ones(len(request.draws), np.bool_)
        for place, draw in enumerate(request.draws):
            missing = 0
            for number in range(self._tries):
                taken[place] = (draw + number) % len(self._split)
                try:
                    self._decode(int(taken[place]), request.epoch, int(draw), damaged, images, seconds, place)
                    break
                except UnreadableImageError as error:
                    refused.append(str(error))
                    missing = missing + 1 if isinstance(error.__cause__, FileNotFoundError) else 0
                if self._training and (missing == _TRIES or number + 1 == self._tries):
                    return None, refused[-number - 1 :], damaged
            else:
                read[place] = False
        if not read.all():
            images, taken = images[torch.from_numpy(read)], taken[read]
        batch = images, torch.from_numpy(self._split.labels[taken]), torch.from_numpy(taken), seconds
        return batch, refused, damaged

    def _decode(
        self,
        index: int,
        epoch: int,
        draw: int,
        damaged: list[str],
        images: torch.Tensor,
        seconds: torch.Tensor,
        place: int,
    ) -> None:
        """Decode one image into its place in the batch."""
        how, reading = self._transform, self._split.reading

        def note(damage: str) -> None:
            damaged.append(f"{self._split.image_name(index)}: {damage}")

        with image_errors(lambda: self._split.image_name(index)):
            encoded = self._split.read(index)
            if isinstance(how, Preprocess):
                images[place] = evaluation_pixels(encoded, how, reading, damaged=note)
                return
            random = image_random(self._seed, epoch, draw)
            pixels = cropped_pixels(encoded, how, random, reading, damaged=note)
            # Decoded again, with the same random choices: a larger crop may need more of the image's own pixels.
            again = image_random(self._seed, epoch, draw)
            other = None if self._second is None else cropped_pixels(encoded, self._second, again, reading)
        # Outside the block, because an error in an augmentation does not make the image unreadable.
        images[place] = augmented_pixels(pixels, self._augmentations, random)
        if other is not None:
            seconds[place] = augmented_pixels(other, self._augmentations, again)

    def _empty(self, count: int, size: int) -> torch.Tensor:
        """Allocate a batch; in a worker in shared memory, so that handing it over copies nothing."""
        shared = torch.utils.data.get_worker_info() is not None
        if isinstance(self._transform, Preprocess):
            images = torch.empty(count, 3, size, size)
            return images.share_memory_() if shared else images
        rows = torch.empty(count, size, size, 3, dtype=torch.uint8)
        return (rows.share_memory_() if shared else rows).permute(0, 3, 1, 2)
