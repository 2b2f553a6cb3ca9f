"""The parts of a network by hand: what their fields may be, what they are by default, and what they are called."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import pytest

from compoundnet import arch, base
from compoundnet.arch.blocks import BlockShape, squeeze_channels
from compoundnet.base import limits

B0 = arch.network("efficientnet-b0")
SHAPE = BlockShape(16, 24)


@pytest.mark.parametrize(
    ("make", "valid", "invalid", "message"),
    [
        (lambda value: arch.Stem(channels=value), [1, 10**9], [0, -1], "channels must be at least 1"),
        (lambda value: arch.Stem(stride=value), [1, 4], [0, 5], "stride must be between 1 and 4"),
        (lambda value: arch.Stem(kernel=value), [1, 3, 31], [0, -1, 2, 32, 33], "kernel must be odd and between 1 and"),
        (lambda value: arch.Stage(arch.MBConv(), value), [1], [0], "channels must be at least 1"),
        (lambda value: arch.Stage(arch.MBConv(), 8, repeats=value), [1, 10**9], [0], "repeats must be at least 1"),
        (lambda value: arch.Stage(arch.MBConv(), 8, stride=value), [1, 4], [0, 5], "stride must be between 1 and 4"),
        (lambda value: arch.Head(channels=value), [0, 1], [-1], "channels must be 0"),
        (lambda value: arch.Head(hidden=value), [0, 1], [-1], "hidden must be 0"),
        (lambda value: arch.Norm(eps=value), [1e-30, 2.0], [0.0, -1e-3], "eps must be above 0"),
        (lambda value: arch.Norm(momentum=value), [1e-9, 1.0], [0.0, 1.01, -0.1], "momentum must be above 0"),
        (lambda value: arch.Rules(channel_divisor=value), [1, 64], [0], "channel_divisor must be at least 1"),
        (lambda value: arch.Rules(max_channel_loss=value), [0.0, 1.0], [-0.01, 1.01], "max_channel_loss is a part"),
        (lambda value: B0.replace(resolution=value), [32, 10**6], [31], "resolution must be at least 32 px"),
        (lambda value: B0.replace(dropout=value), [0.0, 0.99], [1.0, -0.01], "dropout must be at least 0 and below 1"),
        (lambda value: B0.replace(survival=value), [0.01, 1.0], [0.0, 1.01], "survival must be above 0"),
        (lambda value: B0.replace(in_channels=value), [1], [0], "in_channels must be at least 1"),
        (lambda value: B0.replace(num_classes=value), [0, 1], [-1], "num_classes must be 0"),
        (lambda value: B0.replace(stages=B0.stages[:value]), [1], [0], "stages must hold at least one stage"),
        (lambda value: B0.replace(name=value), ["a", "A.b_c+d-1"], ["", "-a", "a b", "a/b"], "name may hold letters"),
        (lambda value: arch.MBConv(expansion=value), [1, 64], [0, 65], "expansion must be between 1 and 64"),
        (lambda value: arch.MBConv(se=value), [0.0, 1.0], [-0.01, 1.01], "se is a ratio from 0"),
        (lambda value: arch.FusedMBConv(expansion=value), [1, 64], [0, 65], "expansion must be between 1 and 64"),
        (lambda value: arch.UIB(start=value), [0, 1, 31], [-1, 2, 33], "start must be 0"),
        (lambda value: arch.UIB(middle=value), [0, 1, 31], [-1, 2, 33], "middle must be 0"),
        (lambda value: arch.UIB(expansion=value), [1, 64], [0, 65], "expansion must be between 1 and 64"),
        (lambda value: arch.Bottleneck(ratio=value), [0.01, 4.0], [0.0, 4.01], "ratio must be above 0"),
        (lambda value: arch.Bottleneck(groups=value), [1, 64], [0], "groups must be at least 1"),
    ],
)  # fmt: skip
def test_the_limits_of_a_field(
    make: Callable[[object], object], valid: Sequence[object], invalid: Sequence[object], message: str
) -> None:
    for value in valid:
        make(value)
    for value in invalid:
        with pytest.raises(base.CompoundNetError, match=message):
            make(value)


def test_defaults_are_those_of_efficientnet() -> None:
    """Files leave out what is the default, so a change of one changes the networks in them."""
    assert arch.Stem() == arch.Stem(channels=32, kernel=3, stride=2, pool="none")
    assert arch.Norm() == arch.Norm(eps=1e-3, momentum=0.01)
    assert arch.Head() == arch.Head(channels=0, pool="avg", hidden=0)
    assert arch.MBConv() == arch.MBConv(kernel=3, expansion=6, se=0.25)
    assert arch.FusedMBConv() == arch.FusedMBConv(kernel=3, expansion=4, se=0.0, expands="input")
    assert arch.UIB() == arch.UIB(start=0, middle=3, expansion=4)
    assert arch.SeparableConv() == arch.SeparableConv(kernel=3, se=0.0)
    assert arch.ConvBlock() == arch.ConvBlock(kernel=3, se=0.0)
    assert arch.BasicBlock() == arch.BasicBlock(kernel=3)
    assert arch.Bottleneck() == arch.Bottleneck(kernel=3, ratio=0.25, groups=1)
    stage = arch.Stage(arch.MBConv(), 8)
    assert (stage.repeats, stage.stride, stage.skip, stage.joined) == (1, 1, True, False)
    rules = arch.Rules()
    assert (rules.channel_divisor, rules.max_channel_loss, rules.depth_rounding) == (8, 0.1, "up")
    assert not (rules.fix_stem or rules.fix_head or rules.fix_end_repeats)
    assert not (rules.stem_grows_only or rules.head_grows_only)
    plain = arch.Network("n", 32, arch.Stem(), (stage,))
    assert (plain.dropout, plain.survival, plain.in_channels, plain.num_classes) == (0.0, 1.0, 3, 1000)
    assert arch.Scaling("base") == arch.Scaling("base", depth=1.0, width=1.0, resolution=1.0)
    assert arch.LatencyModel() == arch.LatencyModel(macs=0.0, activations=0.0, params=0.0, layers=0.0)


def test_stem_and_head_widen_by_the_rules() -> None:
    for part in ("stem", "head"):
        for field, narrow, wide in (("", 0.5, 2.0), (f"{part}_grows_only", 1.0, 2.0), (f"fix_{part}", 1.0, 1.0)):
            rules = msgspec.structs.replace(arch.Rules(), **({field: True} if field else {}))
            found = rules.stem_width if part == "stem" else rules.head_width
            assert (found(0.5), found(2.0)) == (narrow, wide), field


def test_a_linear_head_has_an_average_pool_and_nothing_before_the_classifier() -> None:
    assert B0.has_linear_head
    assert not B0.replace(head=arch.Head(channels=1280, pool="max")).has_linear_head
    assert not B0.replace(head=arch.Head(channels=1280, hidden=64)).has_linear_head
    assert not B0.replace(num_classes=0).has_linear_head and B0.replace(num_classes=1).has_linear_head
    with pytest.raises(base.CompoundNetError, match="without a global pool num_classes must be 0, got 1000"):
        B0.replace(head=arch.Head(pool="none"))
    assert B0.replace(head=arch.Head(pool="none"), num_classes=0).features == 320
    assert (B0.features, B0.classifier_features, B0.blocks) == (1280, 1280, 16)
    assert B0.replace(head=arch.Head(channels=1280, hidden=64)).classifier_features == 64


def test_what_is_built_has_limits_and_costs_have_none() -> None:
    def repeated(count: int) -> arch.Network:
        return B0.replace(stages=(msgspec.structs.replace(B0.stages[0], repeats=count),))

    repeated(limits.BLOCKS).check_size()
    with pytest.raises(base.CompoundNetError, match="has 2,001 blocks, and 2,000 are the limit"):
        repeated(limits.BLOCKS + 1).check_size()
    most = limits.CHANNELS
    layers: tuple[Callable[[int], arch.Network], ...] = (
        lambda count: B0.replace(num_classes=count),
        lambda count: B0.replace(in_channels=count),
        lambda count: B0.replace(stem=arch.Stem(channels=count)),
        lambda count: B0.replace(head=arch.Head(channels=count)),
        lambda count: B0.replace(stages=(msgspec.structs.replace(B0.stages[0], channels=count),)),
        lambda count: B0.replace(stages=(arch.Stage(arch.Bottleneck(groups=count), 64),)),
    )
    for widened in layers:
        widened(most).check_size()
        with pytest.raises(base.CompoundNetError, match="has a layer of 1,000,001 channels, and 1,000,000 are"):
            widened(most + 1).check_size()


@pytest.mark.parametrize(
    ("block", "title"),
    [
        (arch.MBConv(), "MBConv6, k3x3"),
        (arch.MBConv(kernel=5, expansion=1, se=0), "MBConv1, k5x5, no SE"),
        (arch.FusedMBConv(), "FusedMBConv4, k3x3"),
        (arch.FusedMBConv(se=0.25), "FusedMBConv4, k3x3, SE"),
        (arch.UIB(3, 5), "UIB4 ExtraDW, k3x3 k5x5"),
        (arch.UIB(3, 0), "UIB4 ConvNext, k3x3"),
        (arch.UIB(0, 5, 2), "UIB2 IB, k5x5"),
        (arch.UIB(0, 0), "UIB4 FFN"),
        (arch.SeparableConv(), "SeparableConv, k3x3"),
        (arch.ConvBlock(5, 0.5), "Conv, k5x5, SE"),
        (arch.BasicBlock(), "BasicBlock, k3x3"),
        (arch.Bottleneck(), "Bottleneck, k3x3"),
        (arch.Bottleneck(groups=2), "Bottleneck, k3x3, 2 groups"),
    ],
)
def test_titles(block: arch.MBConv, title: str) -> None:
    assert block.title == title


def test_channels_inside_a_block_by_hand() -> None:
    assert squeeze_channels(16, 0.25) == 4 and squeeze_channels(2, 0.25) == 1 and squeeze_channels(2, 0.0) == 0
    assert arch.FusedMBConv(expansion=4).middle_channels(SHAPE) == 64
    assert arch.FusedMBConv(expansion=4, expands="output").middle_channels(SHAPE) == 96
    assert arch.FusedMBConv(expansion=1).middle_channels(SHAPE) == 24
    assert arch.FusedMBConv(expansion=2).middle_channels(SHAPE) == 32
    assert arch.Bottleneck().middle_channels(256) == 64
    assert arch.Bottleneck(ratio=0.5, groups=32).middle_channels(256) == 128
    assert arch.Bottleneck(groups=8).middle_channels(8) == 8, "at least one for each group"
    assert arch.Bottleneck(ratio=0.3).middle_channels(10) == 3


def test_skips_by_hand() -> None:
    block = arch.MBConv()
    assert block.skip_kind(BlockShape(16, 16)) == "identity"
    assert block.skip_kind(BlockShape(16, 16, 2)) == "none"
    assert block.skip_kind(BlockShape(16, 24)) == "none"
    assert block.skip_kind(BlockShape(16, 16, 1, False)) == "none"
    assert block.skip_kind(BlockShape(16, 16, 2, "pool")) == block.skip_kind(BlockShape(16, 16, 1, "pool")) == "pooled"
    assert block.skip_kind(BlockShape(16, 24, 1, "pool")) == "none"
    assert arch.BasicBlock().skip_kind(BlockShape(16, 16)) == "none", "it has its own"
    assert BlockShape(16, 16).preserved and not BlockShape(16, 16, 2).preserved and not BlockShape(16, 24).preserved


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (arch.MBConv(se=0), "expand.act depthwise.act"),
        (arch.MBConv(expansion=1, se=0), "depthwise.act"),
        (arch.FusedMBConv(), "expand.act"),  # the projection is linear
        (arch.FusedMBConv(expansion=2), "expand.act"),
        (arch.FusedMBConv(expansion=1), "expand.act"),
        (arch.UIB(3, 5), "expand.act middle.act"),  # the first depthwise convolution is linear too
        (arch.UIB(3, 0), "expand.act"),
        (arch.SeparableConv(), "depthwise.act pointwise.act"),
        (arch.ConvBlock(), "conv.act"),
        (arch.BasicBlock(), "first.act act"),
        (arch.Bottleneck(), "reduce.act spatial.act act"),
    ],
)
def test_activations_of_a_block(block: arch.MBConv, expected: str) -> None:
    network = arch.Network("n", 32, arch.Stem(16), (arch.Stage(block, 24),), num_classes=0)
    names = [layer.name.removeprefix("stages.0.0.") for layer in arch.unroll(network) if layer.kind == "activation"]
    assert " ".join(names[1:]) == expected, "after that of the stem"


def test_a_pooled_skip_has_a_kernel_of_3_and_takes_the_blocks_input() -> None:
    stage = arch.Stage(arch.MBConv(), 16, stride=2, skip="pool")
    layers = arch.unroll(arch.Network("n", 32, arch.Stem(16), (stage,), num_classes=0))
    (pool,) = (layer for layer in layers if layer.kind == "maxpool")
    entry = next(index for index, layer in enumerate(layers) if layer.name.startswith("stages.")) - 1
    assert pool.kernel == 3 and pool.inputs == (entry,)


def test_a_latency_is_a_sum_over_what_is_counted() -> None:
    counts = {"macs": arch.cost(B0).macs, "activations": arch.cost(B0).activations, "params": arch.cost(B0).params}
    for name, count in counts.items():
        assert arch.LatencyModel(**{name: 2e-9}).milliseconds(B0) == pytest.approx(2e-9 * count)
    layers = len(arch.unroll(B0))
    assert arch.LatencyModel(layers=0.5).milliseconds(B0) == pytest.approx(0.5 * layers)
    whole = arch.LatencyModel(macs=1e-9, activations=1e-7, params=1e-8, layers=1e-3)
    assert whole.milliseconds(B0) == whole.milliseconds(B0, arch.cost(B0))
    assert whole.milliseconds(B0) == pytest.approx(
        1e-9 * counts["macs"] + 1e-7 * counts["activations"] + 1e-8 * counts["params"] + 1e-3 * layers
    )
    for name in ("macs", "activations", "params", "layers"):
        with pytest.raises(ValueError, match=f"{name} must be at least 0 ms each"):
            arch.LatencyModel(**{name: -1e-9})
