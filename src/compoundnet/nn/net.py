"""The torch module of a Network: `build`, and the methods that users of timm and torchvision expect of a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import msgspec
from torch import Tensor, nn

from compoundnet.arch import Network
from compoundnet.base import CompoundNetError
from compoundnet.nn.blocks import Units
from compoundnet.nn.features import FeatureInfo, FeaturePyramid, feature_info
from compoundnet.nn.trunk import Trunk
from compoundnet.nn.units import initialise, initialise_classifier

GlobalPool = Literal["avg", "max", ""]


class ConvNet(Trunk):
    """Stem, stages, head and classifier, as described by `spec`, with the authors' initial weights.

    `forward` takes float[N, in_channels, H, W], of at least 32 px per side, and returns logits float[N, num_classes];
    if num_classes is 0, the inputs of the classifier float[N, head_hidden_size], or the same without a global pool,
    float[N, head_hidden_size, h, w].
    """

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        channels, head, units = network.stages[-1].channels, network.head, Units(network)
        self.head = units.conv(channels, head.channels) if head.channels else None
        self.hidden = units.conv(network.features, head.hidden) if head.hidden else None
        self.dropout = nn.Dropout(network.dropout)
        self.classifier: nn.Module = _classifier(network)
        initialise(self)

    @property
    def num_classes(self) -> int:
        """Length of the logits; 0 without a classifier."""
        return self.spec.num_classes

    @property
    def num_features(self) -> int:
        """Channels of `forward_features`, which reach the global pool."""
        return self.spec.features

    @property
    def head_hidden_size(self) -> int:
        """Inputs of the classifier; other than `num_features` where there is a convolution after the pool."""
        return self.spec.classifier_features

    @property
    def feature_info(self) -> FeatureInfo:
        """The last feature map of each resolution: channels, stride and the module that makes it."""
        return feature_info(self.spec)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature map, float[N, num_features, h, w]: the input of the global pool."""
        x = self._stem(x)
        if self.pool is not None:
            x = self.pool(x)
        for block in self._blocks():
            x = block(x)
        return x if self.head is None else self.head(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits of a feature map, or with `pre_logits` the pooled features before the classifier."""
        pool, keep = self.spec.head.pool, self.hidden is not None
        if pool == "avg":
            x = x.mean((2, 3), keepdim=keep)
        elif pool == "max":
            x = x.amax((2, 3), keepdim=keep)
        if self.hidden is not None:
            x = self.hidden(x)
            x = x if pool == "none" else x.flatten(1)
        x = self.dropout(x)
        return x if pre_logits else self.classifier(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """Return the last layer: a Linear, or an Identity if num_classes is 0."""
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: GlobalPool | None = None) -> None:
        """Make a new classifier with random weights, on the same device; update `spec` and drop the labels.

        Args:
            num_classes: Length of the logits; 0 omits the classifier.
            global_pool: "avg", "max", or "" for none; unchanged by default.

        Raises:
            CompoundNetError: a negative number of classes, or a classifier without a global pool.
        """
        self.spec = _adapted(self.spec, num_classes=num_classes, global_pool=global_pool)
        example = self.stem.conv.weight
        self.classifier = _classifier(self.spec).to(example.device, example.dtype)
        self.labels = None
        initialise_classifier(self.classifier)


@overload
def build(
    network: Network,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    drop_rate: float | None = None,
    drop_path_rate: float | None = None,
    global_pool: GlobalPool | None = None,
    features_only: Literal[False] = False,
    out_indices: None = None,
) -> ConvNet: ...


@overload
def build(
    network: Network,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    drop_rate: float | None = None,
    drop_path_rate: float | None = None,
    global_pool: GlobalPool | None = None,
    features_only: Literal[True],
    out_indices: Sequence[int] | None = None,
) -> FeaturePyramid: ...


@overload
def build(
    network: Network,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    drop_rate: float | None = None,
    drop_path_rate: float | None = None,
    global_pool: GlobalPool | None = None,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
) -> ConvNet | FeaturePyramid: ...


def build(
    network: Network,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    drop_rate: float | None = None,
    drop_path_rate: float | None = None,
    global_pool: GlobalPool | None = None,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
) -> ConvNet | FeaturePyramid:
    """Build the torch module of a network, in training mode, with the authors' initial weights.

    The module's `spec` is the network with the given values in its fields.

    Args:
        network: The network to build.
        num_classes: Length of the logits; 0 omits the classifier.
        in_chans: Channels of the images.
        drop_rate: Dropout before the classifier, a probability; `Network.dropout`.
        drop_path_rate: Stochastic depth, the probability that the deepest block is dropped; 1 - `Network.survival`.
        global_pool: "avg", "max", or "" for none, which needs num_classes=0; `Head.pool`.
        features_only: Whether to build a FeaturePyramid instead of a classifier.
        out_indices: Levels of the pyramid, negative ones from the end; all of them by default.

    Raises:
        CompoundNetError: an impossible value, or `out_indices` without `features_only`.
    """
    network = _adapted(
        network,
        num_classes=num_classes,
        in_channels=in_chans,
        dropout=drop_rate,
        survival=None if drop_path_rate is None else 1 - drop_path_rate,
        global_pool=global_pool,
    )
    if features_only:
        return FeaturePyramid(network, out_indices)
    if out_indices is not None:
        raise CompoundNetError("out_indices picks levels of a feature pyramid; give features_only=True with it")
    return ConvNet(network)


def _adapted(network: Network, *, global_pool: GlobalPool | None, **fields: Any) -> Network:
    """Return the network with other values in the fields that are not None."""
    changed = {name: value for name, value in fields.items() if value is not None}
    if global_pool is not None:
        if global_pool not in ("avg", "max", ""):
            raise CompoundNetError(f'global_pool must be "avg", "max" or "" (none), got {global_pool!r}')
        changed["head"] = msgspec.structs.replace(network.head, pool=global_pool or "none")
    return network.replace(**changed)


def _classifier(network: Network) -> nn.Module:
    return nn.Linear(network.classifier_features, network.num_classes) if network.num_classes else nn.Identity()
