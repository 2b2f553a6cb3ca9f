"""A space holds the networks it says, each can be built, and a mistake in one names file and field."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
import torch
from small_space import SPACE, small_space

import compoundnet as cn
from compoundnet import arch
from compoundnet.arch.segments import segments as arch_segments
from compoundnet.base import CompoundNetError
from compoundnet.search.architecture.space import Space, Value, find_space, macs, spaces
from compoundnet.search.architecture.space import _macs as stage_macs

MNASNET = find_space("mnasnet")


def drawn(space: Space, seed: int) -> dict[str, Value]:
    generator = random.Random(seed)
    return {name: generator.choice(options) for name, options in space.choices().items()}


def mobilenet_v2() -> dict[str, Value]:
    """Its choices."""
    chosen: dict[str, Value] = {}
    for block in range(1, 8):
        chosen |= {
            f"block{block}.operator": "mbconv1" if block == 1 else "mbconv6", f"block{block}.kernel": 3,
            f"block{block}.se": 0.0, f"block{block}.skip": "identity", f"block{block}.filters": 1.0,
            f"block{block}.layers": 0,
        }  # fmt: skip
    return chosen


def test_mnasnet_has_the_papers_432_choices_a_block() -> None:
    options = MNASNET.choices()
    assert len(MNASNET.blocks) == 7
    sizes = [
        len(list(itertools.product(*(all_ for name, all_ in options.items() if name.startswith(f"block{block}.")))))
        for block in range(1, 8)
    ]
    assert sizes[1:6] == [432] * 5
    assert MNASNET.size() == 360 * 432**5 * 288 == torch.prod(torch.tensor(sizes)).item()


def test_its_reference_is_a_member() -> None:
    theirs = arch.network("mobilenet-v2")
    member = MNASNET.network(mobilenet_v2())
    assert arch.cost(member).params == arch.cost(theirs).params == 3_504_872
    assert arch.cost(member).macs == arch.cost(theirs).macs
    assert member.activation == "relu"


def test_efficientnet_b0_is_no_member_for_its_widths_alone() -> None:
    b0 = arch.network("efficientnet-b0")
    chosen = mobilenet_v2()
    reachable = []
    for index, stage in enumerate(b0.stages):
        at = f"block{index + 1}"
        assert isinstance(stage.block, arch.MBConv)
        chosen[f"{at}.operator"] = f"mbconv{stage.block.expansion}"
        chosen[f"{at}.kernel"] = stage.block.kernel
        chosen[f"{at}.se"] = stage.block.se
        chosen[f"{at}.layers"] = stage.repeats - MNASNET.base.stages[index].repeats
        reachable.append(
            {MNASNET.network(chosen | {f"{at}.filters": f}).stages[index].channels for f in (0.75, 1.0, 1.25)}
        )
    assert [stage.repeats for stage in MNASNET.network(chosen).stages] == [stage.repeats for stage in b0.stages]
    assert [stage.channels in near for stage, near in zip(b0.stages, reachable, strict=True)] == [
        True, True, True, True, False, False, True,
    ]  # fmt: skip
    assert reachable[4:6] == [{72, 96, 120}, {120, 160, 200}]


@pytest.mark.parametrize("name", list(spaces()))
@pytest.mark.parametrize("seed", range(3))
def test_every_member_is_a_network_that_computes(name: str, seed: int) -> None:
    space = find_space(name).fitted(num_classes=7, resolution=32, width=0.25)
    network = space.network(drawn(space, seed))
    net = cn.build(network).eval()
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 7)
    assert sum(parameter.numel() for parameter in net.parameters()) == arch.cost(network).params
    assert macs(network) == arch.cost(network).macs
    assert arch.Network.loads(network.dumps()) == network


@pytest.mark.parametrize("skip", ["none", "identity", "pool"])
def test_skips_are_what_their_names_say(skip: str) -> None:
    stage = MNASNET.network(mobilenet_v2() | {"block4.skip": skip}).stages[3]
    assert stage.skip == {"none": False, "identity": True, "pool": "pool"}[skip]


def test_ways_to_choose_that_compute_the_same_are_one_network() -> None:
    # The last block has one layer that changes the channels: nothing can be added to it.
    members = {MNASNET.network(mobilenet_v2() | {"block7.skip": skip}) for skip in ("none", "identity", "pool")}
    assert len(members) == 1
    other = MNASNET.network(mobilenet_v2() | {"block6.skip": "none"})
    assert other.name != members.pop().name


def every(space: Space) -> list[arch.Network]:
    choices = space.choices()
    return [space.network(dict(zip(choices, values, strict=True))) for values in itertools.product(*choices.values())]


def test_size_counts_every_way_to_choose() -> None:
    space = small_space()
    assert len(every(space)) == space.size() == 24


def test_the_smallest_is_the_least_of_all() -> None:
    small = find_space("small")
    blocks = tuple(
        msgspec.structs.replace(block, skips=("identity",), se=(0.25,), kernels=(3,)) for block in small.blocks
    )
    two = small.base.replace(stages=small.base.stages[:2])
    space = msgspec.structs.replace(small, base=two, blocks=blocks[:2])
    assert space.size() == (4 * 3 * 2) * (4 * 3 * 3)
    assert macs(space.smallest()) == min(macs(network) for network in every(space))


def test_a_fitted_space_has_other_classes_size_and_width() -> None:
    network = MNASNET.fitted(num_classes=10, resolution=64, width=0.5).network(mobilenet_v2())
    assert (network.num_classes, network.resolution) == (10, 64)
    assert [stage.channels for stage in network.stages] == [8, 16, 16, 32, 48, 80, 160]
    assert network.scaling is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"block1.operator": "mbconv9"}, r"block1\.operator must be one of \['separable', 'mbconv'\], got 'mbconv9'"),
        ({"block9.operator": "mbconv"}, r"no choice named 'block9\.operator'; did you mean"),
        ({"block1.filters": 1.0}, "no choice named 'block1.filters'"),  # there is nothing to choose
    ],
)
def test_choices_that_are_not_the_spaces(changed: Mapping[str, Value], message: str) -> None:
    space = small_space()
    with pytest.raises(CompoundNetError, match=message):
        space.network({**drawn(space, 0), **changed})


def test_a_choice_that_is_missing() -> None:
    space = small_space()
    chosen = drawn(space, 0)
    del chosen["block2.kernel"]
    with pytest.raises(CompoundNetError, match=r"block2\.kernel has to be chosen, one of \[3, 5\]"):
        space.network(chosen)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kernels = [3]", "kernels = []", r"field blocks\[0\]: kernels must hold at least one choice"),
        ("kernels = [3]", "kernels = [4]", r"field blocks\[0\]: kernel must be odd"),
        ("kernels = [3]", "kernels = [3, 3]", r"field blocks\[0\]: kernels holds a choice twice"),
        ("kernels = [3]", 'kernels = ["3"]', r"field blocks\[0\]\.kernels\[0\]: Expected `int`, got `str`"),
        ("filters = [1.0]", "filters = [0.0]", r"field blocks\[0\]: filters are factors above 0"),
        ("se = [0.0]", "se = [1.5]", r"field blocks\[0\]: se is a ratio from 0"),
        ("layers = [-1]", "layers = [-2]", r"blocks\[1\]\.layers leaves 0 layers of the base's 2"),
        ('"none",', '"nothing",', r"field blocks\[1\]\.skips\[0\]: Invalid enum value 'nothing'; did you mean none"),
        ('operators = ["separable", ', 'operators = ["seperable", ', r"blocks\[0\]\.operators: .*you mean separable"),
        ('type = "MBConv", expansion = 2', 'type = "Bottleneck"',
         r"blocks\[1\]\.se must be \[0\.0\]: mbconv \(Bottleneck\) has no squeeze"),
        ('type = "MBConv", expansion = 2', 'type = "UIB"',
         r"blocks\[0\]\.operators: mbconv \(UIB\) has no field kernel, which a space chooses"),
        ('source = "made up"', "", "missing required field `source`"),
        ('source = "made up"', 'source = "made up"\ncolour = "red"', "unknown field `colour`"),
        ("blocks = [", "block = [", "unknown field `block`"),
    ],
)  # fmt: skip
def test_a_mistake_names_file_and_field(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SPACE
    path = tmp_path / "mine.toml"
    path.write_text(SPACE.replace(old, new, 1))
    with pytest.raises(CompoundNetError, match=message) as caught:
        find_space(str(path))
    assert str(path) in str(caught.value)


def test_ones_own_space_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(msgspec.toml.encode(small_space()))
    assert find_space(str(path)) == small_space()


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(CompoundNetError, match="no search space named 'mnasnett'; did you mean mnasnet"):
        find_space("mnasnett")


def test_the_documented_space_is_one(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "search.md").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text[text.index('name = "mine"') :].partition("```")[0])
    space = find_space(str(path))
    assert space.size() == (2 * 2 * 2) * (2 * 2 * 3 * 3)
    assert cn.build(space.smallest()).num_classes == 1000


@pytest.mark.parametrize("seed", range(6))
def test_the_multiply_adds_of_the_stages_and_the_ends_are_all_there_are(seed: int) -> None:
    """At 75 px no map halves evenly."""
    space = MNASNET.fitted(resolution=75)
    network = space.network(drawn(space, seed))
    runs = arch_segments(network)
    channels, size, total = network.stem.channels, runs[0].group.layers[-1].out_size, runs[0].group.macs
    for stage in network.stages:
        total += stage_macs(stage, channels, size)
        channels, size = stage.channels, -(-size // stage.stride)
    assert total + runs[-1].group.macs == macs(network) == arch.cost(network).macs


@pytest.mark.parametrize("seed", range(10))
def test_a_stage_has_a_skip_only_where_one_of_its_blocks_adds(seed: int) -> None:
    network = MNASNET.network(drawn(MNASNET, seed))
    adds = {layer.name.split(".")[1] for layer in arch.unroll(network) if layer.kind == "add"}
    assert [bool(stage.skip) for stage in network.stages] == [
        str(index) in adds for index in range(len(network.stages))
    ]


def test_a_space_is_fitted_to_nothing_else_by_default_and_members_are_named_by_a_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MNASNET.fitted() == MNASNET
    assert re.fullmatch(r"mnasnet-[0-9a-f]{8}", MNASNET.network(mobilenet_v2()).name)
    (tmp_path / "own.toml").write_text(SPACE)
    monkeypatch.chdir(tmp_path)
    assert find_space("own.toml") == small_space()


@pytest.mark.parametrize(("factor", "allowed"), [(64, True), (64.5, False), (65, False), (0, False), (0.5, True)])
def test_the_limits_of_a_factor_of_channels(factor: float, allowed: bool) -> None:
    block = MNASNET.blocks[0]
    if allowed:
        assert msgspec.structs.replace(block, filters=(factor,)).filters == (factor,)
    else:
        with pytest.raises(CompoundNetError, match="filters are factors above 0 and at most 64"):
            msgspec.structs.replace(block, filters=(factor,))
