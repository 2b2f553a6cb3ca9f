"""Static int8 quantisation of an ONNX graph with ONNX Runtime's tools: calibrated on images, one scale per channel.

Before that, the weights are rounded so that the outputs change least (`rounding`).
"""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from compoundnet.runtime.exports.rounding import Maps, rounded_weights
from compoundnet.runtime.onnx_graph import INPUT

# Rounding errors are largest with few channels: keeping these layers, and what follows them, in float32 costs 5 % more
# time and halves the error of the logits of EfficientNet-Lite0 (docs/performance.md).
_FLOAT32 = ("stem.", "stages.0.")
# The operators that hold the multiply-adds of a network.
_LAYERS = ("Conv", "Gemm")
# Weights have seven bits: without VNNI the processor adds 8 x 8 bit products in 16 bits, which overflow. So many steps
# there are from 0 to the largest weight of a channel.
_REDUCED_RANGE, _STEPS = True, 64
# The images that decide on the rounding of weights, at the least, if so many are given; and twice as many at the most.
# The error of the logits of Lite0, fine-tuned at 128 px: 3.3, 3.0, 2.9 and 2.8 % with 16, 32, 64 and 200.
_ROUNDED_ON = 32


class OnnxQuantiser:
    """A graph in int8, as QuantizeLinear and DequantizeLinear around each operator: calibrated once, with any of its
    layers left in float32.

    Args:
        source: The float32 file.
        images: The images for the calibration of activations, each float32[C, H, W].
        properties: The metadata of the files to write.
        to_nearest: Whether to round each weight to the nearest step, which takes seconds less and loses more.

    Attributes:
        layers: The names of the layers that hold its multiply-adds, in order. What follows a layer up to the next one
            (activation, mean, product, sum) goes with it.
    """

    def __init__(
        self, source: Path, images: Iterable[Maps], properties: Mapping[str, str], *, to_nearest: bool = False
    ) -> None:
        from onnxruntime import quantization as tools  # noqa: PLC0415  takes 0.2 s to import, and only int8 needs it

        self._model = tools.quant_utils.load_model_with_shape_infer(source)
        self._properties = dict(properties)
        self._groups = _groups(self._model)
        sensitive = [name for name in self._groups if f"{name}.".startswith(_FLOAT32)]
        self._always = [node for name in sensitive for node in self._groups[name]]
        self.layers = tuple(name for name in self._groups if name not in sensitive)
        with _quiet(), tempfile.TemporaryDirectory(dir=source.parent) as scratch:
            calibrator = tools.calibrate.create_calibrator(
                source,
                _operators(),
                augmented_model_path=str(Path(scratch) / "augmented.onnx"),
                calibrate_method=tools.CalibrationMethod.MinMax,
            )
            spread = _Spread(images)
            calibrator.collect_data(_reader(spread))
            self._ranges: Any = calibrator.compute_data()
        quantised = {node for name in self.layers for node in self._groups[name]}
        self._rounded = {} if to_nearest else rounded_weights(self._model, quantised, spread.kept, _STEPS)

    def write(self, file: Path, float32: Collection[str] = ()) -> None:
        """Write the int8 file; the layers in `float32` stay as they are."""
        from onnxruntime import quantization as tools  # noqa: PLC0415  as above

        excluded = {*self._always, *chain.from_iterable(self._groups[layer] for layer in float32)}
        with _quiet():
            quantizer = tools.qdq_quantizer.QDQQuantizer(
                self._with_rounded(excluded),
                True,  # one scale for each channel
                _REDUCED_RANGE,
                tools.QuantType.QInt8,
                tools.QuantType.QUInt8,
                self._ranges,
                [],
                list(excluded),
                _operators(),
                {},
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
        model = quantizer.model.model
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, self._properties)
        onnx.save_model(model, file)
        onnx.checker.check_model(file, full_check=True)

    def _with_rounded(self, excluded: Collection[str]) -> onnx.ModelProto:
        """A copy of the graph with the rounded weights of the layers that are not excluded."""
        model: onnx.ModelProto = copy.deepcopy(self._model)
        chosen = {node.input[1] for node in model.graph.node if node.op_type in _LAYERS and node.name not in excluded}
        for weight in model.graph.initializer:
            if weight.name in chosen and weight.name in self._rounded:
                weight.CopyFrom(onnx.numpy_helper.from_array(self._rounded[weight.name], weight.name))
        return model


class _Spread(Iterable[Maps]):
    """Passes images on, and keeps some of them, evenly spaced, however many there are."""

    def __init__(self, images: Iterable[Maps]) -> None:
        self._images = images
        self.kept: list[Maps] = []

    def __iter__(self) -> Iterator[Maps]:
        every = 1
        for number, image in enumerate(self._images):
            if number % every == 0:
                if len(self.kept) == 2 * _ROUNDED_ON:
                    self.kept, every = self.kept[::2], 2 * every
                self.kept.append(image)
            yield image


def _operators() -> list[str]:
    """The operators that ONNX Runtime quantises."""
    from onnxruntime import quantization as tools  # noqa: PLC0415  as above

    return list({*tools.registry.QLinearOpsRegistry, *tools.registry.QDQRegistry})


def _groups(model: onnx.ModelProto) -> dict[str, list[str]]:
    """The names of the nodes of each layer, by the network's name of the layer, such as stages.1.0.expand."""
    groups: dict[str, list[str]] = {}
    last: list[str] = []
    for node in model.graph.node:
        if node.op_type in _LAYERS:
            last = groups.setdefault(node.input[1].removesuffix(".weight").removesuffix(".conv"), [])
        last.append(node.name)
    return groups


def _reader(images: Iterable[Maps]) -> Any:
    from onnxruntime import quantization as tools  # noqa: PLC0415  as above

    class Reader(tools.CalibrationDataReader):  # type: ignore[misc]  # untyped library
        def __init__(self) -> None:
            self._images = iter(images)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            image = next(self._images, None)
            return None if image is None else {INPUT: image[None]}

    return Reader()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the tools, which log advice on the root logger."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
