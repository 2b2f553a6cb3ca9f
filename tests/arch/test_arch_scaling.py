"""Scaling: the authors' rounding rules, Eq. 3, and what is impossible."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import networks

from compoundnet import arch, base
from compoundnet.arch.scaling import round_channels, round_repeats

B0 = arch.network("efficientnet-b0")


def authors_round_filters(filters: int, width: float) -> int:
    """efficientnet_model.py: round_filters with divisor 8, as published."""
    wanted = filters * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return int(rounded + 8 if rounded < 0.9 * wanted else rounded)


@pytest.mark.parametrize("width", [1.1, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2, 4.3])
@pytest.mark.parametrize("channels", [16, 24, 32, 40, 80, 112, 192, 320, 1280])
def test_channels_round_as_the_authors_do(channels: int, width: float) -> None:
    assert round_channels(channels, width, arch.Rules()) == authors_round_filters(channels, width)


@pytest.mark.parametrize("depth", [1.1, 1.2, 1.4, 1.8, 2.2, 2.6, 3.1, 3.6, 5.3])
@pytest.mark.parametrize("repeats", [1, 2, 3, 4])
def test_repeats_round_up_as_the_authors_do(repeats: int, depth: float) -> None:
    assert round_repeats(repeats, depth, arch.Rules()) == math.ceil(depth * repeats)


def test_binary_noise_does_not_round() -> None:
    assert round_repeats(10, 1.1, arch.Rules()) == 11  # 1.1 * 10 is 11.000000000000002
    assert round_channels(40, 0.5, arch.Rules(channel_divisor=16, max_channel_loss=0.2)) == 16  # loses 0.2, no more
    assert round_channels(40, 0.7, arch.Rules()) == 32  # 0.7 * 40 is 27.999999999999996, which would give 24


@given(
    channels=st.integers(1, 2000),
    width=st.floats(0.01, 8),
    step=st.floats(0, 1),
    divisor=st.sampled_from([1, 2, 4, 8, 16]),
)
def test_channels_grow_with_width_and_never_lose_ten_percent(
    channels: int, width: float, step: float, divisor: int
) -> None:
    rules = arch.Rules(channel_divisor=divisor)
    if width == 1.0 or width + step == 1.0:
        return
    small, large = round_channels(channels, width, rules), round_channels(channels, width + step, rules)
    assert small <= large
    assert small >= 0.9 * channels * width - 1e-6
    assert small % divisor == 0


@pytest.mark.parametrize(
    ("phi", "resolution"), [(0.5, 240), (1, 258), (3.5, 365), (5, 451), (6, 518), (7, 596), (-1, 195), (-3, 147)]
)
def test_compound_resolution_is_the_nearest_pixel(phi: float, resolution: int) -> None:
    assert arch.compound(B0, phi).resolution == resolution


def test_paper_coefficients_nearly_double() -> None:
    assert arch.Coefficients().growth == pytest.approx(1.92, abs=0.002)
    assert arch.Coefficients().multipliers(1) == pytest.approx((1.2, 1.1, 1.15))
    for phi in range(5):
        ratio = arch.cost(arch.compound(B0, phi + 1)).macs / arch.cost(arch.compound(B0, phi)).macs
        assert 1.6 < ratio < 2.6  # rounding of channels and repeats is coarse on a small network


def test_phi_zero_is_the_baseline() -> None:
    same = arch.compound(B0, 0)
    assert same.replace(name=B0.name, scaling=None) == B0


def test_published_b3_by_its_multipliers() -> None:
    b3 = arch.scale(B0, depth=1.4, width=1.2, resolution=300)
    published = arch.network("efficientnet-b3")
    assert b3.replace(name=published.name, dropout=published.dropout) == published


def test_a_scaled_network_remembers_its_base() -> None:
    scaled = arch.scale(B0, depth=1.4, width=1.2, resolution=300)
    assert scaled.scaling is not None
    assert (scaled.scaling.base, scaled.scaling.depth, scaled.scaling.width) == ("efficientnet-b0", 1.4, 1.2)
    assert scaled.scaling.resolution == pytest.approx(300 / 224)


def test_resolution_as_factor_or_pixels() -> None:
    assert arch.scale(B0, resolution=1.3).resolution == 291
    assert arch.scale(B0, resolution=2).resolution == 448
    assert arch.scale(B0, resolution=300).resolution == 300


def test_shrinking() -> None:
    small = arch.scale(B0, depth=0.5, width=0.25, resolution=32)
    assert [stage.repeats for stage in small.stages] == [1, 1, 1, 2, 2, 2, 1]
    assert small.stages[0].channels == 8
    assert arch.cost(small).params < 1_000_000


@pytest.mark.parametrize(
    ("depth", "repeats"),
    [
        (1.0, [1, 4, 1]),
        (1.5, [2, 6, 1]),  # 9 in 1 : 4 : 1
        (2.0, [2, 8, 2]),
        (0.5, [1, 1, 1]),
        (0.1, [1, 1, 1]),  # of no stage less than one
    ],
)
def test_depth_multiplies_a_group_of_joined_stages_as_a_whole(depth: float, repeats: list[int]) -> None:
    small = arch.network("mobilenet-v4-conv-small")
    group = small.groups[2]
    assert [small.stages[index].repeats for index in group] == [1, 4, 1]
    scaled = arch.scale(small, depth=depth)
    assert sorted(scaled.stages[index].repeats for index in group) == sorted(repeats)
    assert sum(scaled.stages[index].repeats for index in group) == max(3, math.ceil(6 * depth))


@given(networks, st.floats(0.01, 30), st.floats(0, 10))
def test_more_depth_never_takes_a_block_from_a_stage(network: arch.Network, depth: float, more: float) -> None:
    less, deeper = (arch.scale(network, depth=one) for one in (depth, depth + more))
    assert all(a.repeats <= b.repeats for a, b in zip(less.stages, deeper.stages, strict=True))


@given(networks, st.integers(1, 12))
def test_a_whole_depth_multiplies_every_stage(network: arch.Network, depth: int) -> None:
    network = network.replace(rules=msgspec.structs.replace(network.rules, fix_end_repeats=False))
    scaled = arch.scale(network, depth=depth)
    assert [stage.repeats for stage in scaled.stages] == [depth * stage.repeats for stage in network.stages]


@pytest.mark.parametrize(
    ("width", "params"),
    [(0.5, 2_238_952), (0.35, 1_905_384)],  # timm's mobilenetv4_conv_small_050 and _035
)
def test_narrow_mobilenet_v4_keeps_its_stem_and_what_follows_the_pool(width: float, params: int) -> None:
    narrow = arch.scale(arch.network("mobilenet-v4-conv-small"), width=width)
    assert (narrow.stem.channels, narrow.head.hidden) == (32, 1280)
    assert narrow.head.channels == 960 * width
    assert arch.cost(narrow).params == params


def test_mobilenet_v2_head_grows_only() -> None:
    v2 = arch.network("mobilenet-v2")
    assert arch.scale(v2, width=0.5).head.channels == 1280
    assert arch.scale(v2, width=1.4).head.channels == 1792


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 0}, "depth must be a number above 0, got 0"),
        ({"width": -1.0}, "width must be a number above 0, got -1"),
        ({"width": math.nan}, "width must be a number above 0, got nan"),
        ({"resolution": math.inf}, "resolution must be a number above 0, got inf"),
        ({"resolution": 16}, "between 32 px and a million, got 16 px"),
        ({"resolution": 0.1}, "got 22 px"),
        ({"resolution": 100.5}, "whole number, got 100.5"),
    ],
)
def test_impossible_scales(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(base.CompoundNetError, match=message):
        arch.scale(B0, **arguments)  # type: ignore[arg-type]  # a dict of floats, no name among them


@pytest.mark.parametrize("phi", [math.nan, math.inf, 1000.0, -20.0])
def test_impossible_phi(phi: float) -> None:
    with pytest.raises(base.CompoundNetError, match="phi"):
        arch.compound(B0, phi)


def test_coefficients_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match=r"beta must be at least 1 \(Eq. 3\), got 0.9"):
        arch.Coefficients(beta=0.9)


@given(networks, st.floats(0.3, 3), st.floats(0.3, 3))
def test_any_network_scales_and_keeps_its_kind(network: arch.Network, depth: float, width: float) -> None:
    scaled = arch.scale(network, depth=depth, width=width, resolution=64)
    assert [stage.block for stage in scaled.stages] == [stage.block for stage in network.stages]
    assert [stage.stride for stage in scaled.stages] == [stage.stride for stage in network.stages]
    assert arch.cost(scaled).macs > 0


def test_fast_scaling_is_a_family() -> None:
    """Dollar et al.: a = 0.8 is theirs; 1/3 grows depth, width^2 and resolution^2 alike."""
    fast = arch.known_rules()["fast"]
    assert isinstance(fast, arch.CoefficientRule)
    assert fast.multipliers(1) == pytest.approx((2**0.1, 2**0.4, 2**0.05))
    for share in (0, 1 / 3, 0.5, 0.8, 1):
        assert arch.fast_scaling(share).coefficients.growth == pytest.approx(2)
    assert arch.fast_scaling(1 / 3).multipliers(1) == pytest.approx((2 ** (1 / 3), 2 ** (1 / 6), 2 ** (1 / 6)))
    for outside in (-0.5, 1.5):
        with pytest.raises(base.CompoundNetError, match=f"between 0 and 1, got {outside}"):
            arch.fast_scaling(outside)


@pytest.mark.parametrize(
    ("depth", "width", "pixels"),
    [(1.2, 1, 192), (1.1, 0.75, 188), (0.85, 0.54, 184), (0.695, 0.54, 152), (0.6, 0.51, 106)],
)
def test_the_tiny_rule_meets_the_published_networks(depth: float, width: float, pixels: int) -> None:
    phi = math.log2(depth * width**2 * (pixels / 224) ** 2)
    found = arch.scale_by(B0, "tiny", phi)
    assert arch.known_rules()["tiny"].multipliers(phi) == pytest.approx((depth, width, pixels / 224))
    assert found.resolution == pixels
    assert [stage.repeats for stage in found.stages] == [max(1, round(stage.repeats * depth)) for stage in B0.stages]


@given(st.floats(-20, 0))
def test_the_tiny_rule_keeps_the_formula_of_the_width(phi: float) -> None:
    depth, width, resolution = arch.known_rules()["tiny"].multipliers(phi)
    assert width == pytest.approx(math.sqrt(2**phi / (depth * resolution**2)))


def test_the_tiny_rule_begins_at_the_baseline() -> None:
    tiny = arch.known_rules()["tiny"]
    assert tiny.multipliers(0) == pytest.approx((1, 1, 1))
    # Halfway to TinyNet-A, on a logarithmic scale.
    first = math.log2(1.2 * (192 / 224) ** 2)
    assert tiny.multipliers(first / 2) == pytest.approx((math.sqrt(1.2), 1, math.sqrt(192 / 224)))


def test_the_range_of_phi_by_hand() -> None:
    """Resolutions from 32 to 100,000 px, a million times the depth or width, and 2^40 times the cost at the most."""
    double = arch.CoefficientRule("a", "", "", arch.Coefficients(1, 1, 2))
    low, high = double.phi_range(B0)
    assert low == math.ceil(math.log2(32 / 224) * 1e4) / 1e4
    assert high == math.floor(math.log2(1e5 / 224) * 1e4) / 1e4
    assert arch.known_rules()["compound"].phi_range(B0)[1] == 40
    for coefficients in (arch.Coefficients(2, 1, 1), arch.Coefficients(1, 2, 1)):
        million = math.floor(math.log2(1e6) * 1e4) / 1e4
        assert arch.CoefficientRule("a", "", "", coefficients).phi_range(B0) == (-40, million)
    assert arch.known_rules()["tiny"].phi_range(B0) == (-40, 0)


def test_phi_lies_between_minus_100_and_100() -> None:
    tiny, compound = arch.known_rules()["tiny"], arch.known_rules()["compound"]
    assert compound.multipliers(100)[0] == pytest.approx(1.2**100)
    assert all(value > 0 for value in tiny.multipliers(-100))
    for rule, phi in ((compound, 100.5), (tiny, -100.5), (compound, float("nan"))):
        with pytest.raises(base.CompoundNetError, match=f"between -100 and 100, got {phi}"):
            rule.multipliers(phi)


def test_ones_own_coefficients_are_a_rule() -> None:
    mine = arch.Coefficients(1.3, 1.1, 1.1)
    assert arch.own_rule(mine).about == "your coefficients"
    rule = arch.own_rule(mine, "found on flowers")
    assert (rule.about, rule.name, rule.coefficients) == ("found on flowers", "coefficients", mine)
    assert arch.scale_by(B0, mine, 1).name == arch.scale_by(B0, rule, 1).name == "efficientnet-b0-phi1"
    assert arch.scale_by(B0, "fast", 1).name == "efficientnet-b0-fast-phi1"


def test_impossible_rules() -> None:
    with pytest.raises(base.CompoundNetError, match=r"no scaling rule named 'fats'; did you mean fast[?]$"):
        arch.scale_by(B0, "fats", 1)
    with pytest.raises(base.CompoundNetError, match="tiny only makes networks smaller: phi must be at most 0, got 1"):
        arch.scale_by(B0, "tiny", 1)


def test_the_limits_of_multipliers_and_resolutions() -> None:
    network = arch.network("efficientnet-b0")

    def deep(depth: float) -> arch.Network:
        return arch.scale(network, depth=depth)

    def wide(width: float) -> arch.Network:
        return arch.scale(network, width=width)

    for name, scaled in (("depth", deep), ("width", wide)):
        scaled(1e6)
        with pytest.raises(base.CompoundNetError, match="must be at most a million"):
            scaled(1e6 + 0.5)
        for wrong in (0, -1, float("nan"), float("inf")):
            with pytest.raises(base.CompoundNetError, match=f"{name} must be a number above 0"):
                scaled(wrong)
    assert arch.scale(network, resolution=8).resolution == 8 * 224
    assert arch.scale(network, resolution=32).resolution == 32
    assert arch.scale(network, resolution=1_000_000).resolution == 1_000_000
    for wrong in (31, 1_000_001, 0.1):
        with pytest.raises(base.CompoundNetError, match="resolution must lie between 32 px and a million"):
            arch.scale(network, resolution=wrong)
    with pytest.raises(base.CompoundNetError, match=r"a resolution in pixels is a whole number, got 8\.5"):
        arch.scale(network, resolution=8.5)


@pytest.mark.parametrize("pixels", [32, 1_000_000])
def test_the_limits_of_phi(pixels: int) -> None:
    network, gamma = arch.network("efficientnet-b0"), arch.Coefficients().gamma
    inside = math.log(pixels / 224) / math.log(gamma)
    assert arch.compound(network, inside).resolution == pixels
    with pytest.raises(base.CompoundNetError, match=r"phi .* gives a resolution of"):
        arch.compound(network, inside + (0.3 if pixels > 1000 else -0.3))
    above = math.log2(1_000_001 / 224)
    with pytest.raises(base.CompoundNetError, match=r"phi .* gives a resolution of 1e\+06 px"):
        arch.compound(network, above, arch.Coefficients(1, 1, 2))


def test_width_one_keeps_channels_that_are_no_multiples() -> None:
    rules = arch.Rules()
    assert round_channels(10, 1.0, rules) == 10
    assert round_channels(10, 1.5, rules) == 16
    assert round_channels(0, 2.0, rules) == 0, "no convolution stays none"


def test_the_largest_factor_of_a_resolution_is_a_factor() -> None:
    network = arch.network("efficientnet-b0").replace(resolution=40)
    assert arch.scale(network, resolution=8).resolution == 320
    assert arch.scale(network, resolution=8.0).scaling == arch.Scaling("efficientnet-b0", 1.0, 1.0, 8)


def test_a_stage_never_loses_its_last_block() -> None:
    rounded = arch.Rules(depth_rounding="nearest")
    assert round_repeats(1, 0.3, rounded) == 1 and round_repeats(4, 0.3, rounded) == 1
