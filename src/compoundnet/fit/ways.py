"""The ways to compute a deployed file on this machine, backends and precisions, and how fast each is."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from compoundnet.base import CompoundNetError, did_you_mean, make_folder
from compoundnet.base.images import UnreadableImageError
from compoundnet.data import Dataset, Split
from compoundnet.fit.candidates import FLOAT, Candidate, way_key, way_of
from compoundnet.models import ModelFolder
from compoundnet.runtime import Embedder, export, session
from compoundnet.runtime.backends.precisions import runnable
from compoundnet.runtime.exports.formats import FORMATS
from compoundnet.runtime.timing.rounds import Latency, time_rounds

# Calls that are timed at the least and at the most, and the milliseconds that they are to cover: over a shorter time
# other work on the machine would decide.
_LEAST_RUNS, _MOST_RUNS, _WARM_UP, _WINDOW = 10, 100, 3, 500.0
# The spread, as a fraction of the median, that other work hardly causes, and how often it is tried to get there.
_STEADY, _REPEATS = 0.2, 5
# Images that calibrate int8: some for the file by which only the time is compared, and enough for that of the answer.
_FEW, _ENOUGH = 8, 200
_INT8 = "int8"
# The format whose first way, ONNX Runtime in float32, is that in which the screen times candidates.
SCREENED = "onnx"


def other_ways(form: str) -> list[tuple[str, str]]:
    """Return the pairs of backend and precision that run a format here, besides the first in float32.

    What loses no accuracy comes first.
    """
    found = [
        ("" if place == 0 else backend, precision)
        for place, (backend, precisions) in enumerate(_able(form).items())
        for precision in precisions
        if (place, precision) != (0, FLOAT)
    ]
    return sorted(found, key=lambda way: (way[1] != FLOAT, way[1] == _INT8))


def check_format(form: str) -> None:
    """Raise CompoundNetError if there is no such format, a library for it is missing, or nothing here runs it."""
    if form not in FORMATS:
        timed = [name for name, known in FORMATS.items() if known.runs]
        raise CompoundNetError(f"there is no format {form!r}{did_you_mean(form, timed)}")
    if not FORMATS[form].runs:
        raise CompoundNetError(
            f"nothing on this machine runs the format {form}, so it cannot be timed here: take another, and"
            f" `compoundnet export BEST -o BEST{FORMATS[form].suffix}` afterwards"
        )
    FORMATS[form].check_installed()


def _able(form: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for backend, precision in runnable():
        if backend.in_auto and FORMATS[form].suffix in backend.formats:
            found.setdefault(backend.name, []).append(precision)
    return found


def file_precision(precision: str) -> str:
    """Return the precision of the file that is computed in a precision: only int8 is one of files."""
    return _INT8 if precision == _INT8 else FLOAT


def compare_ways(
    model: ModelFolder,
    resolution: int,
    dataset: Dataset,
    form: str,
    threads: int,
    ways: Sequence[tuple[str, str]] | None = None,
) -> dict[str, float]:
    """Return the time of a model's network in the ways of a format, as a fraction of that of the screen.

    Args:
        model: The model.
        resolution: Side of the input, pixels.
        dataset: The data, whose training images calibrate.
        form: The format of the file.
        threads: Threads of the network.
        ways: Pairs of backend and precision; by default all, but ONNX Runtime in float32, which the screen times.

    Returns:
        The fraction by backend and precision, as `Candidate.way` writes them.
    """
    model = model.at_resolution(resolution)
    image, calls = noise(resolution), dict[str, Callable[[], object]]()
    files: dict[str, Path] = {}
    with tempfile.TemporaryDirectory() as scratch:
        calls[""] = functools.partial(Embedder(model).open(threads), image)
        for backend, precision in _timed_ways(form) if ways is None else ways:
            kind = file_precision(precision)
            if kind not in files:
                files[kind] = Path(scratch) / f"{kind}{FORMATS[form].suffix}"
                images = calibration_images(dataset.split("train"), Path(scratch), _FEW) if kind == _INT8 else None
                export(
                    model, files[kind],
                    format=form, precision=kind, calibrate=images, to_nearest=kind == _INT8,
                )  # fmt: skip
            run = session(files[kind], backend=backend or None, precision=precision, threads=threads)
            calls[way_key(backend, precision)] = functools.partial(run, image)
        timed = time_calls(calls)
    screened = timed.pop("").median
    return {way: found.median / screened for way, found in timed.items()}


def network_latency(embedder: Embedder, threads: int) -> float:
    """Return the milliseconds of one image in float32 on ONNX Runtime, the median: what the screen times."""
    run, image = embedder.open(threads), noise(embedder.preprocess.size)
    return time_calls({"": lambda: run(image)})[""].median


def _timed_ways(form: str) -> list[tuple[str, str]]:
    return other_ways(form) if form == SCREENED else [("", FLOAT), *other_ways(form)]


def time_calls(calls: Mapping[str, Callable[[], object]]) -> dict[str, Latency]:
    """Time calls in rounds, as many as take half a second, within limits.

    If the times vary much, other work on the machine slowed some: then they are timed again, a few times, and the
    rounds with the lowest medians count.
    """
    runs = rounds_within(calls, _WINDOW)
    best: dict[str, Latency] = {}
    for _ in range(_REPEATS):
        timed = time_rounds(calls, runs=runs, warm_up=0)
        best = {name: min(found, best.get(name, found), key=_median) for name, found in timed.items()}
        if max(found.spread for found in timed.values()) <= _STEADY:
            break
    return best


def rounds_within(calls: Mapping[str, Callable[[], object]], milliseconds: float) -> int:
    """Run calls for the first times, and return how many rounds take so long, within limits."""
    first = time_rounds(calls, runs=1, warm_up=_WARM_UP)
    runs = round(milliseconds / max(1e-3, *(found.median for found in first.values())))
    return min(_MOST_RUNS, max(_LEAST_RUNS, runs))


def _median(found: Latency) -> float:
    return found.median


def faster_way(candidate: Candidate, latency: float, limit: float, ratios: dict[str, float]) -> Candidate | None:
    """Return the candidate in the way that is predicted to meet a limit and loses least; None if there is none.

    Args:
        candidate: The candidate in float32.
        latency: The milliseconds of its network, as the screen times it.
        limit: The limit.
        ratios: From `compare_ways`.
    """
    for way, ratio in ratios.items():
        if way != candidate.way and latency * ratio <= limit:
            backend, precision = way_of(way)
            return candidate.in_precision(precision, backend)
    return None


def calibration_images(images: Split, folder: Path, most: int = _ENOUGH) -> Path:
    """Write some images of a split, evenly spaced, as PNG files, and return their folder."""
    target = make_folder(folder / "calibration")
    for index in np.linspace(0, len(images) - 1, min(most, len(images)), dtype=int):
        try:
            images.image(int(index)).save(target / f"{index}.png")
        except UnreadableImageError:  # screening has named it
            continue
    return target


def noise(resolution: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return an image of noise float32[1, 3, resolution, resolution], for timing."""
    return np.random.default_rng(0).standard_normal((1, 3, resolution, resolution), dtype=np.float32)
