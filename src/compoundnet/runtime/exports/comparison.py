"""The comparison of an exported file with the original torch module, on noise and on images."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from compoundnet.arch.spec import MIN_RESOLUTION
from compoundnet.base.images import Reading, read_image
from compoundnet.models import Postprocess, Preprocess
from compoundnet.runtime.backends.litert import run_litert
from compoundnet.runtime.backends.onnxruntime import raw_session
from compoundnet.runtime.backends.openvino import compile_graph, read_graph

if TYPE_CHECKING:
    from compoundnet.runtime.session_source import Run


class Comparison(msgspec.Struct, frozen=True):
    """The deviation of a file's logits from those of torch.

    Attributes:
        difference: Largest absolute difference, divided by torch's largest absolute logit.
        agreement: Fraction of the images with the same most probable class, or the same labels; None without images.
        images: The number of images, not counting the noise.
    """

    difference: float
    agreement: float | None
    images: int


def compare(
    net: nn.Module,
    run: Run,
    noise: Iterable[NDArray[np.float32]],
    images: Iterable[Pixels],
    postprocess: Postprocess | None = None,
) -> Comparison:
    """Compare both on batches of noise float32[N, C, H, W] and on images float32[C, H, W], all of one size.

    The file gets the images one at a time. `postprocess` is that of the model; by default one class an image.
    """
    decided = (postprocess or Postprocess()).decided
    largest = furthest = 0.0
    agreed = count = 0

    in_torch = torch_run(net)

    def same(expected: NDArray[np.float32], found: NDArray[np.float32]) -> bool:
        nonlocal largest, furthest
        largest = max(largest, float(np.abs(expected).max()))
        # A NaN counts as an infinite difference.
        furthest = max(furthest, float(np.nan_to_num(np.abs(found - expected), nan=np.inf).max()))
        return bool((decided(found) == decided(expected)).all())

    for batch in noise:
        same(in_torch(batch), run(batch))
    for batch in _batches(images):
        for image, expected in zip(batch, in_torch(batch), strict=True):
            agreed += same(expected[None], run(image[None]))
        count += len(batch)
    return Comparison(furthest / (largest or 1.0), agreed / count if count else None, count)


Pixels = NDArray[np.float32]
# The numbers of a batch for torch, which computes sixteen images much faster at a time than one after the other.
_BATCH = 16 * 3 * 224 * 224


def _batches(images: Iterable[Pixels]) -> Iterator[NDArray[np.float32]]:
    waiting = iter(images)
    for first in waiting:
        yield np.stack([first, *islice(waiting, max(0, _BATCH // first.size - 1))])


def noise(channels: int, size: int, *, dynamic_batch: bool, dynamic_size: bool) -> Iterator[NDArray[np.float32]]:
    """Yield batches of normal noise, in each of the shapes that an exported file accepts."""
    shapes = [(1, size, size)]
    if dynamic_batch:
        shapes.append((3, size, size))
    if dynamic_size:  # SAME padding depends on whether a side is even or odd, at every stride
        shapes += [(1, size + 1, size + 2), (1, max(MIN_RESOLUTION, size - 5), size + 19)]
    random = np.random.default_rng(0)
    for count, height, width in shapes:
        yield random.standard_normal((count, channels, height, width), dtype=np.float32)


def compare_probabilities(
    file: Path, run: Run, images: Iterable[Image.Image], how: Preprocess, postprocess: Postprocess
) -> float:
    """Return the largest difference between the probabilities of a file that preprocesses images itself, and those of
    the same network after `how`.

    Args:
        file: An ONNX file that reads uint8[H, W, 3].
        run: The network of the file without preprocessing, from float32[N, C, H, W] to logits.
        images: RGB images of any size.
        how: The preprocessing.
        postprocess: That of the model.
    """
    session = raw_session(file, optimise=True)
    furthest = 0.0
    for image in images:
        expected = postprocess.probabilities(run(how.pixels(image)[None]))
        found = session.run(None, {session.get_inputs()[0].name: np.asarray(image)})[0]
        furthest = max(furthest, float(np.nan_to_num(np.abs(found - expected), nan=np.inf).max()))
    return furthest


def read_images(paths: Sequence[Path], how: Preprocess) -> Iterator[Image.Image]:
    """Yield RGB images, one at a time."""
    for path in paths:
        yield read_image(path, Reading(how.range))


def generated_images(size: int) -> Iterator[Image.Image]:
    """Yield RGB images of synthetic noise with a natural image spectrum, used if no images are given.

    Colours vary together, contrast falls as 1 / frequency (Field 1987). Sides are 2 to 3 times `size` pixels.
    """
    random = np.random.default_rng(0)
    side = 3 * size
    rows, columns = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
    amplitude = 1 / np.maximum(np.hypot(rows, columns), 1 / side)
    for width, height in ((2 * size, 2 * size), (2 * size, side), (side, 2 * size), (side - size // 2, 2 * size)):
        grey, *colours = (
            np.fft.irfft2(amplitude * np.exp(2j * np.pi * random.random(amplitude.shape)), s=(side, side))
            for _ in range(4)
        )
        planes = np.stack([grey / grey.std() + 0.3 * colour / colour.std() for colour in colours], axis=-1)
        pixels = np.clip(np.rint(118 + 55 * planes), 0, 255).astype(np.uint8)
        yield Image.fromarray(pixels[:height, :width])


def runner(file: Path) -> Run:
    """Return a function that runs an exported file unchanged, in the library for which it was written."""
    return {".onnx": _onnx, ".xml": _openvino, ".pt2": _torch, ".tflite": _litert}[file.suffix.lower()](file)


def _onnx(file: Path) -> Run:
    session = raw_session(file, optimise=True)
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def _openvino(file: Path) -> Run:
    compiled = compile_graph(read_graph(file), threads=1)
    return lambda images: compiled([images])[0].copy()


def _litert(file: Path) -> Run:
    return run_litert(file, threads=1)


def _torch(file: Path) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a warning of torch.export about its archive format
        net = torch.export.load(file).module()
    return torch_run(net)


def torch_run(net: nn.Module) -> Run:
    """Return a function that runs a module in eval mode on the CPU."""

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = net(torch.from_numpy(images.copy())).numpy()
        return logits

    return run
