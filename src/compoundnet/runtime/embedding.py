"""Features: the vector of an image that a model's classifier reads, the mean of its last feature map."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compoundnet.base import CompoundNetError, Notify, Progress, ignore
from compoundnet.base.image_values import Range
from compoundnet.base.images import UnreadableImageError, decode, image_errors
from compoundnet.base.machine import check_threads, installed_version
from compoundnet.data import Split
from compoundnet.models import Model, ModelFolder, Preprocess, open_folder
from compoundnet.models.weights_files import sha256_of
from compoundnet.runtime.backends.precisions import FLOAT32, INT8, check_precision, first_backend
from compoundnet.runtime.backends.registry import AUTO, BACKENDS, find_backend
from compoundnet.runtime.backends.session import Session, batch_for, open_session
from compoundnet.runtime.feature_cache import FeatureCache, image_digest
from compoundnet.runtime.predict import Failure, map_ahead
from compoundnet.runtime.session_source import SessionSource

# Images after which new features are written to the cache, so that an interrupted call loses no more.
_SAVED = 500


class Embedding(NamedTuple):
    """The features of a file, float32[width], and its damage if it is used as far as it can be decoded."""

    path: str
    features: NDArray[np.float32]
    damage: str | None


class Embedder:
    """A model that is ready to turn images into features: `Embedder("efficientnet-lite0")("cat.jpg")`.

    Features are what the classifier reads, float32[width]: the pooled last feature map, or what a convolution after the
    pool makes of it (MobileNetV4). Images of one kind have similar features, also where the model was trained on other
    classes.

    Args:
        model: A name of `compoundnet models list`, a model folder, or an opened model.
        preprocess: The preprocessing, in place of the model's.
        backend: onnxruntime, openvino, torch or compile, as for `session`; by default the first that runs the
            precision.
        precision: float32, bfloat16 or float16, as for `session`. auto is not: features have no class to compare.
        threads: Number of threads of the network, and of threads that read images ahead; all cores by default.
        batch: Number of images in a batch, as for `Predictor`.
        device: The device of torch, such as cuda.
        allow_truncated: Whether truncated or damaged files are used as far as they can be decoded.
        value_range: The values that become 0 and 255 in images with more than 8 bits a value; by default those of the
            preprocessing.

    Raises:
        CompoundNetError: The model is an exported file, does not read RGB images, or has no global pool.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Model,
        *,
        preprocess: Preprocess | None = None,
        backend: str | None = None,
        precision: str = FLOAT32,
        threads: int | None = None,
        batch: int | None = None,
        device: str = "cpu",
        allow_truncated: bool = False,
        value_range: Range | None = None,
    ) -> None:
        if batch is not None and batch < 1:
            raise CompoundNetError(f"batch must be at least 1, got {batch}")
        self.model = open_folder(model)
        network = self.model.network
        if network.in_channels != 3 or network.head.pool == "none":
            raise CompoundNetError(
                f"{self.model.name} reads {network.in_channels} channels and has the global pool"
                f" {network.head.pool!r}; features need a model that reads 3 (RGB) and has a pool before its classifier"
            )
        self.preprocess = preprocess or self.model.preprocess
        if value_range is not None:
            self.preprocess = msgspec.structs.replace(self.preprocess, range=value_range)
        self.allow_truncated = allow_truncated
        check_precision(precision)
        if precision in (INT8, AUTO):
            raise CompoundNetError(f"features are computed in float32, bfloat16 or float16, not in {precision}")
        self._precision = precision
        usual = tuple(one for one in BACKENDS if one.folders and (device == "cpu" or one.devices))
        self._backend = first_backend(usual, precision, device) if backend is None else find_backend(backend)
        self._readers = self._threads = check_threads(threads)
        self._device = device
        self.batch = batch or batch_for(self._backend, device, self._threads)
        if device != "cpu" and not self._backend.devices:
            raise CompoundNetError(
                f"the backend {self._backend.name} runs on the CPU here; --backend torch goes with device {device}"
            )
        # The features alone: a network without a classifier returns them.
        self._network = network.replace(num_classes=0, resolution=self.preprocess.size)

    def __repr__(self) -> str:
        return f"<Embedder of {self.model.name}, {self.width} features, {self.preprocess.size} px>"

    @property
    def width(self) -> int:
        """The number of features."""
        return self._network.classifier_features

    def __call__(self, image: str | os.PathLike[str] | Image.Image | NDArray[Any]) -> NDArray[np.float32]:
        """Return the features of one image, float32[width].

        Args:
            image: A file, a PIL image of any mode, or an array (see `compoundnet.base.images.to_rgb`).

        Raises:
            UnreadableImageError: The file cannot be read.
        """
        row: NDArray[np.float32] = self._run([self.preprocess.pixels(image, allow_truncated=self.allow_truncated)])[0]
        return row

    def find_range(self, paths: Iterable[str | os.PathLike[str]]) -> str | None:
        """Use one range for all files with more than 8 bits a value, and return a note that says which.

        Nothing happens, and None is returned, if the preprocessing has a range or there are no such files.
        """
        self.preprocess, note = self.preprocess.with_range_of(paths)
        return note

    def many(self, paths: Iterable[str | os.PathLike[str]]) -> Iterator[Embedding | Failure]:
        """Compute the features of many files. Memory does not grow with their number, as in `Predictor.many`.

        Yields:
            The features of each file, in order, or a Failure if the file cannot be read.
        """
        waiting: list[tuple[str, _Pixels | Failure]] = []

        def results() -> Iterator[Embedding | Failure]:
            rows = iter(self._run([found.values for _, found in waiting if isinstance(found, _Pixels)]))
            for path, found in waiting:
                yield found if isinstance(found, Failure) else Embedding(path, next(rows), found.damage)
            waiting.clear()

        depth = self.batch + 2 * self._readers
        for path, found in map_ahead(self._try, paths, workers=self._readers, depth=depth):
            waiting.append((os.fspath(path), found))
            if len(waiting) == self.batch:
                yield from results()
        yield from results()

    def of_split(
        self, split: Split, *, max_bad: int = 0, progress: Progress = ignore, notify: Notify = ignore
    ) -> NDArray[np.float32]:
        """Compute the features of a split, except those in the cache; see `features`."""
        cache = FeatureCache(self.model.name, self.identity(split), self.width)
        found = np.full((len(split), self.width), np.nan, np.float32)
        waiting: list[tuple[int, _Pixels]] = []
        bad = new = 0

        def read(index: int) -> NDArray[np.float32] | _Pixels | UnreadableImageError:
            damage: list[str] = []
            try:
                with image_errors(lambda: split.image_name(index)):
                    encoded = split.read(index)
                    digest = image_digest(encoded)
                    known = cache.get(digest)
                    if known is not None:
                        return known
                    image = decode(encoded, split.reading, damaged=damage.append)
                    return _Pixels(self.preprocess.pixels(image), damage[0] if damage else None, digest)
            except UnreadableImageError as error:
                return error

        def run() -> None:
            rows = self._run([pixels.values for _, pixels in waiting])
            for (index, pixels), row in zip(waiting, rows, strict=True):
                found[index] = row
                if pixels.damage is not None:
                    notify(f"{split.image_name(index)}: {pixels.damage}; used as far as it can be decoded")
                else:  # a damaged one is read again each time, so that it is named each time
                    cache.add(pixels.digest, row)
            waiting.clear()

        depth = self.batch + 2 * self._readers
        try:
            for index, result in map_ahead(read, range(len(split)), workers=self._readers, depth=depth):
                if isinstance(result, UnreadableImageError):
                    bad += 1
                    _check_bad(bad, max_bad, result)
                    notify(f"{result}; it is left out")
                elif isinstance(result, _Pixels):
                    waiting.append((index, result))
                    new += 1
                    if len(waiting) == self.batch:
                        run()
                    if new % _SAVED == 0:
                        cache.save()
                else:
                    found[index] = result
                progress(1)
            run()
        finally:
            cache.save()
        return found

    def identity(self, split: Split | None = None) -> dict[str, str]:
        """Return everything that features depend on, besides the image."""
        packages = ("compoundnet", "pillow", self._backend.package)
        return {
            "weights": self._weights,
            "network": self._network.dumps(),
            "preprocess": self.preprocess.dumps(),
            "reading": repr(split.reading) if split is not None else "",
            "backend": f"{self._backend.name} on {self._device}",
            "precision": self._precision,
            **{package: installed_version(package) or "" for package in packages},
        }

    @cached_property
    def _weights(self) -> str:
        return sha256_of(self.model.weights)

    def open(self, threads: int) -> Session:
        """Open a session of the network without its classifier, whose output are the features."""
        model, size = self.model, self.preprocess.size

        def module() -> Any:
            from compoundnet.models import load  # noqa: PLC0415  imports torch, which a compiled graph does not need

            return load(model, num_classes=0).fuse()

        identity = {"weights": self._weights, "network": self._network.dumps(), "size": str(size)}
        name = f"{model.name} without classifier"
        source = SessionSource(name, 3, size, self._network, identity, module=module)
        return open_session(source, self._backend, threads, self._device, self._precision)

    @cached_property
    def _session(self) -> Session:
        """Opened when the first image runs: features from the cache need no session."""
        return self.open(self._threads)

    def _run(self, pixels: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        if not pixels:
            return np.empty((0, self.width), np.float32)
        return self._session(np.stack(pixels))

    def _try(self, path: str | os.PathLike[str]) -> _Pixels | Failure:
        damage: list[str] = []
        try:
            values = self.preprocess.pixels(path, allow_truncated=self.allow_truncated, damaged=damage.append)
        except UnreadableImageError as error:
            return Failure(error.path, error.reason)
        return _Pixels(values, damage[0] if damage else None)


class _Pixels(NamedTuple):
    """An image for the network, float32[3, size, size], its damage if it is truncated, and its digest if it has one."""

    values: NDArray[np.float32]
    damage: str | None
    digest: bytes = b""


def features(
    model: str | os.PathLike[str] | ModelFolder,
    split: Split,
    resolution: int | None = None,
    *,
    preprocess: Preprocess | None = None,
    threads: int | None = None,
    device: str = "cpu",
    max_bad: int = 0,
    progress: Progress = ignore,
    notify: Notify = ignore,
) -> NDArray[np.float32]:
    """Return the features of all images of a split, each computed once and then kept in the cache.

    The cache knows an image by its content, and features by the model's weights, the preprocessing and the versions of
    the libraries: neither the names of the images nor their order matter.

    Args:
        model: A name of `compoundnet models list`, a model folder, or an opened model.
        split: The images.
        resolution: Side of the input in pixels; by default that of the preprocessing.
        preprocess: The preprocessing, in place of the model's.
        threads: Threads that read and compute; all cores by default.
        device: Of torch, such as cuda; on a CPU, ONNX Runtime computes.
        max_bad: The number of unreadable images that are tolerated.
        progress: Called with the number of images that are done.
        notify: Called with a line for each image that is unreadable or truncated.

    Returns:
        float32[images, features], in the order of the split; NaN in the rows of unreadable images.

    Raises:
        CompoundNetError: There is no such model, it has no features (see `Embedder`), or there are more than `max_bad`
            unreadable images.
    """
    opened = open_folder(model)
    how = preprocess or opened.preprocess
    if resolution is not None:
        how = msgspec.structs.replace(how, size=resolution)
    embedder = Embedder(opened, preprocess=how, threads=threads, device=device, batch=None if device == "cpu" else 64)
    return embedder.of_split(split, max_bad=max_bad, progress=progress, notify=notify)


def _check_bad(bad: int, most: int, error: UnreadableImageError) -> None:
    if bad > most:
        what = f"more than {most} images cannot be read" if most else "an image cannot be read"
        raise CompoundNetError(
            f"{what}: {error}. `compoundnet data check` lists every such image; repair them, or remove them and start"
            " again"
        ) from error
