"""Static int8 quantisation of an ONNX graph with ONNX Runtime's tools: calibrated on images, one scale per channel."""

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

from compoundnet.runtime.onnx_graph import INPUT

# Rounding errors are largest with few channels: keeping these layers, and what follows them, in float32 costs 5 % more
# time and halves the error of the logits of EfficientNet-Lite0 (docs/performance.md).
_FLOAT32 = ("stem.", "stages.0.")
# The operators that hold the multiply-adds of a network.
_LAYERS = ("Conv", "Gemm")


class OnnxQuantiser:
    """A graph in int8, as QuantizeLinear and DequantizeLinear around each operator: calibrated once, with any of its
    layers left in float32.

    Args:
        source: The float32 file.
        images: The images for the calibration of activations, each float32[C, H, W].
        properties: The metadata of the files to write.

    Attributes:
        layers: The names of the layers that hold its multiply-adds, in order. What follows a layer up to the next one
            (activation, mean, product, sum) goes with it.
    """

    def __init__(self, source: Path, images: Iterable[NDArray[np.float32]], properties: Mapping[str, str]) -> None:
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
            calibrator.collect_data(_reader(images))
            self._ranges: Any = calibrator.compute_data()

    def write(self, file: Path, float32: Collection[str] = ()) -> None:
        """Write the int8 file; the layers in `float32` stay as they are."""
        from onnxruntime import quantization as tools  # noqa: PLC0415  as above

        excluded = [*self._always, *chain.from_iterable(self._groups[layer] for layer in float32)]
        with _quiet():
            quantizer = tools.qdq_quantizer.QDQQuantizer(
                copy.deepcopy(self._model),
                True,  # one scale for each channel
                # Without VNNI the processor adds 8 x 8 bit products in 16 bits, which overflow; 7-bit weights avoid
                # this.
                True,
                tools.QuantType.QInt8,
                tools.QuantType.QUInt8,
                self._ranges,
                [],
                excluded,
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


def _reader(images: Iterable[NDArray[np.float32]]) -> Any:
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
