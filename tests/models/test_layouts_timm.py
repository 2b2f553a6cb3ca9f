"""timm's models and ours compute the same with each other's weights."""

from __future__ import annotations

import pytest
import timm
from layout_parity import check_parity

from compoundnet import arch
from compoundnet.base import CompoundNetError
from compoundnet.models.layouts import from_layout, layout
from compoundnet.models.layouts.timm import timm_name

slow = pytest.mark.slow

TF_MODELS = [
    "efficientnet-b0",
    "efficientnet-lite0",
    "efficientnetv2-b0",
    *(pytest.param(f"efficientnetv2-{name}", marks=slow) for name in ("b1", "b2", "b3", "s", "m", "l", "xl")),
    *(pytest.param(f"efficientnet-edgetpu-{name}", marks=slow) for name in "sml"),
    *(pytest.param(f"efficientnet-b{number}", marks=slow) for number in range(1, 8)),
    *(pytest.param(f"efficientnet-lite{number}", marks=slow) for number in (1, 2, 3, 4)),
]

NATIVE_MODELS = [
    ("efficientnet-b0", "efficientnet_b0"),
    ("efficientnet-edgetpu-s", "efficientnet_es"),
    ("mobilenet-v4-conv-small", "mobilenetv4_conv_small"),
    *((f"tinynet-{name}", f"tinynet_{name}") for name in "cde"),
    ("mobilenet-v1", "mobilenetv1_100"),
    ("mobilenet-v2", "mobilenetv2_100"),
    ("mnasnet-a1", "semnasnet_100"),
    ("resnet-18", "resnet18"),
    pytest.param("efficientnet-lite0", "efficientnet_lite0", marks=slow),
    *(
        pytest.param(f"mobilenet-v4-conv-{name}", f"mobilenetv4_conv_{name}", marks=slow)
        for name in ("medium", "large")
    ),
    *(pytest.param(f"tinynet-{name}", f"tinynet_{name}", marks=slow) for name in "ab"),
    pytest.param("mnasnet-b1", "mnasnet_100", marks=slow),
    *(pytest.param(f"efficientnet-b{number}", f"efficientnet_b{number}", marks=slow) for number in range(1, 8)),
    *(pytest.param(f"resnet-{depth}", f"resnet{depth}", marks=slow) for depth in (34, 50, 101, 152, 200)),
    pytest.param("wide-resnet-50-2", "wide_resnet50_2", marks=slow),
    pytest.param("resnext-50-32x4d", "resnext50_32x4d", marks=slow),
    pytest.param("resnext-101-32x4d", "resnext101_32x4d", marks=slow),
    pytest.param("resnext-101-64x4d", "resnext101_64x4d", marks=slow),
]


@pytest.mark.parametrize("name", TF_MODELS)
def test_tf_models_agree_at_odd_and_even_sides(name: str) -> None:
    theirs = timm.create_model(timm_name(name, "timm"))
    # The signal of a long network with large residuals grows, and rounding with it.
    gain = 1.0 if name.startswith("efficientnetv2") else 1.5
    converted = check_parity(theirs, arch.network(name), layout("timm"), gain=gain)
    assert (converted.padding, converted.norm.eps) == ("same", 1e-3)


@pytest.mark.parametrize(("name", "theirs"), NATIVE_MODELS)
def test_native_models_agree(name: str, theirs: str) -> None:
    converted = check_parity(timm.create_model(theirs), arch.network(name), layout("timm-native"))
    assert (converted.padding, converted.norm.eps) == ("symmetric", 1e-5)


def test_other_classes_and_input_channels_come_with_the_weights() -> None:
    theirs = timm.create_model("tf_efficientnet_b0", num_classes=7, in_chans=1)
    converted = check_parity(theirs, arch.network("efficientnet-b0"), layout("timm"))
    assert (converted.num_classes, converted.in_channels) == (7, 1)


def test_a_model_without_classifier_agrees_where_the_network_has_none() -> None:
    theirs = timm.create_model("tf_efficientnet_b0", num_classes=0)
    check_parity(theirs, arch.network("efficientnet-b0").replace(num_classes=0), layout("timm"))


def test_there_is_no_resnet_among_the_tf_models() -> None:
    with pytest.raises(CompoundNetError, match="timm-native"):
        from_layout({}, arch.network("resnet-18"), layout("timm"))


def test_timm_has_no_pooled_skip_and_no_squeeze_excitation_in_a_plain_convolution() -> None:
    for stage, lacking in (
        (arch.Stage(arch.MBConv(), 16, skip="pool"), "pooled skip"),
        (arch.Stage(arch.ConvBlock(se=0.25), 16), "ConvBlock with squeeze-excitation"),
    ):
        network = arch.Network("odd", 32, arch.Stem(16), (stage,))
        with pytest.raises(CompoundNetError, match=f"odd cannot be laid out as timm does: timm has no {lacking}"):
            layout("timm-native").pairs(network)
