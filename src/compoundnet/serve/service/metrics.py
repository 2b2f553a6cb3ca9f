"""The measurements of the service, in the format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """Counters of the service. Labels are names of models and status codes only, so their number is bounded.

    Args:
        taken: Returns the number of images that are received, waiting or running.
        waiting: Returns the number of images that wait for the network, decoded or not.
        ready: Returns whether requests are taken.
    """

    def __init__(self, taken: Callable[[], int], waiting: Callable[[], int], ready: Callable[[], bool]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which doubles the text
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._requests = Counter(
            "compoundnet_requests", "Requests to predict, by status code.", ("model", "status"), registry=registry
        )
        self._duration = Histogram(
            "compoundnet_request_seconds", "From a request's headers to its answer.", ("model",), buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._images = Counter("compoundnet_images", "Images that were predicted.", ("model",), registry=registry)
        self._unreadable = Counter(
            "compoundnet_unreadable_images", "Images that could not be read.", ("model",), registry=registry
        )
        self._batches = Histogram(
            "compoundnet_batch_images", "Images that the network ran at a time.", ("model",),
            buckets=(1, 2, 4, 8, 16, 32, 64, 128), registry=registry,
        )  # fmt: skip
        self._run = Histogram(
            "compoundnet_run_seconds", "The network, for a batch.", ("model",), buckets=_SECONDS, registry=registry
        )
        self._queue = Histogram(
            "compoundnet_queue_seconds",
            "The longest time of a batch's images from their arrival to the network, decoding included.", ("model",),
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        for name, about, value in (
            ("compoundnet_images_in_progress", "Images that are received, waiting or running.", taken),
            ("compoundnet_images_waiting", "Images that wait for the network, decoded or not.", waiting),
            ("compoundnet_ready", "1 if requests are taken.", ready),
        ):
            Gauge(name, about, registry=registry).set_function(value)

    def answered(self, model: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests.labels(model, str(status)).inc()
        self._duration.labels(model).observe(seconds)

    def read(self, model: str, predicted: int, unreadable: int) -> None:
        """Count the images of a request."""
        self._images.labels(model).inc(predicted)
        self._unreadable.labels(model).inc(unreadable)

    def ran(self, model: str, images: int, seconds: float, waited: float) -> None:
        """Count a batch; to be called from one thread."""
        self._batches.labels(model).observe(images)
        self._run.labels(model).observe(seconds)
        self._queue.labels(model).observe(waited)

    def text(self) -> bytes:
        """Return all of them as Prometheus reads them."""
        return generate_latest(self._registry)
