"""The budget of a fit: bounds on what the answer may cost, given by hand or by the profile of a device."""

from __future__ import annotations

import math
import os

import msgspec

from compoundnet.base import CompoundNetError, format_bytes, format_count
from compoundnet.base.values import read_toml
from compoundnet.fit.bounds import BOUNDS, COSTS, LATENCY, BoundedFigure

# The accuracy, a fraction, that int8 may lose and still be as good as float32, unless `max_drop` says.
LITTLE = 0.01
# The part of a limit of latency that a network may take before it is trained and exported: it may take longer then.
SAFE = 0.97
_NAMES = tuple(bound.name for bound in BOUNDS)


class Limits(msgspec.Struct, frozen=True):
    """A budget; None leaves a figure free.

    Attributes:
        max_latency: Milliseconds of one image on this machine, the median of repeated calls.
        max_size: Bytes of the deployed file.
        max_macs: Multiply-adds of one image.
        max_params: Parameters.
        max_memory: Bytes of inference at its peak.
        max_sram: Bytes of int8 activations on a microcontroller.
        max_flash: Bytes of int8 weights on a microcontroller.
        min_accuracy: The fraction that suffices: the cheapest that reaches it is the answer.
        max_drop: The fraction of the images by which a reduced precision may be less accurate than float32. None: any,
            if what would be the answer otherwise is less accurate.
        device: The name of the device whose profile gave bounds; "" if none did.
    """

    max_latency: float | None = None
    max_size: float | None = None
    max_macs: float | None = None
    max_params: float | None = None
    max_memory: float | None = None
    max_sram: float | None = None
    max_flash: float | None = None
    min_accuracy: float | None = None
    max_drop: float | None = None
    device: str = ""

    def __post_init__(self) -> None:
        for name in _NAMES:
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise CompoundNetError(f"{name} must be a number above 0, got {value}")
        if self.min_accuracy is not None and not 0 < self.min_accuracy < 1:
            raise CompoundNetError(f"min_accuracy must be a fraction between 0 and 1, got {self.min_accuracy:g}")
        if self.max_drop is not None and not 0 <= self.max_drop < 1:
            raise CompoundNetError(f"max_drop must be a fraction from 0 to below 1, got {self.max_drop:g}")

    @property
    def microcontroller(self) -> bool:
        """Whether a bound is one of int8 on a microcontroller, so that the answer is computed in int8."""
        return self.max_sram is not None or self.max_flash is not None

    def within(self, others: Limits) -> Limits:
        """Return the tighter of both bounds for each figure, with the device of the others."""
        tighter = {}
        for name in _NAMES:
            given = [value for value in (getattr(self, name), getattr(others, name)) if value is not None]
            tighter[name] = min(given, default=None)
        return msgspec.structs.replace(self, **tighter, device=others.device)

    def times(self, factor: float) -> Limits:
        """Return the budget with every bound multiplied."""
        larger = {name: None if (value := getattr(self, name)) is None else factor * value for name in _NAMES}
        return msgspec.structs.replace(self, **larger)

    def text(self) -> str:
        """Return the budget in words."""
        words = [
            f"{self.max_latency:g} ms an image" if self.max_latency is not None else "",
            f"a file of {format_bytes(self.max_size)}" if self.max_size is not None else "",
            f"{format_count(self.max_macs)} multiply-adds" if self.max_macs is not None else "",
            f"{format_count(self.max_params)} parameters" if self.max_params is not None else "",
            f"{format_bytes(self.max_memory)} of memory" if self.max_memory is not None else "",
            f"{format_bytes(self.max_sram)} of SRAM in int8" if self.max_sram is not None else "",
            f"{format_bytes(self.max_flash)} of flash in int8" if self.max_flash is not None else "",
        ]
        bounds = ", ".join(filter(None, words))
        device = f" ({self.device})" if self.device and bounds else ""
        wanted = f"at least {self.min_accuracy:.1%}" if self.min_accuracy is not None else ""
        return "; ".join(filter(None, (f"at most {bounds}{device}" if bounds else "", wanted))) or "no limits"


class DeviceProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a device allows, as a TOML file says it. Quantities are numbers or texts such as "320kB", "30ms", "50M".

    Attributes:
        name: The name of the device.
        max_latency: The time of one image on the device; needs `ns_per_mac`.
        ns_per_mac: Nanoseconds of a multiply-add on the device.
        max_size: Bytes of the deployed file.
        max_macs: Multiply-adds of one image.
        max_params: Parameters.
        max_memory: Bytes of inference at its peak.
        max_sram: Bytes of int8 activations.
        max_flash: Bytes of int8 weights.
    """

    name: str
    max_latency: str | None = None
    ns_per_mac: float | None = None
    max_size: str | float | None = None
    max_macs: str | float | None = None
    max_params: str | float | None = None
    max_memory: str | float | None = None
    max_sram: str | float | None = None
    max_flash: str | float | None = None


def read_device(path: str | os.PathLike[str]) -> Limits:
    """Read the bounds of a device profile.

    A latency of the device becomes a bound on multiply-adds, by the profile's nanoseconds for each.

    Raises:
        CompoundNetError: The file cannot be read, a field is missing or unknown, or it holds no bound.
    """
    profile = read_toml(path, DeviceProfile)
    bounds: dict[str, float] = {}
    for bound in COSTS:
        bounds |= _quantity(path, bound, getattr(profile, bound.name))
    if profile.max_latency is not None:
        if profile.ns_per_mac is None:
            raise CompoundNetError(
                f"{path}: max_latency is a time on {profile.name}, and the field ns_per_mac, which predicts it from"
                " multiply-adds, is missing: add it, such as ns_per_mac = 5.0, or leave max_latency out"
            )
        if not profile.ns_per_mac > 0:
            raise CompoundNetError(f"{path}: ns_per_mac must be above 0, got {profile.ns_per_mac:g}")
        (latency,) = _quantity(path, LATENCY, profile.max_latency).values()
        macs = latency * 1e6 / profile.ns_per_mac
        bounds["max_macs"] = min(macs, bounds.get("max_macs", macs))
    if not bounds:
        raise CompoundNetError(
            f"{path} holds no bound: give one or more of {', '.join(_NAMES)} (max_latency with ns_per_mac)"
        )
    return Limits(**bounds, device=profile.name)


def _quantity(path: object, bound: BoundedFigure, value: str | float | None) -> dict[str, float]:
    """Return a field of a device profile by its name, or nothing if it is left out."""
    if value is None:
        return {}
    try:
        return {bound.name: float(bound.parse(value) if isinstance(value, str) else value)}
    except CompoundNetError as error:
        raise CompoundNetError(f"{path}: {bound.name}: {error}") from error


def drops(drop: float, limit: float) -> bool:
    """Return whether an accuracy drops by more than is allowed; both are fractions, which floats hold inexactly."""
    return drop > limit + 1e-9
