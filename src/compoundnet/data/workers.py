"""Decoding a batch, here or in worker processes.

torch's DataLoader runs the processes. It is asked for whole batches by their pictures' numbers, so that it decides
nothing: not the order, not what is random.

Processes rather than threads: both decode as fast, but threads would often hold Python's lock, which the training
thread needs to keep a GPU busy.
"""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from compoundnet.base.images import UnreadableImageError, image_errors
from compoundnet.data.dataset import Split
from compoundnet.data.pixels import evaluation_pixels, training_pixels
from compoundnet.data.randomness import image_random
from compoundnet.data.training_transform import TrainingTransform
from compoundnet.models import Preprocess

# How many pictures in a row may be unreadable before giving up.
_TRIES = 16


class Request(NamedTuple):
    """The pictures of one batch, and the epoch that their random choices are of."""

    epoch: int
    indices: NDArray[np.int64]


class Batch(NamedTuple):
    """What a loader gives.

    images   uint8[N, 3, S, S], channels last in memory, of a TrainingTransform; float32, normalised, of a Preprocess
    labels   int64[N]
    indices  int64[N], the pictures' numbers in the split
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor


class Workers:
    """Runs requests in order. The processes start with the first and are kept between epochs."""

    def __init__(
        self, split: Split, transform: TrainingTransform | Preprocess, seed: int, processes: int, pin_memory: bool
    ) -> None:
        self._requests: list[Request] = []
        self._loader: DataLoader[Any] = DataLoader(
            _Decoder(split, transform, seed),
            batch_size=None,
            sampler=_Queue(self._requests),
            num_workers=processes,
            persistent_workers=processes > 0,
            worker_init_fn=_heed_the_parent_alone,
            pin_memory=pin_memory,
        )

    def run(self, requests: list[Request]) -> Iterator[tuple[Batch | None, list[str]]]:
        """Each request's batch, None where too many in a row cannot be read; and why each that cannot be."""
        self._requests[:] = requests
        with warnings.catch_warnings():
            # Of forking while other threads run: nothing in the worker waits for a lock that they could hold.
            warnings.simplefilter("ignore", DeprecationWarning)
            batches = iter(self._loader)
        for images, labels, indices, refused in batches:
            yield (None if images is None else Batch(images, labels, indices)), refused


def _heed_the_parent_alone(_: int) -> None:
    """SLURM, `timeout` and a terminal signal all processes of a run, but the training process decides when to stop:
    after a step that still needs this worker's batch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # macOS cannot tell who sent a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_told, daemon=True).start()


def _end_when_told() -> None:
    """By SIGTERM from the parent, which sends it to the workers that are left when it exits."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


class _Queue:
    """What DataLoader draws requests from; it reads them anew each epoch."""

    def __init__(self, requests: list[Request]) -> None:
        self._requests = requests

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests)

    def __len__(self) -> int:
        return len(self._requests)


class _Decoder(TorchDataset[Any]):
    """A request's batch. A picture that cannot be read is replaced by the next that can, of the split's order."""

    def __init__(self, split: Split, transform: TrainingTransform | Preprocess, seed: int) -> None:
        self._split, self._transform, self._seed = split, transform, seed

    def __getitem__(self, request: Request) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor, list[str]]:
        size = self._transform.size
        images = self._empty(len(request.indices), size)
        taken = request.indices.copy()
        refused: list[str] = []
        for place, index in enumerate(request.indices):
            for number in range(_TRIES):
                taken[place] = (index + number) % len(self._split)
                try:
                    images[place] = self._pixels(int(taken[place]), request.epoch, int(index))
                    break
                except UnreadableImageError as error:
                    refused.append(str(error))
            else:
                return None, torch.empty(0), torch.empty(0), refused[-_TRIES:]
        return images, torch.from_numpy(self._split.labels[taken]), torch.from_numpy(taken), refused

    def _pixels(self, index: int, epoch: int, place: int) -> torch.Tensor:
        with image_errors(lambda: self._split.image_name(index)):
            encoded = self._split.read(index)
            if isinstance(self._transform, Preprocess):
                return evaluation_pixels(encoded, self._transform)
            return training_pixels(encoded, self._transform, image_random(self._seed, epoch, place))

    def _empty(self, count: int, size: int) -> torch.Tensor:
        """Room for a batch; in a worker in shared memory, so that handing it over copies nothing."""
        shared = torch.utils.data.get_worker_info() is not None
        if isinstance(self._transform, Preprocess):
            images = torch.empty(count, 3, size, size)
            return images.share_memory_() if shared else images
        rows = torch.empty(count, size, size, 3, dtype=torch.uint8)
        return (rows.share_memory_() if shared else rows).permute(0, 3, 1, 2)
