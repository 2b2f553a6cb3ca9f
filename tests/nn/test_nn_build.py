"""The built module is the network: layer by layer, at any size, and as users of other libraries expect it."""

import copy
from typing import Any, Literal, TypeVar

import pytest
import torch
from hypothesis import given, settings
from strategies import networks
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import compoundnet as cn
from compoundnet import arch, base

B0 = arch.network("efficientnet-b0")
SMALL = arch.scale(B0, width=0.25, depth=0.5, resolution=64).replace(num_classes=7)


Net = TypeVar("Net", bound=nn.Module)


def randomise(net: Net) -> Net:
    """Batch norms as after training, so that folding and padding faults show."""
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return net


def part(net: nn.Module, path: str) -> Any:
    """A submodule by its name, whatever its type."""
    return net.get_submodule(path)


def macs(network: arch.Network) -> int:
    with torch.device("meta"):
        net = cn.build(network).eval()
        image = torch.empty(1, network.in_channels, network.resolution, network.resolution)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(image)
    flops: int = counter.get_total_flops()
    return flops // 2


def by_layer(net: nn.Module) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for name, parameter in net.named_parameters():
        layer = name.rpartition(".")[0]
        sizes[layer] = sizes.get(layer, 0) + parameter.numel()
    return sizes


LARGE = ("efficientnetv2-xl", "efficientnet-l2", "efficientnet-b8", "resnext-101-64x4d")
CATALOGUE = [
    pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name
    for members in arch.families().values()
    for name in members
]


@pytest.mark.parametrize("name", CATALOGUE)
def test_catalogue_layers_parameters_and_multiply_adds(name: str) -> None:
    network = arch.network(name)
    with torch.device("meta"):
        net = cn.build(network)
    assert by_layer(net) == {layer.name: layer.params for layer in arch.unroll(network) if layer.params}
    assert macs(network) == arch.cost(network).macs


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(networks)
def test_random_networks_layers_parameters_and_multiply_adds(network: arch.Network) -> None:
    with torch.device("meta"):
        net = cn.build(network)
    layers = {layer.name: layer.params for layer in arch.unroll(network) if layer.params}
    assert by_layer(net) == layers
    assert sum(layers.values()) == arch.cost(network).params
    assert macs(network) == arch.cost(network).macs == sum(layer.macs for layer in arch.unroll(network))


@settings(max_examples=25, deadline=None)
@given(networks)
def test_random_networks_run_alike_folded_fused_and_plain(network: arch.Network) -> None:
    net = randomise(cn.build(network).double()).eval()
    image = torch.randn(2, network.in_channels, 39, 50, dtype=torch.float64)
    plain = net(image).detach()
    with torch.no_grad():
        folded, fused = net(image), net.fuse()(image)
    limit = 1e-9 * max(1.0, plain.abs().max().item())
    assert plain.shape == (2, network.num_classes or network.classifier_features)
    assert (folded - plain).abs().max() <= limit
    assert (fused - plain).abs().max() <= limit


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (224, 224), (65, 100)])
def test_any_input_size(size: tuple[int, int]) -> None:
    net = cn.build(SMALL).eval()
    assert net(torch.randn(1, 3, *size)).shape == (1, 7)


@pytest.mark.parametrize("side", [64, 65, 75, 96, 97])
@pytest.mark.parametrize("name", ["efficientnet-b0", "mobilenet-v1", "resnet-18"])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_feature_strides_at_even_and_odd_sizes(name: str, side: int, padding: str) -> None:
    network = arch.scale(arch.network(name), width=0.25).replace(padding=padding)
    net = cn.build(network, features_only=True).eval()
    maps = net(torch.randn(1, 3, side, side))
    strides = net.feature_info.reduction()
    assert strides == [2, 4, 8, 16, 32]
    assert [level.shape[1] for level in maps] == net.feature_info.channels()
    assert [level.shape[-1] for level in maps] == [-(-side // stride) for stride in strides]


def test_features_are_the_classifiers_own() -> None:
    full = randomise(cn.build(SMALL)).eval()
    pyramid = cn.build(SMALL, features_only=True, out_indices=(1, -1)).eval()
    missing, unexpected = pyramid.load_state_dict(full.state_dict(), strict=False)
    assert missing == []
    assert {name.split(".")[0] for name in unexpected} == {"head", "classifier"}
    image = torch.randn(1, 3, 64, 64)
    maps = pyramid(image)
    assert torch.allclose(part(full, "head")(maps[-1]), full.forward_features(image), atol=1e-6)


def test_a_pyramid_builds_no_deeper_than_asked() -> None:
    net = cn.build(B0, features_only=True, out_indices=(0, 2))
    assert len(net.stages) == 3
    assert all(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("indices", [(), (5,), (-6,)])
def test_levels_that_are_not_there(indices: tuple[int, ...]) -> None:
    with pytest.raises(base.CompoundNetError, match="out_indices must be one or more of 0 to 4"):
        cn.build(B0, features_only=True, out_indices=indices)


def test_out_indices_needs_features_only() -> None:
    with pytest.raises(base.CompoundNetError, match="features_only=True"):
        cn.build(B0, out_indices=(1,))


def test_head_split_and_classifier_reset() -> None:
    net = cn.build(SMALL).eval()
    image = torch.randn(2, 3, 64, 64)
    features = net.forward_features(image)
    assert features.shape == (2, net.num_features, 2, 2)
    assert torch.equal(net.forward_head(features), net(image))
    assert torch.equal(net.forward_head(features, pre_logits=True), features.mean((2, 3)))
    net.reset_classifier(3)
    assert net(image).shape == (2, 3)
    assert (net.num_classes, net.spec.num_classes) == (3, 3)
    net.reset_classifier(0)
    assert net(image).shape == (2, net.num_features)
    assert isinstance(net.get_classifier(), nn.Identity)


def test_other_channels_and_classes() -> None:
    net = cn.build(SMALL, num_classes=4, in_chans=5)
    assert net(torch.randn(2, 5, 64, 64)).shape == (2, 4)
    assert (net.spec.in_channels, net.spec.num_classes) == (5, 4)
    with pytest.raises(base.CompoundNetError, match=r"float\[N, 5, H, W\], got shape \[2, 3, 64, 64\]"):
        net(torch.randn(2, 3, 64, 64))


def test_fuse_changes_logits_by_rounding_only() -> None:
    net = randomise(cn.build(arch.scale(B0, resolution=96))).eval()
    fused = net.fuse()
    image = torch.randn(2, 3, 96, 96)
    plain = net(image).detach()
    assert (fused(image) - plain).abs().max() < 1e-4 * plain.abs().max()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    assert not fused.training


def test_folding_on_the_fly_respects_hooks_and_training_norms() -> None:
    net = randomise(cn.build(SMALL)).eval()
    norm = part(net, "stem.norm")
    seen = []
    handle = norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        net(torch.randn(1, 3, 64, 64))
    handle.remove()
    assert len(seen) == 1
    norm.train()
    before = norm.running_mean.clone()
    with torch.no_grad():
        net(torch.randn(2, 3, 64, 64))
    assert not torch.equal(before, norm.running_mean)


def test_a_convolution_of_another_class_computes_its_weight_itself() -> None:
    """Weight standardisation: the norm is folded neither on the fly nor by fuse()."""

    class Standardised(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            found: torch.Tensor = self._conv_forward(x, weight, self.bias)
            return found

    net = randomise(cn.build(SMALL)).eval()
    plain = part(net, "head.conv")
    own = Standardised(plain.in_channels, plain.out_channels, 1, bias=False)
    own.load_state_dict(plain.state_dict())
    part(net, "head").conv = own
    image = torch.randn(2, 3, 64, 64)
    expected = net(image).detach()
    with torch.no_grad():
        assert torch.allclose(net(image), expected, atol=1e-5 * float(expected.abs().max()))
        assert torch.allclose(net.fuse()(image), expected, atol=1e-5 * float(expected.abs().max()))


def test_gradients_and_statistics_are_equal_with_checkpointing() -> None:
    network = SMALL.replace(survival=0.8, dropout=0.2)
    torch.manual_seed(0)
    plain = cn.build(network)
    saving = copy.deepcopy(plain)
    saving.set_grad_checkpointing()
    image = torch.randn(4, 3, 64, 64)
    for net in (plain, saving):
        torch.manual_seed(3)
        net(image).square().sum().backward()
    for (name, ours), theirs in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad), name
    for (name, kept), again in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(kept, again), name


def test_stochastic_depth_falls_linearly_over_the_scaled_blocks() -> None:
    net = cn.build(arch.network("efficientnet-b1"))
    survivals = {
        index: block.depth.survival
        for index, block in enumerate(block for stage in part(net, "stages") for block in stage)
        if block.depth is not None
    }
    total = arch.network("efficientnet-b1").blocks
    assert total == 23
    assert survivals[total - 1] == pytest.approx(1 - 0.2 * 22 / 23)
    assert all(value == pytest.approx(1 - 0.2 * index / total) for index, value in survivals.items())


def test_stochastic_depth_drops_whole_images_and_keeps_the_mean() -> None:
    from compoundnet.nn.units import StochasticDepth

    torch.manual_seed(0)
    layer = StochasticDepth(0.75)
    out = layer(torch.ones(4000, 2, 3, 3))
    images = out.flatten(1)
    assert torch.equal(images.amin(1), images.amax(1))
    assert images[:, 0].unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert out.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(layer.eval()(torch.ones(2, 2, 3, 3)), torch.ones(2, 2, 3, 3))


def test_initial_weights_are_the_authors() -> None:
    torch.manual_seed(0)
    net = cn.build(B0)
    depthwise = part(net, "stages.5.1.depthwise.conv").weight
    assert depthwise.std().item() == pytest.approx((2 / 25) ** 0.5, rel=0.02)
    project = part(net, "stages.6.0.project.conv").weight
    assert project.std().item() == pytest.approx((2 / 320) ** 0.5, rel=0.02)
    assert part(net, "classifier").weight.abs().max().item() == pytest.approx(1000**-0.5, rel=0.01)
    assert part(net, "classifier").bias.abs().max() == 0


@pytest.mark.slow
def test_deepcopy_export_and_compile() -> None:
    net = randomise(cn.build(SMALL)).eval()
    image = torch.randn(1, 3, 64, 64)
    expected = net(image).detach()
    assert torch.equal(copy.deepcopy(net)(image), expected)
    exported = torch.export.export(net, (image,)).module()
    assert torch.allclose(exported(image), expected, atol=1e-6)
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(compiled(image), expected, atol=1e-6)


def test_a_step_of_training_changes_every_parameter() -> None:
    net = cn.build(SMALL.replace(survival=1.0, dropout=0.0))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    before = [parameter.clone() for parameter in net.parameters()]
    nn.functional.cross_entropy(net(torch.randn(8, 3, 64, 64)), torch.arange(8) % 7).backward()
    optimizer.step()
    names = [name for name, _ in net.named_parameters()]
    changed = [not torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True)]
    assert [name for name, moved in zip(names, changed, strict=True) if not moved] == []


@pytest.mark.parametrize("stride", [1, 2])
def test_a_pooled_skip_adds_the_pooled_input(stride: int) -> None:
    stage = arch.Stage(arch.MBConv(), 8, stride=stride, skip="pool")
    network = arch.Network("pooled", 32, arch.Stem(8), (stage,))
    torch.manual_seed(0)
    block = part(cn.build(network).eval(), "stages.0.0")
    x = torch.randn(2, 8, 9, 9)
    with torch.no_grad():
        added = block(x) - block.branch(x)
    torch.testing.assert_close(added, nn.functional.max_pool2d(x, 3, stride, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("channels", "stride", "added"), [(8, 1, True), (8, 2, True), (16, 1, False)])
def test_a_pooled_skip_needs_equal_channels_alone(channels: int, stride: int, added: bool) -> None:
    network = arch.Network(
        "pooled", 32, arch.Stem(8), (arch.Stage(arch.ConvBlock(), channels, stride=stride, skip="pool"),)
    )
    assert any(layer.kind == "add" for layer in arch.unroll(network)) == added


def test_feature_info_is_timms() -> None:
    info = cn.build(B0).feature_info
    assert info.channels() == [16, 24, 40, 112, 320]
    assert info.reduction() == [2, 4, 8, 16, 32]
    assert info[0] == {"num_chs": 16, "reduction": 2, "module": "stages.0.0"}
    assert info.get_dicts() == list(info)
    pyramid = cn.build(B0, features_only=True, out_indices=(-1, 1))
    assert pyramid.feature_info.channels() == [320, 24]
    assert cn.build(arch.network("resnet-18")).feature_info.module_name()[0] == "stem"


def test_dropout_and_stochastic_depth_by_timms_keywords() -> None:
    net = cn.build(B0, drop_rate=0.5, drop_path_rate=0.3)
    assert net.spec == B0.replace(dropout=0.5, survival=0.7)
    assert net.dropout.p == 0.5
    with pytest.raises(base.CompoundNetError, match="survival must be above 0 and at most 1, got 0"):
        cn.build(B0, drop_path_rate=1.0)


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_a_convolution_after_the_pool(pool: Literal["avg", "max"]) -> None:
    network = arch.scale(arch.network("mobilenet-v4-conv-small"), width=0.25, resolution=64).replace(num_classes=7)
    net = randomise(cn.build(network, global_pool=pool)).eval()
    image = torch.randn(2, 3, 64, 64)
    features = net.forward_features(image)
    assert features.shape == (2, net.num_features, 2, 2)
    hidden = net.forward_head(features, pre_logits=True)
    assert hidden.shape == (2, net.head_hidden_size) == (2, 1280)
    assert torch.equal(net.get_classifier()(hidden), net(image))
    assert cn.build(network, num_classes=0).eval()(image).shape == (2, 1280)
    bare = cn.build(network, num_classes=0, global_pool="").eval()
    assert bare(image).shape == (2, 1280, 2, 2)
    assert macs(bare.spec) == arch.cost(bare.spec).macs
    net.train()
    net(image).sum().backward()
    assert all(weight.grad is not None for weight in net.parameters())


def test_global_pool() -> None:
    image = torch.randn(2, 3, 64, 64)
    net = cn.build(SMALL, global_pool="max").eval()
    features = net.forward_features(image)
    assert torch.equal(net.forward_head(features, pre_logits=True), features.amax((2, 3)))
    assert macs(net.spec) == arch.cost(net.spec).macs == arch.cost(SMALL).macs
    bare = cn.build(SMALL, global_pool="", num_classes=0).eval()
    assert bare(image).shape == features.shape
    assert arch.stage_costs(bare.spec)[-1].operator == "Conv1x1"
    assert arch.Network.loads(bare.spec.dumps()) == bare.spec
    with pytest.raises(base.CompoundNetError, match="without a global pool num_classes must be 0, got 7"):
        cn.build(SMALL, global_pool="")
    with pytest.raises(base.CompoundNetError, match=r'global_pool must be "avg", "max" or "" \(none\), got \'fast\''):
        cn.build(SMALL, global_pool="fast")  # type: ignore[call-overload]
    net.reset_classifier(3, global_pool="avg")
    assert torch.equal(net.forward_head(features, pre_logits=True), features.mean((2, 3)))
    headless = cn.build(arch.network("resnet-18"), global_pool="", num_classes=0)
    assert arch.cost(headless.spec).macs == macs(headless.spec)
