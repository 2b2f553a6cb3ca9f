"""Layout and network are told from the names and shapes of tensors; what shapes cannot tell is decided and said."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn

from compoundnet import arch
from compoundnet.arch import Network, network, scale
from compoundnet.base import CompoundNetError
from compoundnet.models import convert, read_foreign
from compoundnet.models.layouts import LAYOUTS, from_layout, layout, permuted
from compoundnet.models.recognition import Hint, Recognition, recognise
from compoundnet.models.tensors import Shape, expected_tensors, state_shapes
from compoundnet.nn import build

B0 = network("efficientnet-b0")


def shapes_of(wanted: Network, name: str) -> dict[str, Shape]:
    """The tensors of a network in a layout, without building it."""
    chosen = layout(name)
    ours = expected_tensors(wanted)
    pairs = [pair for pair in chosen.pairs(chosen.adapt(wanted)) if pair.ours in ours]
    inverse = {
        pair.theirs: None if pair.axes is None else tuple(map(pair.axes.index, range(len(pair.axes)))) for pair in pairs
    }
    return {pair.theirs: permuted(ours[pair.ours], inverse[pair.theirs]) for pair in pairs}


def told(wanted: Network, name: str, **options: Any) -> Recognition:
    return recognise(shapes_of(wanted, name), "x.pth", **options)


def in_catalogue() -> list[tuple[str, str]]:
    found = []
    for name, wanted in arch.networks().items():
        for one in LAYOUTS:
            try:
                layout(one).pairs(layout(one).adapt(wanted))
            except CompoundNetError:
                continue
            found.append((name, one))
    return found


@pytest.mark.parametrize(("name", "one"), in_catalogue())
def test_every_network_of_the_catalogue_is_told_in_every_layout(name: str, one: str) -> None:
    found = told(network(name).replace(num_classes=7, in_channels=1), one)
    assert found.network.name == name
    assert (found.network.num_classes, found.network.in_channels) == (7, 1)
    same = (
        {"timm", "timm-native", "torchvision"} if name.startswith("res") or "wide" in name else {"timm", "timm-native"}
    )
    assert found.layout == one or {found.layout, one} <= same
    assert not found.left_out and not found.renamed


@pytest.mark.parametrize(
    ("base", "depth", "width"),
    [
        ("efficientnet-b0", 1.0, 0.5),
        ("efficientnet-b0", 0.5, 1.0),
        ("efficientnet-b0", 1.3, 1.25),
        pytest.param("efficientnet-b0", 3.0, 0.35, marks=pytest.mark.slow),
        ("efficientnet-lite0", 1.4, 0.75),
        ("mobilenet-v2", 1.0, 0.5),
        ("mobilenet-v2", 1.0, 1.4),
        ("resnet-50", 1.0, 0.5),
    ],
)
@pytest.mark.parametrize("one", ["timm", "timm-native", "lukemelas", "torchvision"])
def test_a_scaled_network_is_told_with_its_multipliers(base: str, depth: float, width: float, one: str) -> None:
    wanted = scale(network(base), depth=depth, width=width)
    try:
        shapes = shapes_of(wanted, one)
    except CompoundNetError:
        pytest.skip(f"{one} has no such network")
    found = recognise(shapes, "x.pth")
    assert (found.network.stem, found.network.stages, found.network.head) == (wanted.stem, wanted.stages, wanted.head)
    assert found.network.scaling is not None
    assert found.network.scaling.base == base
    by = found.network.scaling
    assert scale(network(base), depth=by.depth, width=by.width).stages == wanted.stages
    assert len(f"{by.width:g}") <= len(f"{width:g}")
    assert f"it is {base} scaled by depth {by.depth:g} and width {by.width:g}" in found.notes[0]
    assert "resolution 224 px, which weights do not show" in found.notes[0]


def test_the_multipliers_of_every_variant_are_found_again() -> None:
    """B3 under other repeats than the catalogue's is not B3; scaled as B3 is, it is found by its name."""
    for name in ("efficientnet-b1", "efficientnet-b3", "efficientnet-b7"):
        by = network(name).scaling
        assert by is not None
        assert told(scale(B0, depth=by.depth, width=by.width), "timm").network.name == name


def test_stages_that_no_multiplier_gives_are_built_all_the_same() -> None:
    counts = (1, 2, 2, 3, 5, 4, 1)
    stages = tuple(
        msgspec.structs.replace(stage, repeats=count) for stage, count in zip(B0.stages, counts, strict=True)
    )
    found = told(B0.replace(name="own", stages=stages), "timm")
    assert found.network.stages == stages
    assert found.network.name == "efficientnet-b0-custom"
    assert "it is efficientnet-b0 with other stages (1 x 16, 2 x 24" in found.notes[0]


@pytest.mark.parametrize(
    ("name", "hints", "expected", "says"),
    [
        ("efficientnet-b0", [], "timm-native", "if it was tf_efficientnet_b0 .* give --layout timm$"),
        ("efficientnet-b7", [], "timm", "if it was efficientnet_b7 .* give --layout timm-native$"),
        ("efficientnet-b0", [Hint("tf_efficientnet_b0.ns_jft_in1k", "args")], "timm", "as args says"),
        ("efficientnet-b7", [Hint("efficientnet_b7", "arch")], "timm-native", "as arch says"),
        ("efficientnet-b0", [Hint("my-tf_efficientnet_b0_ns-3.pth", "the name")], "timm", "as the name says"),
        ("efficientnet-b0", [Hint("best.pth", "the name"), Hint("tf_efficientnet_b0", "arch")], "timm", "as arch says"),
        ("efficientnet-lite0", [], "timm-native", "--layout timm$"),
    ],
)
def test_timms_two_paddings_are_told_by_names_or_said_to_be_a_guess(
    name: str, hints: list[Hint], expected: str, says: str
) -> None:
    found = told(network(name), "timm", hints=hints)
    assert found.layout == expected
    assert found.network.padding == ("same" if expected == "timm" else "symmetric")
    assert re.search(says, found.notes[-1])


def test_a_network_that_timm_has_once_is_no_guess() -> None:
    assert told(network("mobilenet-v2"), "timm").notes == ()
    assert told(network("resnet-50"), "torchvision").notes == ()


def test_what_is_given_is_not_told() -> None:
    assert told(B0, "timm", layout="timm").layout == "timm"
    small = scale(B0, width=0.3, name="own")
    assert told(small, "lukemelas", network=small).network.name == "own"


# Classifiers


def with_head(*layers: tuple[str, Shape]) -> dict[str, Shape]:
    trunk = {name: shape for name, shape in shapes_of(B0, "timm").items() if not name.startswith("classifier")}
    return {**trunk, **dict(layers)}


def test_a_classifier_under_another_name_is_found_and_said() -> None:
    found = recognise(with_head(("classifier.1.weight", (5, 1280)), ("classifier.1.bias", (5,))), "x.pth")
    assert found.renamed == {"classifier.1.weight": "classifier.weight", "classifier.1.bias": "classifier.bias"}
    assert found.network.num_classes == 5
    assert "took classifier.1 as the classifier, instead of classifier" in found.notes


def test_a_classifier_beside_the_backbone_is_found() -> None:
    outside = {"fc.weight": (5, 1280), "fc.bias": (5,), "train_acc.total": ()}
    found = recognise(with_head(), "x.pth", outside=outside)
    assert (found.network.num_classes, set(found.renamed)) == (5, {"fc.weight", "fc.bias"})


@pytest.mark.parametrize(
    "layers",
    [
        [("head.0.weight", (64, 1280)), ("head.0.bias", (64,)), ("head.2.weight", (5, 64)), ("head.2.bias", (5,))],
        [("head.weight", (5, 1280))],
        [("head.weight", (5, 999)), ("head.bias", (5,))],
    ],
)
def test_another_kind_of_head_is_left_out_and_said(layers: list[tuple[str, Shape]]) -> None:
    found = recognise(with_head(*layers), "x.pth")
    assert found.network.num_classes == 0
    assert set(found.left_out) == {name for name, _ in layers}
    assert any("written without a classifier" in note for note in found.notes)


@pytest.mark.parametrize(
    ("head", "outside"),
    [
        ([("1.weight", (64, 1280)), ("1.bias", (64,)), ("4.weight", (5, 64)), ("4.bias", (5,))], {}),
        ([("1.weight", (1280,)), ("1.bias", (1280,)), ("2.weight", (5, 1280)), ("2.bias", (5,))], {}),
        ([("1.weight", (1000, 1280)), ("1.bias", (1000,))], {"fc.weight": (5, 1000), "fc.bias": (5,)}),
    ],
)
def test_the_first_layer_of_a_head_is_no_classifier(head: list[tuple[str, Shape]], outside: dict[str, Shape]) -> None:
    """torchvision's own classifier is `classifier.1`, which is the first layer of a head that people put there."""
    shapes = {name: shape for name, shape in shapes_of(B0, "torchvision").items() if "classifier" not in name}
    layers = {f"classifier.{name}": shape for name, shape in head}
    found = recognise({**shapes, **layers}, "x.pth", outside=outside)
    assert (found.network.num_classes, found.renamed, set(found.left_out)) == (0, {}, set(layers))
    assert any("written without a classifier" in note for note in found.notes)


def test_a_head_with_a_norm_is_left_out(tmp_path: Path) -> None:
    own = build(B0.replace(num_classes=0))
    state = own.state_dict()
    head = nn.Sequential(nn.BatchNorm1d(1280), nn.Linear(1280, 64), nn.Linear(64, 5)).state_dict()
    torch.save({**state, **{f"classifier.{name}": value for name, value in head.items()}}, tmp_path / "own.pth")
    found = read_foreign(tmp_path / "own.pth")
    assert found.network.num_classes == 0 and found.state.keys() == state.keys()


def test_one_output_becomes_two_classes(tmp_path: Path) -> None:
    own = build(B0.replace(num_classes=1)).eval()
    torch.save(own.state_dict(), tmp_path / "own.pth")
    found = read_foreign(tmp_path / "own.pth")
    ours = build(found.network).eval()
    ours.load_state_dict(found.state)
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(ours(image).softmax(1)[:, 1:], own(image).sigmoid())
    assert "its one output became two classes" in " ".join(found.notes)


def test_a_larger_network_is_not_taken_for_a_part_of_it() -> None:
    """B0's tensors are among those of B1; but B1 is not B0 with extras."""
    shapes = shapes_of(network("efficientnet-b1"), "timm")
    with pytest.raises(CompoundNetError, match=r"does not hold efficientnet-b0 .*extra \(blocks\.0\.1"):
        recognise(shapes, "x.pth", layout="timm", network=B0)
    assert recognise(shapes, "x.pth").network.name == "efficientnet-b1"


# What is none of them


def without(shapes: dict[str, Shape], *names: str) -> dict[str, Shape]:
    return {name: shape for name, shape in shapes.items() if name not in names}


@pytest.mark.parametrize(
    ("shapes", "problem"),
    [
        (without(shapes_of(B0, "timm"), "blocks.2.1.bn2.weight"),
         r"nearest is efficientnet-b0 in the layout timm.*: 1 missing \(blocks\.2\.1\.bn2\.weight\); --network"),
        ({"patch_embed.weight": (1, 2), "head.weight": (3, 4)},
         "2 tensors are named patch_embed.weight, head.weight.* none of the layouts timm"),
        ({"conv_stem.weight": (24, 3, 3, 3), "bn1.weight": (24,)},
         r"x\.pth holds no network known here.*2 tensors are named conv_stem"),
        ({}, "none of the layouts"),
    ],
)  # fmt: skip
def test_what_is_unknown_says_what_is_nearest(shapes: dict[str, Shape], problem: str) -> None:
    with pytest.raises(CompoundNetError, match=problem):
        recognise(shapes, "x.pth")


# Whole conversions


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("efficientnet-b0", lambda peers: peers.create_model("efficientnet_b0", num_classes=3)),
        ("mobilenet-v2-d1-w0.5-r224", lambda peers: peers.create_model("mobilenetv2_050", num_classes=3)),
        ("efficientnet-lite0", lambda peers: peers.create_model("efficientnet_lite0", num_classes=3)),
    ],
)
def test_a_file_of_timm_gives_timms_logits(name: str, make: Callable[[Any], nn.Module], tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed (extra: peers)")
    torch.manual_seed(0)
    theirs = make(timm).eval()
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in theirs.state_dict().items()}},
        tmp_path / "best.pth.tar",
    )
    found = read_foreign(tmp_path / "best.pth.tar")
    assert (found.network.name, found.network.num_classes, found.prefix) == (name, 3, "module.")
    ours = build(found.network).eval()
    ours.load_state_dict(found.state)
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected = theirs(image)
        assert (ours(image) - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("part", ["stem", "head", "stages.2.0.project"])
@pytest.mark.parametrize("shape", [(), (0, 3, 3, 3), (8,)])
def test_a_convolution_whose_weight_is_none_is_no_network(part: str, shape: Shape) -> None:
    """Found by fuzzing: the channels were read from a weight without axes."""
    shapes = dict(state_shapes(arch.network("efficientnet-b0")))
    with pytest.raises(CompoundNetError, match=r"a\.pth"):
        recognise(shapes | {f"{part}.conv.weight": shape}, "a.pth")


def test_convert_tells_everything_by_itself(tmp_path: Path) -> None:
    wanted = B0.replace(num_classes=4)
    torch.save(build(wanted).state_dict(), tmp_path / "own.pth")  # this package's own names
    model = convert(tmp_path / "own.pth", tmp_path / "model")
    assert model.network == wanted
    assert "own.pth" in (tmp_path / "model" / "README.md").read_text()


def test_a_spoiled_tensor_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    state: dict[str, Tensor] = build(B0).state_dict()
    state["stages.1.0.se.reduce.bias"][1] = float("inf")
    torch.save(state, tmp_path / "own.pth")
    with pytest.raises(CompoundNetError, match=r"the tensor stages\.1\.0\.se\.reduce\.bias is not finite: 1 of its 4"):
        convert(tmp_path / "own.pth", tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["own.pth"]


def test_from_layout_takes_what_is_told() -> None:
    state = build(B0).state_dict()
    found = recognise({name: tuple(tensor.shape) for name, tensor in state.items()}, "x.pth")
    assert from_layout(state, found.network, layout(found.layout))[0] == B0
