"""The catalogue's networks have the published sizes, digit for digit."""

import pytest

from compoundnet import arch, base
from compoundnet.arch.layers import same_padding
from compoundnet.arch.segments import segments

# Recomputed from the authors' rules and equal to torchvision's published num_params (B0 to B7, V2-S to -L, ResNets,
# MobileNetV2); B8, L2, Lite, V2-B0 to -B3, V2-XL, EdgeTPU and TinyNet from the authors' multipliers, and MobileNetV4,
# equal to timm's models; MnasNet as torchvision and timm count them.
PARAMS = {
    "efficientnet-b0": 5_288_548,
    "efficientnet-b1": 7_794_184,
    "efficientnet-b2": 9_109_994,
    "efficientnet-b3": 12_233_232,
    "efficientnet-b4": 19_341_616,
    "efficientnet-b5": 30_389_784,
    "efficientnet-b6": 43_040_704,
    "efficientnet-b7": 66_347_960,
    "efficientnet-b8": 87_413_142,
    "efficientnet-l2": 480_309_308,
    "efficientnet-lite0": 4_652_008,
    "efficientnet-lite1": 5_416_680,
    "efficientnet-lite2": 6_092_072,
    "efficientnet-lite3": 8_197_096,
    "efficientnet-lite4": 13_006_568,
    "efficientnetv2-b0": 7_139_704,
    "efficientnetv2-b1": 8_141_052,
    "efficientnetv2-b2": 10_096_086,
    "efficientnetv2-b3": 14_358_406,
    "efficientnetv2-s": 21_458_488,
    "efficientnetv2-m": 54_139_356,
    "efficientnetv2-l": 118_515_272,
    "efficientnetv2-xl": 208_119_808,
    "tinynet-a": 6_187_972,
    "tinynet-b": 3_730_562,
    "tinynet-c": 2_457_234,
    "tinynet-d": 2_338_446,
    "tinynet-e": 2_042_972,
    "efficientnet-edgetpu-s": 5_438_392,
    "efficientnet-edgetpu-m": 6_899_496,
    "efficientnet-edgetpu-l": 10_589_712,
    "mobilenet-v1": 4_231_976,
    "mobilenet-v2": 3_504_872,
    "mobilenet-v4-conv-small": 3_774_024,
    "mobilenet-v4-conv-medium": 9_715_512,
    "mobilenet-v4-conv-large": 32_590_864,
    "mnasnet-a1": 3_887_038,
    "mnasnet-b1": 4_383_312,
    "resnet-18": 11_689_512,
    "resnet-34": 21_797_672,
    "resnet-50": 25_557_032,
    "resnet-101": 44_549_160,
    "resnet-152": 60_192_808,
    "resnet-200": 64_673_832,
    "wide-resnet-50-2": 68_883_240,
    "resnext-50-32x4d": 25_028_904,
    "resnext-50-64x4d": 45_192_488,
    "resnext-101-32x4d": 44_177_704,
    "resnext-101-64x4d": 83_455_272,
}
# Billions of multiply-adds with TensorFlow's output sizes, to the digits they are published with.
MACS = {
    "efficientnet-b0": 0.386,
    "efficientnet-b1": 0.687,
    "efficientnet-b2": 0.994,
    "efficientnet-b3": 1.827,
    "efficientnet-b4": 4.394,
    "efficientnet-b5": 10.27,
    "efficientnet-b6": 19.07,
    "efficientnet-b7": 37.75,
    "efficientnet-b8": 62.60,
    "efficientnet-l2": 475.7,
    "efficientnetv2-b0": 0.718,
    "efficientnetv2-b3": 3.011,
    "efficientnetv2-s": 8.366,
    "efficientnetv2-m": 24.58,
    "efficientnetv2-l": 56.08,
    "mobilenet-v4-conv-small": 0.186,
    "mobilenet-v4-conv-medium": 1.080,
    "mobilenet-v4-conv-large": 6.376,
    "tinynet-a": 0.337,
    "tinynet-c": 0.0995,
    "tinynet-d": 0.0516,
    "tinynet-e": 0.0244,
}
# timm's published activation counts, millions of convolution outputs.
ACTIVATIONS = {"efficientnet-b0": 6.75, "efficientnet-b1": 10.9, "efficientnet-b4": 49.5, "efficientnet-b7": 289.9}


def test_every_catalogue_network_is_listed_here() -> None:
    assert {name for members in arch.families().values() for name in members} == set(PARAMS)


@pytest.mark.parametrize("name", PARAMS)
def test_parameters_digit_for_digit(name: str) -> None:
    assert arch.cost(arch.network(name)).params == PARAMS[name]


@pytest.mark.parametrize("name", MACS)
def test_multiply_adds(name: str) -> None:
    digits = 4 if MACS[name] > 1 else 3
    assert float(f"{arch.cost(arch.network(name)).macs / 1e9:.{digits}g}") == MACS[name]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    # The classifier's 1,000 outputs are in ours and not in the published figure.
    assert arch.cost(arch.network(name)).activations / 1e6 == pytest.approx(ACTIVATIONS[name], rel=0.005)


def test_b0_is_table_1() -> None:
    rows = [
        (row.operator, row.resolution, row.channels, row.layers)
        for row in arch.stage_costs(arch.network("efficientnet-b0"))
    ]
    assert rows == [
        ("Conv3x3", 224, 32, 1),
        ("MBConv1, k3x3", 112, 16, 1),
        ("MBConv6, k3x3", 112, 24, 2),
        ("MBConv6, k5x5", 56, 40, 2),
        ("MBConv6, k3x3", 28, 80, 3),
        ("MBConv6, k5x5", 14, 112, 3),
        ("MBConv6, k5x5", 14, 192, 4),
        ("MBConv6, k3x3", 7, 320, 1),
        ("Conv1x1 & Pooling & FC", 7, 1280, 1),
    ]


def test_stage_rows_sum_to_the_whole() -> None:
    for members in arch.families().values():
        for network in members.values():
            rows, whole = arch.stage_costs(network), arch.cost(network)
            assert sum(row.params for row in rows) == whole.params
            assert sum(row.macs for row in rows) == whole.macs
            assert sum(row.activations for row in rows) == whole.activations


def test_tinynet_keeps_b0s_stem_and_head_and_rounds_its_depth_to_the_nearest() -> None:
    a, e = arch.network("tinynet-a"), arch.network("tinynet-e")
    assert [stage.repeats for stage in a.stages] == [1, 2, 2, 4, 4, 5, 1]  # rounded up: 2, 3, 3, 4, 4, 5, 2
    assert [stage.repeats for stage in e.stages] == [1, 1, 1, 2, 2, 2, 1]
    assert [stage.channels for stage in e.stages] == [8, 16, 24, 40, 56, 96, 160]
    assert (a.resolution, e.resolution) == (192, 106)
    assert {(one.stem.channels, one.head.channels) for one in (a, e)} == {(32, 1280)}
    assert e.scaling is not None and e.scaling.base == "efficientnet-b0"
    assert arch.network("efficientnet-b0").rules == arch.Rules()  # not TinyNet's base of the same name


def test_published_family_widths_and_repeats() -> None:
    b3, lite4 = arch.network("efficientnet-b3"), arch.network("efficientnet-lite4")
    # The 10 % guard: 16 * 1.2 = 19.2 goes to 24, not to 16.
    assert [stage.channels for stage in b3.stages] == [24, 32, 48, 96, 136, 232, 384]
    assert [stage.repeats for stage in b3.stages] == [2, 3, 3, 5, 5, 6, 2]
    assert (b3.stem.channels, b3.head.channels, b3.dropout, b3.resolution) == (40, 1536, 0.3, 300)
    # Lite: stem, head and the repeats of the end stages stay; their widths do not.
    assert (lite4.stem.channels, lite4.head.channels) == (32, 1280)
    assert [stage.repeats for stage in lite4.stages] == [1, 4, 4, 6, 6, 8, 1]
    assert lite4.stages[0].channels == 24


@pytest.mark.parametrize("name", ["efficientnet_b0", "EfficientNet-B0", " efficientnet-b0 "])
def test_spellings(name: str) -> None:
    assert arch.network(name).name == "efficientnet-b0"


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(base.CompoundNetError, match=r"'efficientnet-bo'; did you mean efficientnet-b0"):
        arch.network("efficientnet-bo")


def test_receptive_fields_follow_the_recurrence() -> None:
    # ResNet-18 as in Araujo et al. (Distill 2019). Their 483 for ResNet-50 is slim's variant, whose strides stand in
    # the last block of a stage; by hand with the stride in each first block's 3x3: 11+24, +8+48, +16+160, +32+128.
    assert arch.cost(arch.network("resnet-18")).receptive_field == 435
    assert arch.cost(arch.network("resnet-50")).receptive_field == 427
    assert arch.cost(arch.network("efficientnet-b0")).receptive_field == 851


def tiny(**fields: object) -> arch.Network:
    """A stem, a stage of a projected block and two equal ones, a stage of one block, and a head."""
    stages = (arch.Stage(arch.BasicBlock(), 8, repeats=3), arch.Stage(arch.SeparableConv(), 12, stride=2))
    made = arch.Network(name="tiny", resolution=32, stem=arch.Stem(channels=4), stages=stages, num_classes=5)
    return made.replace(**fields)


def test_a_network_is_runs_of_equal_blocks() -> None:
    runs = segments(tiny())
    assert [(run.stage, run.repeats, run.first) for run in runs] == [
        (-1, 1, 0),
        (0, 1, 0),
        (0, 2, 1),
        (1, 1, 0),
        (2, 1, 0),
    ]


def test_every_layer_has_its_name_in_the_module_and_its_inputs() -> None:
    layers = arch.unroll(tiny())
    names = [layer.name for layer in layers]
    block = [f"{part}.{kind}" for part in ("first", "second") for kind in ("conv", "norm")]
    block.insert(2, "first.act")
    shortcut = ["shortcut.conv", "shortcut.norm"]
    separable = [f"{part}.{kind}" for part in ("depthwise", "pointwise") for kind in ("conv", "norm", "act")]
    assert names[:3] == ["stem.conv", "stem.norm", "stem.act"]
    expected = [f"stages.0.0.{name}" for name in (*shortcut, *block, "add", "act")]
    expected += [f"stages.0.{number}.{name}" for number in (1, 2) for name in (*block, "add", "act")]
    expected += [f"stages.1.0.{name}" for name in separable]
    assert names[3:-2] == expected and names[-2:] == ["mean", "classifier"]
    # The image, the norms of shortcut and branch of the first block, and the block's input of the second.
    sums = [layer.inputs for layer in layers if layer.kind == "add"]
    at = names.index
    assert layers[0].inputs == (-1,)
    assert sums[0] == (at("stages.0.0.second.norm"), at("stages.0.0.shortcut.norm"))
    assert sums[1] == (at("stages.0.1.second.norm"), at("stages.0.0.act"))
    assert layers[-1].inputs == (len(layers) - 2,)


def test_the_stage_table_numbers_its_rows_and_its_head_is_one_row() -> None:
    rows = arch.stage_costs(tiny())
    assert [row.stage for row in rows] == [1, 2, 3, 4]
    assert [(row.layers, row.stride) for row in rows] == [(1, 2), (3, 1), (1, 2), (1, 1)]


def test_only_convolutions_and_the_classifier_have_multiply_adds_and_all_counts_are_whole() -> None:
    layers = arch.unroll(tiny(head=arch.Head(channels=16, pool="max")))
    assert {layer.kind for layer in layers if layer.macs} == {"conv", "linear"}
    assert {layer.macs for layer in layers if layer.kind not in ("conv", "linear")} == {0}
    assert [layer.out_size for layer in layers if layer.kind == "globalmax"] == [1]
    assert all(type(value) is int for layer in layers for value in (layer.params, layer.macs, layer.outputs))


def test_a_cost_is_of_one_image_unless_told_otherwise() -> None:
    assert arch.cost(tiny()) == arch.cost(tiny(), batch=1, precision="float32")


def test_a_kernel_smaller_than_its_stride_is_not_padded() -> None:
    assert same_padding(4, 1, 2) == same_padding(5, 1, 2) == (0, 0)
    assert same_padding(5, 3, 2) == (1, 1) and same_padding(4, 3, 2) == (0, 1)
