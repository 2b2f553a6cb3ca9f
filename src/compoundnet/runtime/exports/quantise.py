"""Static int8 quantisation of an ONNX file with ONNX Runtime's tools: calibrated on images, one scale per channel."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from compoundnet.runtime.onnx_graph import INPUT

# Rounding errors are largest with few channels: keeping these layers in float32 costs 5 % more time and halves the
# error of the logits of EfficientNet-Lite0 (docs/performance.md).
_FLOAT32 = ("stem.", "stages.0.")


def quantise(source: Path, target: Path, images: Iterable[NDArray[np.float32]], properties: Mapping[str, str]) -> None:
    """Write the float32 ONNX file `source` in int8, as QuantizeLinear and DequantizeLinear around each operator.

    Args:
        source: The float32 file.
        target: The int8 file to write.
        images: The images for the calibration of activations, each float32[C, H, W].
        properties: The metadata of `target`.
    """
    from onnxruntime import quantization as tools  # noqa: PLC0415  takes 0.2 s to import, and only int8 needs it

    class Reader(tools.CalibrationDataReader):  # type: ignore[misc]  # untyped library
        def __init__(self) -> None:
            self._images = iter(images)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            image = next(self._images, None)
            return None if image is None else {INPUT: image[None]}

    with _quiet():
        tools.quantize_static(
            source,
            target,
            Reader(),
            quant_format=tools.QuantFormat.QDQ,
            per_channel=True,
            # Without VNNI the processor adds 8 x 8 bit products in 16 bits, which overflow; 7-bit weights avoid this.
            reduce_range=True,
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
            calibrate_method=tools.CalibrationMethod.MinMax,
            nodes_to_exclude=_sensitive(onnx.load(source)),
        )
    model = onnx.load(target)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(properties))
    onnx.save_model(model, target)


def _sensitive(model: onnx.ModelProto) -> list[str]:
    """The convolutions that stay in float32."""
    return [node.name for node in model.graph.node if node.op_type == "Conv" and node.input[1].startswith(_FLOAT32)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the tools, which log advice on the root logger, and add a handler to it that has none."""
    root = logging.getLogger()
    before, handlers = root.level, list(root.handlers)
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
        root.handlers[:] = handlers
