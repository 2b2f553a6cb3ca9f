"""The candidates: pretrained models at hand, at several resolutions and precisions, with their exact costs."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from typing import Literal

import msgspec

from compoundnet.arch import cost, inference_memory
from compoundnet.base import CompoundNetError, format_bytes, format_count
from compoundnet.models import ModelFolder, entries, is_fetched, open_folder
from compoundnet.models.catalogue import Package

Precision = Literal["float32", "int8"]
# Sides of the input that are tried, up to that of the model: pretrained features mean little below.
RESOLUTIONS = (64, 96, 128, 160, 192, 224, 260, 300, 380, 456, 528, 600)
# Bytes of a parameter in an exported file, and of the graph around the parameters; the finished file is measured.
_BYTES = {"float32": 4.0, "int8": 1.06}
_GRAPH = 120_000


class Limits(msgspec.Struct, frozen=True):
    """A budget; None leaves a figure free.

    Attributes:
        max_latency: Milliseconds of one image on this machine, the median of repeated calls.
        max_size: Bytes of the deployed file.
        max_macs: Multiply-adds of one image.
        max_params: Parameters.
        max_memory: Bytes of inference at its peak.
        min_accuracy: The fraction that suffices: the cheapest that reaches it is the answer.
    """

    max_latency: float | None = None
    max_size: float | None = None
    max_macs: float | None = None
    max_params: float | None = None
    max_memory: float | None = None
    min_accuracy: float | None = None

    def __post_init__(self) -> None:
        if self.min_accuracy is not None and not 0 < self.min_accuracy < 1:
            raise CompoundNetError(f"min_accuracy must be a fraction between 0 and 1, got {self.min_accuracy:g}")

    def text(self) -> str:
        """Return the budget in words."""
        words = [
            f"{self.max_latency:g} ms an image" if self.max_latency is not None else "",
            f"a file of {format_bytes(self.max_size)}" if self.max_size is not None else "",
            f"{format_count(self.max_macs)} multiply-adds" if self.max_macs is not None else "",
            f"{format_count(self.max_params)} parameters" if self.max_params is not None else "",
            f"{format_bytes(self.max_memory)} of memory" if self.max_memory is not None else "",
        ]
        bounds = ", ".join(filter(None, words))
        wanted = f"at least {self.min_accuracy:.1%}" if self.min_accuracy is not None else ""
        return "; ".join(filter(None, (f"at most {bounds}" if bounds else "", wanted))) or "no limits"


class Candidate(msgspec.Struct, frozen=True):
    """A pretrained model at a resolution and a precision.

    Attributes:
        model: The name of the model, or its folder.
        resolution: Side of the input, pixels.
        precision: Of the deployed file.
        params: Parameters, with a classifier of the data's classes.
        macs: Multiply-adds of one image.
        memory_bytes: Peak memory of inference on one image.
        size_bytes: Approximate size of the deployed file.
    """

    model: str
    resolution: int
    precision: Precision
    params: int
    macs: int
    memory_bytes: int
    size_bytes: int

    def __str__(self) -> str:
        return f"{self.model} at {self.resolution} px" + (
            "" if self.precision == "float32" else f" in {self.precision}"
        )

    def exceeds(self, limits: Limits) -> str | None:
        """Return in words by what the exact costs exceed a budget; None if they do not."""
        over = [
            f"{shown(value)} {what} are more than {shown(limit)}"
            for what, value, limit, shown in (
                ("multiply-adds", self.macs, limits.max_macs, format_count),
                ("parameters", self.params, limits.max_params, format_count),
                ("of memory", self.memory_bytes, limits.max_memory, format_bytes),
                ("of file", self.size_bytes, limits.max_size, format_bytes),
            )
            if limit is not None and value > limit
        ]
        return "; ".join(over) or None


def models_at_hand() -> list[str]:
    """Return the names of the catalogue's models that need no download: fetched before, or in an installed package."""
    return [
        entry.name
        for entry in entries()
        if is_fetched(entry) or (isinstance(entry.source, Package) and _is_installed(entry.source))
    ]


def _is_installed(package: Package) -> bool:
    return importlib.util.find_spec(package.file.partition("/")[0]) is not None


def find_candidates(models: Mapping[str, int], classes: int, limits: Limits) -> list[tuple[Candidate, str | None]]:
    """Return the candidates, each with what it exceeds of the limits (None: nothing), the most promising first.

    These are the resolutions that training would choose by the images; then come those nearest to them. A model whose
    file would be too large in float32 is a candidate in int8.

    Args:
        models: Names, folders or `hf-hub:` addresses, each with the resolution that training would choose.
        classes: The classes of the data.
        limits: The budget.

    Raises:
        CompoundNetError: There are no models, or one cannot be opened.
    """
    if not models:
        raise CompoundNetError(
            "no pretrained model is at hand: `pip install 'compoundnet[pretrained]'` installs three, `compoundnet"
            " models fetch NAME` gets one of the hub, and --candidate takes a folder"
        )
    found = []
    for name, chosen in models.items():
        model = open_folder(name)
        for resolution in sorted({*(side for side in RESOLUTIONS if side < model.preprocess.size),
                                  model.preprocess.size}):  # fmt: skip
            candidate = _candidate(name, model, resolution, classes, "float32")
            if limits.max_size is not None and candidate.size_bytes > limits.max_size:
                candidate = _candidate(name, model, resolution, classes, "int8")
            found.append((abs(math.log(resolution / chosen)), candidate.macs, candidate, candidate.exceeds(limits)))
    return [(candidate, excess) for *_, candidate, excess in sorted(found, key=lambda one: one[:2])]


def _candidate(name: str, model: ModelFolder, resolution: int, classes: int, precision: Precision) -> Candidate:
    network = model.network.replace(num_classes=classes, resolution=resolution)
    found = cost(network)
    size = int(found.params * _BYTES[precision]) + _GRAPH
    return Candidate(name, resolution, precision, found.params, found.macs, inference_memory(network), size)
