"""measured.toml holds what torch's counter says today, and that counter counts as the paper does."""

from __future__ import annotations

import pytest
from torch import nn

from compoundnet import zoo
from compoundnet.zoo.counter import CountedCost, count

SLOW = ("densenet-264", "polynet", "nasnet-a", "amoebanet-a", "amoebanet-c")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in zoo.entries()]
)
def test_the_recorded_cost_is_what_torch_counts(name: str) -> None:
    network = zoo.network(name)
    assert count(network.build, network.resolution) == CountedCost(network.params, network.macs, network.classifier)


def test_a_grouped_convolution_is_counted_for_its_groups_and_a_norm_not_at_all() -> None:
    # 10 px: 3x3 at stride 1, padded, 3 -> 6 channels in 3 groups; depthwise at stride 2; norm, ReLU and pool are free.
    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, groups=3),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=6, bias=False),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 7),
        )

    grouped, depthwise, linear = 10 * 10 * 6 * 9 * 1, 5 * 5 * 6 * 9 * 1, 6 * 7
    params = (6 * 9 + 6) + 2 * 6 + 6 * 9 + (6 * 7 + 7)
    assert count(build, 10) == CountedCost(params, grouped + depthwise + linear, 6 * 7 + 7)
