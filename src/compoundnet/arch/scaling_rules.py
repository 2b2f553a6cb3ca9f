"""Rules of scaling: how one exponent, phi, is distributed over depth, width and resolution (Eq. 3 and its successors).

`compound` is the paper's rule, `fast` that of Dollar et al., `tiny` TinyNet's for networks smaller than the baseline;
the numbers of the last are in tiny_rule.toml. One's own coefficients are a rule too.
"""

from __future__ import annotations

import itertools
import math
from functools import cache
from importlib import resources
from typing import ClassVar

import msgspec

from compoundnet.arch.scaling import MAX_MULTIPLIER, scale
from compoundnet.arch.spec import MIN_RESOLUTION, Network, Scaling
from compoundnet.base.errors import CompoundNetError, did_you_mean
from compoundnet.base.values import check

PHI_RANGE = 40.0  # 2^40 times the multiply-adds exceeds any machine
_MAX_PLANNED = 1e5  # pixels
WIDTH_SHARE = 0.8  # a of fast scaling, its authors' choice
_COMPOUND = "Tan & Le 2019 (arXiv:1905.11946), section 4"
_FAST = "Dollár et al. 2021 (arXiv:2103.06877), section 4"
_TINY = "Han et al. 2020 (arXiv:2010.14819)"
# Depth, width and resolution, as factors of the baseline's.
Multipliers = tuple[float, float, float]


class Coefficients(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The coefficients of Eq. 3; the defaults are the paper's result for EfficientNet-B0 (section 4, STEP 1).

    Attributes:
        alpha: Factor of the depth for one step of phi.
        beta: Factor of the width.
        gamma: Factor of the resolution.
    """

    alpha: float = 1.2
    beta: float = 1.1
    gamma: float = 1.15

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "gamma"):
            value = getattr(self, name)
            check(math.isfinite(value) and value >= 1, f"{name} must be at least 1 (Eq. 3), got {value}")

    @property
    def growth(self) -> float:
        """alpha * beta^2 * gamma^2: the factor of the multiply-adds for one step of phi; 2 in Eq. 3."""
        return self.alpha * self.beta**2 * self.gamma**2

    def multipliers(self, phi: float) -> Multipliers:
        """Return (depth, width, resolution) = (alpha^phi, beta^phi, gamma^phi).

        Raises:
            CompoundNetError: phi is not a number between -100 and 100.
        """
        _check_phi(phi)
        return self.alpha**phi, self.beta**phi, self.gamma**phi


class FoundCoefficients(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A file of coefficients: the result of a search, or written by hand.

    Attributes:
        alpha: As in Eq. 3.
        beta: As in Eq. 3.
        gamma: As in Eq. 3.
        network: The baseline for which they were found; None if the file does not state it.
        about: The data on which they were found, and their uncertainty.
    """

    alpha: float
    beta: float
    gamma: float
    network: Network | None = None
    about: str = ""

    def __post_init__(self) -> None:
        Coefficients(self.alpha, self.beta, self.gamma)

    @property
    def coefficients(self) -> Coefficients:
        return Coefficients(self.alpha, self.beta, self.gamma)


class ScalingRule(msgspec.Struct, frozen=True):
    """The base of all rules. One step of phi multiplies the multiply-adds by about 2.

    Attributes:
        name: The name of the rule.
        about: What it scales, in a few words.
        source: Where it comes from.
        only_smaller: Whether phi may not exceed 0.
    """

    name: str
    about: str
    source: str
    only_smaller: ClassVar[bool] = False

    def multipliers(self, phi: float) -> Multipliers:
        """Return the factors of depth, width and resolution.

        Raises:
            CompoundNetError: phi is not a number between -100 and 100, or above 0 where the rule only shrinks.
        """
        raise NotImplementedError

    def phi_range(self, network: Network, /) -> tuple[float, float]:
        """Return the lowest and the highest phi that give networks which `scale` can make."""
        raise NotImplementedError


class CoefficientRule(ScalingRule, frozen=True):
    """Depth, width and resolution grow as powers of alpha, beta and gamma (Eq. 3)."""

    coefficients: Coefficients

    def multipliers(self, phi: float) -> Multipliers:
        return self.coefficients.multipliers(phi)

    def phi_range(self, network: Network, /) -> tuple[float, float]:
        found = self.coefficients
        low, high = -PHI_RANGE, PHI_RANGE
        if found.gamma > 1:
            low = max(low, math.log(MIN_RESOLUTION / network.resolution) / math.log(found.gamma))
        most = (MAX_MULTIPLIER, MAX_MULTIPLIER, _MAX_PLANNED / network.resolution)
        for factor, limit in zip((found.alpha, found.beta, found.gamma), most, strict=True):
            if factor > 1:
                high = min(high, math.log(limit) / math.log(factor))
        # Rounded inwards: the powers of these exponents must not exceed what `scale` takes.
        return math.ceil(low * 1e4) / 1e4, math.floor(high * 1e4) / 1e4


class TinyRule(ScalingRule, frozen=True):
    """Multipliers interpolated between published small networks, from the baseline down.

    phi is log2(depth * width^2 * resolution^2). Repeats are rounded to the nearest whole number, as TinyNet's are.

    Attributes:
        points: The multipliers of those networks, from the largest down, beginning with the baseline's (1, 1, 1).
    """

    only_smaller: ClassVar[bool] = True
    points: tuple[Multipliers, ...]

    def multipliers(self, phi: float) -> Multipliers:
        _check_phi(phi)
        if phi > 0:
            raise CompoundNetError(
                f"the rule {self.name} only makes networks smaller: phi must be at most 0, got {phi:g}; use compound or"
                " fast"
            )
        for upper, lower in itertools.pairwise(self.points):
            top, bottom = _log_cost(upper), _log_cost(lower)
            if phi >= bottom:
                share = (top - phi) / (top - bottom)
                depth, width, resolution = (a ** (1 - share) * b**share for a, b in zip(upper, lower, strict=True))
                return depth, width, resolution
        # depth * width^2 * resolution^2 has five factors, which share the rest alike.
        factor: float = 2 ** ((phi - _log_cost(self.points[-1])) / 5)
        depth, width, resolution = (factor * value for value in self.points[-1])
        return depth, width, resolution

    def phi_range(self, _: Network, /) -> tuple[float, float]:
        return -PHI_RANGE, 0.0


class _TinyPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    depth: float
    width: float
    resolution: int


class _TinyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    base_resolution: int
    points: tuple[_TinyPoint, ...]


@cache
def known_rules() -> dict[str, ScalingRule]:
    """Return the rules that are known by name."""
    found = (CoefficientRule("compound", "all three dimensions", _COMPOUND, Coefficients()), fast_scaling(), _tiny())
    return {rule.name: rule for rule in found}


def fast_scaling(width_share: float = WIDTH_SHARE) -> CoefficientRule:
    """Return a rule of the family of fast scaling (Dollar et al. 2021).

    Args:
        width_share: Their a, the share of the growth that width takes, from 0 to 1: alpha is 2^((1 - a) / 2), beta
            2^(a / 2) and gamma 2^((1 - a) / 4). 1/3 grows all three dimensions alike; 0.8 is their choice.

    Raises:
        CompoundNetError: `width_share` is not between 0 and 1.
    """
    if not 0 <= width_share <= 1:
        raise CompoundNetError(f"the share of width in fast scaling must be between 0 and 1, got {width_share:g}")
    coefficients = Coefficients(2 ** ((1 - width_share) / 2), 2 ** (width_share / 2), 2 ** ((1 - width_share) / 4))
    name = "fast" if width_share == WIDTH_SHARE else f"fast-{width_share:.4g}"
    return CoefficientRule(name, "mainly width: fewer activations", _FAST, coefficients)


def own_rule(coefficients: Coefficients, about: str = "") -> CoefficientRule:
    """Return the rule of one's own coefficients, named `coefficients`."""
    return CoefficientRule("coefficients", about or "your coefficients", "yours", coefficients)


def find_rule(rule: ScalingRule | Coefficients | str) -> ScalingRule:
    """Return a rule by its name, or of coefficients.

    Raises:
        CompoundNetError: there is no rule of that name.
    """
    if isinstance(rule, ScalingRule):
        return rule
    if isinstance(rule, Coefficients):
        return own_rule(rule)
    known = known_rules()
    if rule not in known:
        raise CompoundNetError(f"there is no scaling rule named {rule!r}{did_you_mean(rule, known)}")
    return known[rule]


def scale_by(network: Network, rule: ScalingRule | Coefficients | str, phi: float) -> Network:
    """Scale a network by a rule and its exponent.

    Args:
        network: The baseline.
        rule: The rule, its name, or coefficients of Eq. 3.
        phi: The exponent; one step multiplies the multiply-adds by about 2. Negative values shrink.

    Raises:
        CompoundNetError: there is no such rule, or phi gives an impossible resolution.
    """
    rule = find_rule(rule)
    depth, width, factor = rule.multipliers(phi)
    pixels = scaled_resolution(network, rule, phi)
    if not MIN_RESOLUTION <= pixels <= 1e6:
        raise CompoundNetError(
            f"phi {phi:g} gives a resolution of {network.resolution * factor:.4g} px; it must lie between"
            f" {MIN_RESOLUTION} and a million"
        )
    if isinstance(rule, TinyRule):
        network = network.replace(rules=msgspec.structs.replace(network.rules, depth_rounding="nearest"))
    label = "" if rule.name in ("compound", "coefficients") else f"{rule.name}-"
    named = f"{network.name}-{label}phi{phi:.4g}"
    scaled = scale(network, depth=depth, width=width, resolution=pixels, name=named)
    return scaled.replace(scaling=Scaling(base=network.name, depth=depth, width=width, resolution=factor))


def scaled_resolution(network: Network, rule: ScalingRule, phi: float) -> int:
    """Return the side in pixels that a rule gives a network at this exponent, possible or not."""
    pixels = round(network.resolution * rule.multipliers(phi)[2])
    return max(pixels, MIN_RESOLUTION) if isinstance(rule, TinyRule) else pixels


def compound(network: Network, phi: float, coefficients: Coefficients | None = None) -> Network:
    """Scale a network by one coefficient (Eq. 3): `scale_by` with the rule of the paper.

    Args:
        network: The baseline.
        phi: The exponent; one step multiplies the multiply-adds by about 2. Negative values shrink.
        coefficients: alpha, beta and gamma, which distribute the growth; the paper's by default.

    Raises:
        CompoundNetError: phi gives an impossible resolution.
    """
    return scale_by(network, coefficients or "compound", phi)


@cache
def _tiny() -> TinyRule:
    content = resources.files("compoundnet.arch").joinpath("tiny_rule.toml").read_bytes()
    file = msgspec.toml.decode(content, type=_TinyFile)
    points = [(one.depth, one.width, one.resolution / file.base_resolution) for one in file.points]
    return TinyRule("tiny", "less width, then less resolution", _TINY, ((1.0, 1.0, 1.0), *points))


def _log_cost(multipliers: Multipliers) -> float:
    depth, width, resolution = multipliers
    return math.log2(depth * width**2 * resolution**2)


def _check_phi(phi: float) -> None:
    if not math.isfinite(phi) or abs(phi) > 100:
        raise CompoundNetError(f"phi must be a number between -100 and 100, got {phi}")
