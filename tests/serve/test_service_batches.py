"""Which images run together in the service, when they run, and what their time counts as."""

from __future__ import annotations

import threading
import time
import weakref
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from service_server import until

from compoundnet.serve.service import batches
from compoundnet.serve.service.batches import Batcher


def test_images_of_clients_that_have_left_are_freed_at_once() -> None:
    running, decoding, go_on = threading.Event(), threading.Event(), threading.Event()
    pixels = np.zeros((3, 8, 8), np.float32)

    def run_model(_: str, batch: Any) -> Any:
        running.set()
        assert go_on.wait(30)
        return np.zeros((len(batch), 2))

    def slow() -> Any:
        decoding.set()
        assert go_on.wait(30)
        return pixels

    def undecoded() -> tuple[Any, weakref.ref[Any]]:
        content = np.zeros(1000)  # as the bytes of a file, which cannot be referred to weakly
        return partial(lambda _: pixels, content), weakref.ref(content)

    batcher = Batcher(run_model, lambda _: True, batch=1, wait=0.0, ran=lambda *_: None, threads=1)
    first = batcher.submit("a", lambda: pixels)
    assert running.wait(30)
    decoded = batcher.submit("a", lambda: pixels)
    until(lambda: batcher.waiting == 1)
    late = batcher.submit("a", slow)
    assert decoding.wait(30)
    decode, content = undecoded()
    queued = batcher.submit("a", decode)
    del decode
    for one in (decoded, late, queued):
        assert one.cancel()
    assert (batcher.waiting, content()) == (0, None)
    go_on.set()
    assert first.result(30).shape == (2,)
    assert batcher.submit("a", lambda: pixels).result(30).shape == (2,)
    batcher.close()


def test_the_first_image_of_a_batch_waits_a_bounded_time() -> None:
    runs: list[int] = []

    def run_model(_: str, pixels: Any) -> Any:
        runs.append(len(pixels))
        return np.zeros((len(pixels), 2))

    pixels = np.zeros((3, 8, 8), np.float32)
    batcher = Batcher(run_model, lambda _: True, batch=3, wait=0.2, ran=lambda *_: None, threads=2)
    begun = time.monotonic()
    full = [batcher.submit("a", lambda: pixels) for _ in range(3)]
    assert [one.result(30).shape for one in full] == [(2,)] * 3
    alone = batcher.submit("a", lambda: pixels)
    alone.result(30)
    assert time.monotonic() - begun >= 0.2
    mixed = [batcher.submit(name, lambda: pixels) for name in "abab"]
    assert [one.result(30).shape for one in mixed] == [(2,)] * 4
    assert runs[:2] == [3, 1]
    assert sum(runs) == 8
    batcher.close()


def test_each_thread_takes_an_image_of_its_own_where_a_batch_is_not_faster() -> None:
    both = threading.Barrier(2, timeout=30)

    def run_model(_: str, pixels: Any) -> Any:
        both.wait()
        return np.zeros((len(pixels), 2))

    runs: list[int] = []
    batcher = Batcher(
        run_model, lambda _: False, batch=8, wait=5.0, ran=lambda _, images, *__: runs.append(images), threads=2
    )
    asked = [batcher.submit("a", lambda: np.zeros((3, 8, 8), np.float32)) for _ in range(6)]
    assert [one.result(30).shape for one in asked] == [(2,)] * 6
    assert runs == [1] * 6
    batcher.close()


@pytest.mark.parametrize(("together", "each"), [(True, 5.0), (False, 4.0)])
def test_the_wait_of_an_image_is_from_its_arrival(together: bool, each: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the time of an image that a thread has alone is that of its decoding and its run, beside other threads."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(batches, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def decode() -> Any:
        clock.now += 3
        return np.zeros((3, 8, 8), np.float32)

    def run_model(_: str, pixels: Any) -> Any:
        clock.now += 5
        return np.zeros((len(pixels), 2))

    ran: list[Any] = []
    batcher = Batcher(
        run_model, lambda _: together, batch=8, wait=0.0, ran=lambda *measured: ran.append(measured), threads=2
    )
    batcher.submit("a", decode).result(30)
    batcher.close()
    assert ran == [("a", 1, 5.0, 3.0)]
    assert batcher.seconds_per_image == each
