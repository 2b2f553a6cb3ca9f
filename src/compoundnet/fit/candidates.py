"""The candidates: pretrained models at hand, at several resolutions and precisions, with their exact costs."""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from compoundnet.arch import Network, cost, scale
from compoundnet.base import CompoundNetError
from compoundnet.fit.bounds import COSTS, BoundedFigure
from compoundnet.fit.limits import Limits
from compoundnet.models import ModelFolder, entries, is_fetched
from compoundnet.models.catalogue import Package

FLOAT = "float32"
# Sides of the input that are tried, up to that of the model. Small steps pay most where images are small: Lite0 on 100
# images a class of CIFAR-10 has 59.0, 65.0, 68.4, 72.2 and 72.6 % at 32, 40, 48, 56 and 64 px after ten epochs.
RESOLUTIONS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 260, 300, 380, 456, 528, 600)
# The highest resolution at which a network may be deployed, as a multiple of that of training.
HIGHEST = 4 / 3
# Bytes of a parameter in an exported file, and of the graph around the parameters; the finished file is measured.
_BYTES = {"float32": 4.0, "int8": 1.06}
_GRAPH = 120_000
# Below this side pretrained features mean little: narrower networks are candidates too if nothing larger fits.
_LEAST_SIDE = 64
# How a network is scaled below a pretrained one: the depth of each shape; its width is the largest that fits.
_DEPTHS = (1.0, 0.6)
_LEAST_WIDTH = 0.1


class Candidate(msgspec.Struct, frozen=True):
    """A model at a resolution and a precision, or a smaller network that inherits its weights.

    Attributes:
        model: The name of the model, or its folder.
        resolution: Side of the input, pixels.
        precision: In which the deployed file is computed.
        params: Parameters, with a classifier of the data's classes.
        macs: Multiply-adds of one image.
        memory_bytes: Peak memory of inference on one image.
        size_bytes: Approximate size of the deployed file.
        sram_bytes: int8 activations on a microcontroller.
        flash_bytes: int8 weights on a microcontroller.
        width: Multiplier of the model's channels; below 1 the network inherits its weights.
        depth: Multiplier of the model's blocks, likewise.
        backend: The backend that runs the deployed file; "" for the first that runs its format.
    """

    model: str
    resolution: int
    precision: str
    params: int
    macs: int
    memory_bytes: int
    size_bytes: int
    sram_bytes: int = 0
    flash_bytes: int = 0
    width: float = 1.0
    depth: float = 1.0
    backend: str = ""

    @property
    def way(self) -> str:
        """How it is computed, as `way_key` writes it."""
        return way_key(self.backend, self.precision)

    @property
    def way_text(self) -> str:
        """How it is computed, in words."""
        return self.way.strip()

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits of the network and its resolution: the same in every way to compute it."""
        return hashlib.sha256(msgspec.json.encode(self.in_precision(FLOAT))).hexdigest()[:8]

    @property
    def key(self) -> str:
        """The name of its training, by the digest."""
        return f"{Path(self.model).name.replace(':', '-')}-{self.resolution}px-{self.digest}"

    @property
    def scaled(self) -> bool:
        """Whether the network is smaller than the model whose weights it starts from."""
        return self.width < 1 or self.depth < 1

    @property
    def shape(self) -> str:
        """The model's name, and the multipliers of a smaller one: `efficientnet-lite0, width 0.5, depth 0.7`."""
        width = f", width {self.width:.2g}" if self.width < 1 else ""
        return f"{self.model}{width}" + (f", depth {self.depth:.2g}" if self.depth < 1 else "")

    def __str__(self) -> str:
        shape = f" of width {self.width:.2g}" if self.width < 1 else ""
        shape += f"{' and' if shape else ' of'} depth {self.depth:.2g}" if self.depth < 1 else ""
        precision = "" if self.precision == FLOAT else f" in {self.precision}"
        backend = f" on {self.backend}" if self.backend else ""
        return f"{self.model}{shape} at {self.resolution} px{precision}{backend}"

    def exceeds(self, limits: Limits) -> str | None:
        """Return in words by what the exact costs exceed a budget; None if they do not."""
        over = [
            f"{bound.text(value)} {bound.amount} are more than {bound.text(limit)}"
            for bound, value, limit in self._over(limits)
        ]
        return "; ".join(over) or None

    def admitted_by(self, limits: Limits) -> str:
        """Return the options that would admit it, for the bounds of a budget that its exact costs exceed."""
        return " ".join(f"{bound.option} {bound.typed(_rounded_up(value))}" for bound, value, _ in self._over(limits))

    def _over(self, limits: Limits) -> Iterator[tuple[BoundedFigure, float, float]]:
        """Yield the bound of each exact cost that exceeds it, with the cost and the limit."""
        for bound in COSTS:
            value, limit = bound.of(self), getattr(limits, bound.name)
            if limit is not None and value > limit:
                yield bound, value, limit

    def network(self, base: Network) -> Network:
        """Return the network, of the model's own network."""
        shaped = scale(base, width=self.width, depth=self.depth) if self.scaled else base
        return shaped.replace(resolution=self.resolution)

    def in_precision(self, precision: str, backend: str = "") -> Candidate:
        """Return the same network in another precision, on another backend."""
        size = int(self.params * _BYTES.get(precision, _BYTES[FLOAT])) + _GRAPH
        return msgspec.structs.replace(self, precision=precision, size_bytes=size, backend=backend)


def way_key(backend: str, precision: str) -> str:
    """Return a way to compute a network as the ratios of a fit name it: backend and precision."""
    return f"{backend} {precision}"


def way_of(key: str) -> tuple[str, str]:
    """Return backend and precision of a way, from `way_key`."""
    backend, _, precision = key.partition(" ")
    return backend, precision


def _rounded_up(value: float) -> float:
    """The next number of two significant digits."""
    step: float = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / step) * step


def models_at_hand() -> list[str]:
    """Return the names of the catalogue's models that need no download: fetched before, or in an installed package."""
    return [
        entry.name
        for entry in entries()
        if is_fetched(entry) or (isinstance(entry.source, Package) and _is_installed(entry.source))
    ]


def _is_installed(package: Package) -> bool:
    return importlib.util.find_spec(package.file.partition("/")[0]) is not None


def find_candidates(
    models: Mapping[str, ModelFolder], chosen: Mapping[str, int], classes: int, limits: Limits
) -> list[tuple[Candidate, str | None]]:
    """Return the candidates, each with what it exceeds of the limits (None: nothing), the most promising first.

    These are the resolutions that training would choose by the images; then come those nearest to them. A model whose
    file would be too large in float32 is a candidate in int8, as is every one for a microcontroller. Where no candidate
    of at least 64 px fits, smaller networks are candidates that inherit the weights of the smallest model.

    Args:
        models: The models, by name.
        chosen: The resolution that training would choose for each.
        classes: The classes of the data.
        limits: The budget.

    Raises:
        CompoundNetError: There are no models.
    """
    if not models:
        raise CompoundNetError(
            "no pretrained model is at hand: `pip install 'compoundnet[pretrained]'` installs three, `compoundnet"
            " models fetch NAME` gets one of the hub, and --candidate takes a folder"
        )
    found = []
    for name, model in models.items():
        for resolution in resolutions_of(model):
            candidate = in_fitting_precision(measured(name, model.network, resolution, classes), limits)
            found.append((abs(math.log(resolution / chosen[name])), candidate.macs, candidate))
    listed = [candidate for *_, candidate in sorted(found, key=lambda one: one[:2])]
    if not any(wide_enough(candidate, chosen) for candidate in listed if candidate.exceeds(limits) is None):
        listed += scaled_candidates(models, chosen, classes, limits)
    return [(candidate, candidate.exceeds(limits)) for candidate in listed]


def wide_enough(candidate: Candidate, chosen: Mapping[str, int]) -> bool:
    """Return whether the resolution is one at which pretrained features mean something."""
    return candidate.resolution >= min(_LEAST_SIDE, chosen[candidate.model])


def resolutions_of(model: ModelFolder) -> list[int]:
    """Return the resolutions at which a model is tried, from low to high."""
    own = model.preprocess.size
    return sorted({*(side for side in RESOLUTIONS if side < own), own})


def scaled_candidates(
    models: Mapping[str, ModelFolder], chosen: Mapping[str, int], classes: int, limits: Limits
) -> list[Candidate]:
    """Return networks within the budget that are scaled down from the smallest model, at some resolutions.

    The width is the largest that fits the exact costs, at the model's depth and at a smaller one.

    Args:
        models: The models, by name.
        chosen: The resolution that training would choose for each.
        classes: The classes of the data.
        limits: The budget; its latency is not looked at, so it may be given as multiply-adds.
    """
    name = smallest_model(models)
    base = models[name].network
    found: list[Candidate] = []
    for resolution in dict.fromkeys(_steps_down(resolutions_of(models[name]), chosen[name])):
        for depth in _DEPTHS:
            width = _largest_width(name, base, resolution, depth, classes, limits)
            if width is not None:
                found.append(_shaped(name, base, resolution, classes, limits, width, depth))
    return list(dict.fromkeys(candidate for candidate in found if candidate.scaled))


def smallest_candidate(
    models: Mapping[str, ModelFolder], chosen: Mapping[str, int], classes: int, limits: Limits
) -> Candidate:
    """Return the smallest network that `scaled_candidates` would return within any budget; arguments as there."""
    name = smallest_model(models)
    side = min(_steps_down(resolutions_of(models[name]), chosen[name]))
    return _shaped(name, models[name].network, side, classes, limits, _LEAST_WIDTH, min(_DEPTHS))


def smallest_model(models: Mapping[str, ModelFolder]) -> str:
    """Return the name of the model with the fewest parameters."""
    return min(models, key=lambda name: cost(models[name].network).params)


def _steps_down(resolutions: list[int], chosen: int) -> Iterator[int]:
    """Yield the chosen resolution, and about half and a third of it."""
    for part in (1.0, 0.5, 0.33):
        yield min(resolutions, key=lambda side: abs(math.log(side / (part * chosen))))


def _largest_width(
    name: str, base: Network, resolution: int, depth: float, classes: int, limits: Limits
) -> float | None:
    def fits(width: float) -> bool:
        return _shaped(name, base, resolution, classes, limits, width, depth).exceeds(limits) is None

    if not fits(_LEAST_WIDTH):
        return None
    if fits(1.0):
        return 1.0
    low, high = _LEAST_WIDTH, 1.0
    while high - low > 0.005:
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return round(low, 3) if fits(round(low, 3)) else low


def _shaped(
    name: str, base: Network, resolution: int, classes: int, limits: Limits, width: float, depth: float
) -> Candidate:
    return in_fitting_precision(measured(name, base, resolution, classes, width, depth), limits)


def in_fitting_precision(candidate: Candidate, limits: Limits) -> Candidate:
    """Return a candidate in int8 where it would be too large in float32, or is for a microcontroller."""
    too_large = limits.max_size is not None and candidate.size_bytes > limits.max_size
    return candidate.in_precision("int8") if too_large or limits.microcontroller else candidate


def measured(
    name: str, base: Network, resolution: int, classes: int, width: float = 1.0, depth: float = 1.0
) -> Candidate:
    """Return a candidate in float32 with its exact costs.

    Args:
        name: The name of the model.
        base: Its network.
        resolution: Side of the input, pixels.
        classes: The classes of the data.
        width: Multiplier of the model's channels.
        depth: Multiplier of its blocks.
    """
    bare = Candidate(name, resolution, FLOAT, 0, 0, 0, 0, width=width, depth=depth)
    found = cost(bare.network(base).replace(num_classes=classes))
    costed = msgspec.structs.replace(
        bare, params=found.params, macs=found.macs, memory_bytes=found.memory_bytes, sram_bytes=found.sram_bytes,
        flash_bytes=found.flash_bytes,
    )  # fmt: skip
    return costed.in_precision(FLOAT)
