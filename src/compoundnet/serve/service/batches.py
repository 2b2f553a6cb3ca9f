"""Dynamic batching: images of several requests run through the network together.

Threads decode the images, and others run the models. A model runs once at a time, on all cores or a GPU: whenever it is
free, it takes the images that have arrived meanwhile, up to a batch. Of a model on ONNX Runtime, whose sessions several
threads may run at the same time and where an image on each core is faster than a batch on all, no image waits for
others: the thread that decoded it runs it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

# float32[3, size, size]
Pixels: TypeAlias = NDArray[np.float32]
# The probabilities of all classes of an image, float64[classes].
Probabilities: TypeAlias = NDArray[np.float64]
# Runs a model, given its name and float32[N, 3, size, size]: float64[N, classes].
RunModel: TypeAlias = Callable[[str, Pixels], NDArray[np.float64]]
# Called with a model's name, the images of a batch, the seconds that it took, and the most seconds from the arrival of
# an image to the run.
Ran: TypeAlias = Callable[[str, int, float, float], object]
# Of the mean time of an image the share that the latest batch decides.
_LATEST = 0.1


@dataclass(frozen=True, eq=False)
class _Waiting:
    """An image that is decoded, with the times when it arrived, when a thread took it, and when it was decoded."""

    model: str
    pixels: Pixels
    arrived: float
    taken: float
    decoded: float
    result: Future[Probabilities]


class Batcher:
    """Runs images in batches, in threads of its own.

    Args:
        run: Runs a model.
        together: Returns whether a model runs the images of a batch together.
        batch: The most images of a batch.
        wait: How long the first image of a batch waits for others, in seconds.
        ran: Called after each batch, by one thread at a time.
        threads: Threads that decode images, and threads that run batches.

    Attributes:
        seconds_per_image: The mean time from one image to the next while many wait; 0 before the first.
    """

    def __init__(
        self, run: RunModel, together: Callable[[str], bool], *, batch: int, wait: float, ran: Ran, threads: int
    ) -> None:
        self._run, self._together, self._batch, self._wait, self._ran = run, together, batch, wait, ran
        self._queue: deque[_Waiting] = deque()
        self._waiting: set[Future[Probabilities]] = set()
        self._busy: set[str] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = threads
        self.seconds_per_image = 0.0
        self._decoders = ThreadPoolExecutor(threads, thread_name_prefix="compoundnet-decode")
        for _ in range(threads):
            threading.Thread(target=self._work, name="compoundnet-batches", daemon=True).start()

    def submit(self, model: str, decode: Callable[[], Pixels]) -> Future[Probabilities]:
        """Decode an image in a thread and queue it. Cancelling the future frees the image, unless it is in work.

        Args:
            model: The model's name.
            decode: Returns the image for that model; what it raises is the result of the future.
        """
        result: Future[Probabilities] = Future()
        self._waiting.add(result)
        result.add_done_callback(self._waiting.discard)
        undecoded = [decode]  # the executor keeps what it was given until its turn comes, so that gives it up
        result.add_done_callback(partial(self._forget, undecoded))
        self._decoders.submit(self._decode, model, undecoded, result, time.monotonic())
        return result

    @property
    def waiting(self) -> int:
        """The number of images that wait for the network, decoded or not."""
        return len(self._waiting)

    def close(self) -> None:
        """End the threads, after what they are working on."""
        self._decoders.shutdown(wait=False, cancel_futures=True)
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _forget(self, undecoded: list[Callable[[], Pixels]], result: Future[Probabilities]) -> None:
        if result.cancelled():  # its client has left, or it took too long
            undecoded.clear()
            with self._changed:
                self._queue = deque(it for it in self._queue if it.result is not result)

    def _decode(
        self, model: str, undecoded: list[Callable[[], Pixels]], result: Future[Probabilities], arrived: float
    ) -> None:
        taken = time.monotonic()
        try:
            decode = undecoded.pop()
        except IndexError:
            return
        try:
            pixels = decode()
        except BaseException as error:
            _settle(result, error)
            return
        decoded = _Waiting(model, pixels, arrived, taken, time.monotonic(), result)
        if not self._together(model):
            self._run_batch([decoded])
            return
        with self._changed:
            if not result.cancelled():
                self._queue.append(decoded)
                self._changed.notify()

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            try:
                self._run_batch(batch)
            finally:
                with self._changed:
                    self._busy.discard(batch[0].model)
                    self._changed.notify()

    def _run_batch(self, images: list[_Waiting]) -> None:
        batch = [it for it in images if it.result.set_running_or_notify_cancel()]
        if not batch:  # all clients have left
            return
        self._waiting.difference_update([it.result for it in batch])
        begun = time.monotonic()
        try:
            rows = self._run(batch[0].model, np.stack([it.pixels for it in batch]))
        except BaseException as error:
            for it in batch:
                it.result.set_exception(error)
            return
        with self._changed:
            ended = time.monotonic()
            self._ran(batch[0].model, len(batch), ended - begun, begun - min(it.arrived for it in batch))
            # Alone, an image takes a thread from its decoding on, beside those of the other threads.
            together = self._together(batch[0].model)
            each = (ended - begun) / len(batch) if together else (ended - batch[0].taken) / self._threads
            before = self.seconds_per_image
            self.seconds_per_image = each if before == 0 else (1 - _LATEST) * before + _LATEST * each
        for it, row in zip(batch, rows, strict=True):
            it.result.set_result(row)

    def _next(self) -> list[_Waiting] | None:
        """The next batch, when it is due; None after `close`."""
        with self._changed:
            while not self._closed:
                first = next((it for it in self._queue if it.model not in self._busy), None)
                if first is None:
                    self._changed.wait()
                    continue
                chosen = [it for it in self._queue if it.model == first.model][: self._batch]
                left = first.decoded + self._wait - time.monotonic()
                if len(chosen) < self._batch and left > 0:
                    self._changed.wait(left)
                    continue
                taken = set(map(id, chosen))
                self._queue = deque(it for it in self._queue if id(it) not in taken)
                self._busy.add(first.model)
                return chosen
            return None


def _settle(result: Future[Probabilities], error: BaseException) -> None:
    if result.set_running_or_notify_cancel():
        result.set_exception(error)
