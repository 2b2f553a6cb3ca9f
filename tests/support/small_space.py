"""A search space of 24 ways to choose, whose networks train in about a second."""

from __future__ import annotations

from compoundnet.base import decode_toml
from compoundnet.search.architecture.space import Space

# The first block chooses its operator; the second operator, kernel and skip.
SPACE = """\
name = "tiny"
source = "made up"
blocks = [
    { operators = ["separable", "mbconv"], kernels = [3], se = [0.0], skips = ["identity"], filters = [1.0], layers = [0] },
    { operators = ["separable", "mbconv"], kernels = [3, 5], se = [0.25], skips = ["none", "identity", "pool"], filters = [1.0], layers = [-1] },
]

[operators]
separable = { type = "SeparableConv" }
mbconv = { type = "MBConv", expansion = 2 }

[base]
name = "tiny-base"
resolution = 32
stem = { channels = 8 }
stages = [
    { channels = 8, repeats = 1, stride = 1, block = { type = "MBConv" } },
    { channels = 16, repeats = 2, stride = 2, block = { type = "MBConv" } },
]
head = { channels = 32 }
num_classes = 3
"""  # noqa: E501  # a table of TOML is one line


def small_space() -> Space:
    """SPACE, read."""
    return decode_toml(SPACE, Space, "SPACE")
