"""What holds for every layout: names, lossless ways there and back, and errors that say what does not fit."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from compoundnet import arch
from compoundnet.arch import Network
from compoundnet.base import CompoundNetError
from compoundnet.models.layouts import LAYOUTS, from_layout, layout, to_layout
from compoundnet.nn import build

B0 = arch.network("efficientnet-b0")


def weights(network: Network, name: str) -> tuple[Network, dict[str, Tensor]]:
    """A network as a library has it, and random weights of it under the library's names."""
    adapted = layout(name).adapt(network)
    return adapted, to_layout(build(adapted).state_dict(), adapted, layout(name))


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_tensor_comes_back_as_it_was(name: str) -> None:
    adapted = layout(name).adapt(B0)
    ours = build(adapted).state_dict()
    converted, back = from_layout(to_layout(ours, adapted, layout(name)), B0, layout(name))
    assert converted == adapted
    assert list(back) == list(ours)
    assert all(torch.equal(back[key], ours[key]) for key in ours)


@pytest.mark.parametrize("name", LAYOUTS)
def test_their_names_are_one_to_one_with_ours(name: str) -> None:
    pairs = layout(name).pairs(layout(name).adapt(B0))
    assert len({pair.theirs for pair in pairs}) == len({pair.ours for pair in pairs}) == len(pairs)


def test_a_state_without_batch_counters_is_whole() -> None:
    _, state = weights(B0, "timm")
    state = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    converted, ours = from_layout(state, B0, layout("timm"))
    build(converted).load_state_dict(ours, strict=True)
    assert ours["stem.norm.num_batches_tracked"] == 0


def test_another_network_of_the_family_is_an_error_that_names_a_few_tensors_and_counts_the_rest() -> None:
    _, state = weights(arch.network("efficientnet-b1"), "timm")
    with pytest.raises(CompoundNetError) as error:
        from_layout(state, B0, layout("timm"), "b1.safetensors")
    message = str(error.value)
    assert message.startswith("b1.safetensors does not hold efficientnet-b0 in the layout timm")
    extra = [name for name in state if name.startswith(("blocks.0.1.", "blocks.1.2.", "blocks.2.2.", "blocks.3.3."))]
    extra += [name for name in state if name.startswith(("blocks.4.3.", "blocks.5.4.", "blocks.6.1."))]
    assert f"{len(extra)} extra ({extra[0]}, {extra[1]}, {extra[2]} and {len(extra) - 3} more)" in message
    assert "missing" not in message and "misshapen" not in message


def test_a_wider_network_is_an_error_that_names_shapes() -> None:
    _, state = weights(arch.network("efficientnet-b3"), "timm")
    with pytest.raises(CompoundNetError, match="misshapen") as error:
        from_layout(state, B0, layout("timm"))
    assert "conv_stem.weight is 40x3x3x3 instead of 32x3x3x3" in str(error.value)


def test_another_library_is_an_error_that_names_missing_and_extra_tensors() -> None:
    _, state = weights(B0, "torchvision")
    with pytest.raises(CompoundNetError, match=r"missing \(_conv_stem.weight, .* extra \(features.0.0.weight, "):
        from_layout(state, B0, layout("lukemelas"))


def test_shapes_of_another_number_of_axes_are_an_error() -> None:
    _, state = weights(B0, "timm")
    state["classifier.weight"] = torch.zeros(1280)
    state["conv_stem.weight"] = torch.tensor(1.0)
    with pytest.raises(CompoundNetError, match="2 misshapen") as error:
        from_layout(state, B0, layout("timm"))
    assert "conv_stem.weight is a scalar instead of 32x3x3x3" in str(error.value)
    assert "classifier.weight is 1280 instead of 1000x1280" in str(error.value)


def test_a_lost_classifier_is_an_error_unless_the_network_has_none() -> None:
    _, state = weights(B0, "timm")
    headless = {name: tensor for name, tensor in state.items() if not name.startswith("classifier")}
    with pytest.raises(CompoundNetError, match=r"2 missing \(classifier.weight, classifier.bias\)"):
        from_layout(headless, B0, layout("timm"))
    converted, _ = from_layout(headless, B0.replace(num_classes=0), layout("timm"))
    assert converted.num_classes == 0


def test_weights_go_to_no_library_that_would_compute_something_else_with_them() -> None:
    with pytest.raises(
        CompoundNetError, match=r"padding symmetric instead of same and batch norm eps 1e-05 instead of 0\.001"
    ):
        to_layout(build(B0).state_dict(), B0, layout("torchvision"))


def test_weights_of_another_network_go_nowhere() -> None:
    with pytest.raises(CompoundNetError, match="these are not the weights of efficientnet-b0"):
        to_layout(build(arch.network("efficientnet-b1")).state_dict(), B0, layout("timm"))


def test_an_unknown_layout_suggests_the_nearest() -> None:
    with pytest.raises(CompoundNetError, match="no layout named 'torch-vision'; did you mean torchvision"):
        layout("torch-vision")


def test_naming_layouts_imports_no_torch() -> None:
    code = "import sys; from compoundnet.models.layouts import LAYOUTS; assert LAYOUTS and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_layout_is_given_by_its_name() -> None:
    """It failed with an AttributeError, though the documentation names layouts by strings."""
    adapted, theirs = weights(B0, "timm")
    ours = build(adapted).state_dict()
    named, given = to_layout(ours, adapted, "timm"), to_layout(ours, adapted, layout("timm"))
    assert named.keys() == given.keys() == theirs.keys()
    assert from_layout(named, B0, "timm")[0] == from_layout(given, B0, layout("timm"))[0]
    with pytest.raises(CompoundNetError, match="there is no layout named 'tim'; did you mean timm"):
        to_layout(ours, adapted, "tim")
