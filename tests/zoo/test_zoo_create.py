"""create_model: what users of timm and torchvision type first, by the names that those libraries have."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import compoundnet as cn
from compoundnet import arch
from compoundnet.base import CompoundNetError
from compoundnet.runtime.timing.peers import peers
from compoundnet.zoo.create import find_by_any_name


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("efficientnet_b0", "efficientnet-b0"),
        ("EfficientNet-B0", "efficientnet-b0"),
        ("tf_efficientnet_b7", "efficientnet-b7"),
        ("tf_efficientnet_lite0", "efficientnet-lite0"),
        ("mobilenetv2_100", "mobilenet-v2"),
        ("mobilenet_v2", "mobilenet-v2"),
        ("semnasnet_100", "mnasnet-a1"),
        ("mnasnet1_0", "mnasnet-b1"),
        ("resnet50", "resnet-50"),
        ("tf_efficientnetv2_s", "efficientnetv2-s"),
        ("efficientnet_v2_l", "efficientnetv2-l"),
        ("efficientnet_es", "efficientnet-edgetpu-s"),
        ("mobilenetv4_conv_medium", "mobilenet-v4-conv-medium"),
        ("tinynet_a", "tinynet-a"),
        ("wide_resnet50_2", "wide-resnet-50-2"),
        ("resnext101_64x4d", "resnext-101-64x4d"),
        ("tf_efficientnet_b0.ns_jft_in1k", "efficientnet-b0"),
    ],
)
def test_names_of_timm_torchvision_and_ours(name: str, ours: str) -> None:
    assert find_by_any_name(name) == arch.network(ours)


def test_every_name_of_a_network_of_stages_is_understood() -> None:
    for peer in peers():
        for ours, theirs in peer.networks.items():
            if ours in arch.networks():
                assert find_by_any_name(theirs) == arch.network(ours)


def test_keywords_are_timms() -> None:
    net = cn.create_model(
        "efficientnet_b0", num_classes=10, in_chans=1, drop_rate=0.3, drop_path_rate=0.1, global_pool="max"
    )
    assert net.training
    assert (net.spec.dropout, net.spec.survival, net.spec.head.pool) == (0.3, 0.9, "max")
    assert net(torch.zeros(2, 1, 64, 64)).shape == (2, 10)
    pyramid = cn.create_model("resnet18", features_only=True, out_indices=(1, -1))
    assert pyramid.feature_info.channels() == [64, 512]


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(CompoundNetError, match="no model named 'efficientnet_b9'; did you mean efficientnet_b"):
        cn.create_model("efficientnet_b9")
    with pytest.raises(CompoundNetError, match=r"comparison network that timm builds: compoundnet.zoo.network\('inc"):
        cn.create_model("inception_v4")
    with pytest.raises(CompoundNetError, match="no pretrained weights are known for resnet-50"):
        cn.create_model("resnet50", pretrained=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"global_pool": "catavgmax"}, "global_pool must be"),
        ({"global_pool": ""}, "without a global pool num_classes must be 0"),
        ({"drop_rate": 1.5}, "dropout must be at least 0 and below 1, got 1.5"),
        ({"num_classes": -1}, "num_classes must be 0"),
    ],
)
def test_impossible_values(options: dict[str, object], message: str) -> None:
    with pytest.raises(CompoundNetError, match=message):
        cn.create_model("efficientnet_b0", **options)  # type: ignore[call-overload]


def test_pretrained_weights_with_a_fresh_classifier() -> None:
    net = cn.create_model("tf_efficientnet_lite0", pretrained=True, num_classes=10, drop_rate=0.4)
    assert net.training
    assert (net.spec.name, net.spec.dropout, net.num_classes) == ("efficientnet-lite0", 0.4, 10)
    reference = cn.load("efficientnet-lite0").state_dict()
    for name, tensor in net.state_dict().items():
        assert name.startswith("classifier.") or torch.equal(tensor, reference[name]), name
    assert isinstance(net.get_classifier(), nn.Linear)
