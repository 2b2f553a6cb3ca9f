"""The first stages of a network, which training may leave as they were loaded.

They hold few of the weights and take much of the time of a step, because their maps are the largest.
"""

from __future__ import annotations

from itertools import accumulate
from operator import mul

from compoundnet.arch import Network
from compoundnet.arch.segments import segments
from compoundnet.nn import ConvNet

# Maps of a quarter of the image's side and larger are those of early stages.
_EARLY = 4


def freeze_stages(net: ConvNet, count: int) -> None:
    """Let the stem and the first stages stay as they are: without gradients, and in eval mode.

    So their batch norms keep their statistics, and none of their blocks is dropped by stochastic depth.

    Args:
        net: The network.
        count: The number of stages; with 0 the stem is trained too.
    """
    if count:
        for part in (net.stem, *net.stages[:count]):
            part.requires_grad_(False).eval()


def early_stages(network: Network) -> int:
    """Return the number of the stages whose maps have at least a quarter of the side of the image.

    Of a network that has no others, the last is not counted.
    """
    pooled = 2 if network.stem.pool == "max" else 1
    strides = accumulate((stage.stride for stage in network.stages), mul, initial=network.stem.stride * pooled)
    return sum(stride <= _EARLY for stride in list(strides)[1:-1])


def trained_share(network: Network, count: int) -> float:
    """Return the fraction of the multiply-adds that is in trained layers if so many stages are frozen."""
    runs = segments(network)
    macs = [run.repeats * run.group.macs for run in runs]
    trained = [value for run, value in zip(runs, macs, strict=True) if not count or run.stage >= count]
    return sum(trained) / sum(macs)
