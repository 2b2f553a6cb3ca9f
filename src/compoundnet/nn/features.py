"""The feature maps of a network at every resolution: their description, and the module that returns them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from torch import Tensor

from compoundnet.arch import Head, Network, Stage
from compoundnet.base import CompoundNetError
from compoundnet.nn.trunk import Trunk
from compoundnet.nn.units import initialise


class FeatureLevel(TypedDict):
    """One feature map, under timm's names.

    Attributes:
        num_chs: Channels.
        reduction: Stride with respect to the image, pixels.
        module: The submodule that computes the map; its name also works with torchvision's `create_feature_extractor`.
    """

    num_chs: int
    reduction: int
    module: str


class FeatureInfo(tuple[FeatureLevel, ...]):
    """A network's feature maps, finest first, as dicts; `channels()` and the other methods work as in timm."""

    def channels(self) -> list[int]:
        """Return the channels of each map."""
        return [level["num_chs"] for level in self]

    def reduction(self) -> list[int]:
        """Return the stride of each map with respect to the image, in pixels."""
        return [level["reduction"] for level in self]

    def module_name(self) -> list[str]:
        """Return the name of the submodule that computes each map."""
        return [level["module"] for level in self]

    def get_dicts(self) -> list[FeatureLevel]:
        """Return the maps as a list of dicts."""
        return list(self)


def feature_info(network: Network) -> FeatureInfo:
    """Return the last feature map of each resolution."""
    modules = _modules(network)
    shapes = [(network.stem.channels, network.stem.stride)]
    for stage in network.stages:
        shapes += [(stage.channels, 1 if repeat else stage.stride) for repeat in range(stage.repeats)]
    levels, reduction = [], 1
    for index, (channels, stride) in enumerate(shapes):
        reduction *= stride
        pooled = index == 0 and network.stem.pool == "max"
        if pooled or index + 1 == len(shapes) or shapes[index + 1][1] > 1:
            levels.append(FeatureLevel(num_chs=channels, reduction=reduction, module=modules[index]))
        if pooled:
            reduction *= 2
    return FeatureInfo(levels)


def _modules(network: Network) -> list[str]:
    """Return the names of the modules that compute a feature map: the stem and each block."""
    stages = enumerate(network.stages)
    return ["stem", *(f"stages.{index}.{repeat}" for index, stage in stages for repeat in range(stage.repeats))]


class FeaturePyramid(Trunk):
    """The feature maps before each change of resolution, finest first; `feature_info` describes them.

    `forward` takes float[N, in_channels, H, W] and returns a list of float[N, channels, ceil(H / stride),
    ceil(W / stride)]. Stages after the last requested map are not built. Parameters have the same names as in the
    classifier, so its weights load with `strict=False`.

    Args:
        network: The network; its head and classifier are omitted.
        out_indices: Indices of the maps, negative ones from the end; all of them by default.

    Raises:
        CompoundNetError: There is no map for an index.
    """

    def __init__(self, network: Network, out_indices: Sequence[int] | None = None) -> None:
        levels = feature_info(network)
        chosen = FeatureInfo(levels[index] for index in _chosen(len(levels), out_indices))
        modules = _modules(network)
        self._kept = [modules.index(module) for module in chosen.module_name()]
        super().__init__(_shortened(network, max(self._kept)))
        self.feature_info = chosen
        initialise(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self._stem(x)
        maps = {0: x}
        if self.pool is not None:
            x = self.pool(x)
        for index, block in enumerate(self._blocks(), start=1):
            x = block(x)
            if index in self._kept:
                maps[index] = x
        return [maps[index] for index in self._kept]


def _chosen(count: int, out_indices: Sequence[int] | None) -> list[int]:
    wanted = list(range(count)) if out_indices is None else list(out_indices)
    if not wanted or any(not -count <= index < count for index in wanted):
        raise CompoundNetError(f"out_indices must be one or more of 0 to {count - 1}, got {wanted}")
    return wanted


def _shortened(network: Network, deepest: int) -> Network:
    """Return stem and stages up to the one that computes map `deepest`, without head and classifier."""
    stages: list[Stage] = []
    made = 0
    for stage in network.stages:
        if made >= deepest and stages:
            break
        stages.append(stage)
        made += stage.repeats
    # Survival falls over all blocks of the whole network, even if the deeper ones are omitted.
    survival = 1 - (1 - network.survival) * made / network.blocks
    return network.replace(stages=tuple(stages), head=Head(), num_classes=0, survival=survival)
