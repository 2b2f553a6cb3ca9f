"""The cost of a network, by torch's counter on meta tensors, without storing weights or computing products.

`python -m compoundnet.zoo.counter` writes `measured.toml` anew; a test counts again and compares.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import tomli_w
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from compoundnet.base import write_whole
from compoundnet.zoo.catalogue import builders

HEADER = """\
# Written by `python -m compoundnet.zoo.counter`: trainable parameters, and multiply-adds of convolutions and fully
# connected layers for one image (torch.utils.flop_counter counts two operations each), at the resolution in
# networks.toml and with 1000 classes; `classifier`: how many of the parameters are the last layer's.

"""


class CountedCost(msgspec.Struct, frozen=True):
    """The result of torch's counter.

    Attributes:
        params: Trainable parameters.
        macs: Multiply-adds of convolutions and fully connected layers.
        classifier: Parameters of the last fully connected layer, which `params` includes.
    """

    params: int
    macs: int
    classifier: int


def count(build: Callable[[], nn.Module], resolution: int) -> CountedCost:
    """Count a module in eval mode, for one RGB image.

    Args:
        build: Builds the module; called with the meta device as default.
        resolution: Side of the image, pixels.
    """
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        module = build().eval()
        module(torch.empty(1, 3, resolution, resolution))
    return CountedCost(
        params=_params(module),
        macs=counter.get_total_flops() // 2,
        classifier=_params([part for part in module.modules() if isinstance(part, nn.Linear)][-1]),
    )


def _params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def count_all() -> dict[str, CountedCost]:
    """Count every comparison network; the result is by name."""
    return {name: count(builder.build, builder.resolution) for name, builder in builders().items()}


if __name__ == "__main__":
    document = tomli_w.dumps(msgspec.to_builtins(count_all()))
    write_whole(Path(__file__).with_name("measured.toml"), (HEADER + document).encode())
