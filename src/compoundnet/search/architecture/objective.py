"""The reward of a network: ACC(m) * [MACS(m) / T]^w (MnasNet, Eq. 2; EfficientNet, section 4)."""

from __future__ import annotations

import math

import msgspec

from compoundnet.base import CompoundNetError, check, format_count
from compoundnet.search.architecture.space import Space, macs

# The paper's w: "a hyperparameter for controlling the trade-off between accuracy and FLOPS".
EXPONENT = -0.07


class Objective(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The reward.

    Attributes:
        target_macs: T, the multiply-adds of one image for which the reward equals the accuracy.
        exponent: w. With -0.07, doubling the multiply-adds must raise accuracy by 5 % (relative); 0 ignores the cost.
    """

    target_macs: float
    exponent: float = EXPONENT

    def __post_init__(self) -> None:
        check(
            math.isfinite(self.target_macs) and self.target_macs > 0,
            f"the target must be multiply-adds above 0, got {self.target_macs:g}",
        )
        check(
            math.isfinite(self.exponent) and -10 <= self.exponent <= 0,
            f"the exponent must be from -10 to 0 (above 0, cost would be rewarded), got {self.exponent:g}",
        )

    def reward(self, accuracy: float, cost: float) -> float:
        """Return the reward of an accuracy (a fraction) and a cost (multiply-adds of one image)."""
        factor: float = (cost / self.target_macs) ** self.exponent
        return accuracy * factor

    def check_meets(self, space: Space) -> None:
        """Raise CompoundNetError if even the smallest network of the space exceeds the target."""
        smallest = space.smallest()
        if macs(smallest) > self.target_macs:
            raise CompoundNetError(
                f"no network of the space {space.name} meets the target of {format_count(self.target_macs)}"
                f" multiply-adds: the smallest has {format_count(macs(smallest))} at {smallest.resolution} px. Give a"
                " higher target, a lower resolution, or a narrower space"
            )
