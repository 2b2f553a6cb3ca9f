"""Weights of int8 are rounded so that the outputs of a layer change least."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from outlier_model import images as photos
from random_net import random_net, small_network
from small_model import write_small_model
from torch import nn

from compoundnet import base, runtime
from compoundnet.runtime.exports import rounding
from compoundnet.runtime.exports.quantise import OnnxQuantiser
from compoundnet.runtime.exports.rounding import Maps, _squares, round_rows, rounded_weights
from compoundnet.runtime.onnx_graph import write_onnx

STEPS = 64
Floats = NDArray[np.float64]


def nearest(weights: Floats) -> Floats:
    step = np.abs(weights).max(axis=2, keepdims=True) / STEPS
    return np.asarray(np.round(weights / step) * step)


def correlated(random: np.random.Generator, groups: int, columns: int, count: int = 500) -> Floats:
    """Inputs float64[groups, columns, count] that go together, as those of a network do."""
    few = random.standard_normal((groups, max(1, columns // 4), count))
    mixed = random.standard_normal((groups, columns, few.shape[1])) @ few
    return np.asarray(np.maximum(mixed + 0.1 * random.standard_normal(mixed.shape), 0))


@pytest.mark.parametrize(("groups", "rows", "columns"), [(1, 12, 150), (6, 1, 9), (3, 4, 18)])
def test_the_outputs_change_less_than_to_the_nearest_step(groups: int, rows: int, columns: int) -> None:
    random = np.random.default_rng(0)
    weights, inputs = random.standard_normal((groups, rows, columns)), correlated(random, groups, columns)
    found = round_rows(weights, inputs @ inputs.swapaxes(1, 2), STEPS)

    def error(rounded: Floats) -> float:
        return float(np.linalg.norm((rounded - weights) @ inputs))

    assert error(found) < 0.6 * error(nearest(weights))
    # On the steps of the row, of which the largest weight is the last: a quantiser finds the same steps.
    largest = np.abs(weights).max(axis=2)
    assert np.abs(found).max(axis=2) == pytest.approx(largest)
    multiples = found / largest[:, :, None] * STEPS
    assert np.abs(multiples - np.round(multiples)).max() < 1e-9
    kept = np.abs(weights) == largest[:, :, None]
    assert found[kept] == pytest.approx(weights[kept])


def test_inputs_that_do_not_go_together_leave_the_nearest_step() -> None:
    weights = np.random.default_rng(1).standard_normal((2, 5, 20))
    powers = np.random.default_rng(2).uniform(1, 2, (2, 20))
    squares = powers[:, :, None] * np.eye(20)
    assert round_rows(weights, squares, STEPS) == pytest.approx(nearest(weights))


def test_inputs_of_nothing_and_weights_of_nothing_are_no_exception() -> None:
    weights = np.random.default_rng(3).standard_normal((1, 3, 8))
    weights[0, 1] = 0
    found = round_rows(weights, np.zeros((1, 8, 8)), STEPS)
    assert found[0, [0, 2]] == pytest.approx(nearest(weights[:, [0, 2]])[0])
    assert (found[0, 1] == 0).all()


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "1x1": lambda: nn.Conv2d(8, 6, 1),
    "strided": lambda: nn.Conv2d(8, 6, 3, stride=2, padding=1),
    "depthwise": lambda: nn.Conv2d(8, 8, 5, padding=2, groups=8),
    "grouped and dilated": lambda: nn.Conv2d(8, 4, 3, padding=2, dilation=2, groups=2),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_the_inputs_of_a_layer_are_those_that_its_weights_meet(kind: str, tmp_path: Path) -> None:
    """A layer's own outputs change less for rounded weights, whatever its kernel, padding, stride and groups."""
    torch.manual_seed(0)
    layer, file = LAYERS[kind]().eval(), tmp_path / "layer.onnx"
    inputs = correlated(np.random.default_rng(0), 1, 8, 40 * 9).astype(np.float32).reshape(8, 40, 3, 3)
    images = list(inputs.repeat(2, axis=2).repeat(2, axis=3).swapaxes(0, 1))  # channels and neighbours go together
    exported = torch.onnx.export(layer, (torch.from_numpy(images[0][None]),), dynamo=True, verbose=False)
    assert exported is not None
    exported.save(file)
    model = onnx.load(file)
    (node,) = (one for one in model.graph.node if one.op_type == "Conv")
    (found,) = rounded_weights(model, {node.name}, images, STEPS).values()
    weight = layer.get_parameter("weight").detach().numpy().copy()
    rows = weight.reshape(1, len(weight), -1).astype(np.float64)

    def error(values: NDArray[np.float32]) -> float:
        outputs = []
        for weights in (weight, values):
            layer.get_parameter("weight").data.copy_(torch.from_numpy(weights.astype(np.float32)))
            with torch.inference_mode():
                outputs.append(layer(torch.from_numpy(np.stack(images))))
        return float((outputs[0] - outputs[1]).norm())

    assert error(found) < 0.9 * error(nearest(rows).reshape(weight.shape).astype(np.float32))


def test_layers_are_rounded_alike_with_memory_for_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_onnx(random_net(small_network()).eval().fuse(), tmp_path / "graph.onnx", channels=3, size=64)
    model = onnx.load(tmp_path / "graph.onnx")
    pixels = list(np.random.default_rng(0).standard_normal((3, 3, 64, 64), dtype=np.float32))
    nodes = {node.name for node in model.graph.node}
    whole = rounded_weights(model, nodes, pixels, STEPS)
    held: list[int] = []

    def squares(*given: Any) -> dict[str, Maps]:
        found = _squares(*given)
        held.append(sum(one.nbytes for one in found.values()))
        return found

    monkeypatch.setattr(rounding, "_squares", squares)
    monkeypatch.setattr(rounding, "_AT_ONCE", 400_000)
    parts = rounded_weights(model, nodes, pixels, STEPS)
    assert len(held) > 1 and max(held) <= 400_000
    assert parts.keys() == whole.keys()
    for name, weight in whole.items():
        np.testing.assert_array_equal(parts[name], weight)


class Standardised(nn.Conv2d):
    """Weight standardisation (Qiao et al. 2019): the graph computes the weight."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spread, mean = torch.std_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        return nn.functional.conv2d(x, (self.weight - mean) / spread, self.bias, padding=1)


class Tokens(nn.Module):
    """A convolution with a computed weight, one over a sequence, and a linear layer of several rows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.along, self.linear = Standardised(3, 4, 3), nn.Conv1d(4, 4, 3), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.linear(self.along(self.conv(x).flatten(2))[0].T).mean(0, keepdim=True)
        return found


def test_layers_of_other_kinds_stay_as_they_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    image = torch.randn(3, 8, 8)
    exported = torch.onnx.export(Tokens().eval(), (image[None],), dynamo=True, optimize=False, verbose=False)
    assert exported is not None
    exported.save(tmp_path / "tokens.onnx")
    model = onnx.load(tmp_path / "tokens.onnx")
    assert [node.op_type for node in model.graph.node if node.op_type in ("Conv", "Gemm")] == ["Conv", "Conv", "Gemm"]
    found = rounded_weights(model, {node.name for node in model.graph.node}, [image.numpy()], STEPS)
    assert [weight.shape for weight in found.values()] == [(5, 4)]


@pytest.mark.parametrize("dynamic", [pytest.param(False, marks=pytest.mark.slow), True])
def test_int8_is_closer_to_float32_than_with_nearest_steps(dynamic: bool, tmp_path: Path) -> None:
    net = random_net(small_network()).eval()
    size = 64
    scaled = [np.asarray(image.resize((size, size)), np.float32) / np.float32(64) - np.float32(2) for image in photos()]
    pixels = [image.transpose(2, 0, 1) for image in scaled]
    write_onnx(
        net.fuse(), tmp_path / "graph.onnx", channels=3, size=size, dynamic_batch=dynamic, dynamic_size=dynamic,
        half=False, features=False, properties={},
    )  # fmt: skip

    def logits(file: Path) -> NDArray[np.float32]:
        run = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        (name,) = (one.name for one in run.get_inputs())
        return np.concatenate([run.run(None, {name: one[None]})[0] for one in pixels])

    expected, errors = logits(tmp_path / "graph.onnx"), []
    for to_nearest in (False, True):
        quantiser = OnnxQuantiser(tmp_path / "graph.onnx", iter(pixels), {}, to_nearest=to_nearest)
        quantiser.write(tmp_path / "int8.onnx")
        errors.append(float(np.linalg.norm(logits(tmp_path / "int8.onnx") - expected)))
        # With all layers in float32 nothing is left of the rounding.
        quantiser.write(tmp_path / "whole.onnx", quantiser.layers)
        assert list(unchanged(tmp_path / "whole.onnx", tmp_path / "graph.onnx"))
    assert errors[0] < 0.8 * errors[1]


def unchanged(file: Path, source: Path) -> Iterator[str]:
    """Yield the names of the weights that a file holds unchanged; fail if one was rounded."""
    own, whole = (
        {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}
        for path in (file, source)
    )
    for name in own.keys() & whole.keys():
        np.testing.assert_array_equal(own[name], whole[name])
        yield name


def test_only_int8_is_rounded(tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "small")
    with pytest.raises(base.CompoundNetError, match="to_nearest is for precision int8, not float32"):
        runtime.export(model, tmp_path / "a.onnx", to_nearest=True)
