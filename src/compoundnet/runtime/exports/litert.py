"""A network as a .tflite file, by litert-torch; float16 and int8 by ai-edge-quantizer."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection, Iterable
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compoundnet.base import CompoundNetError, first_line
from compoundnet.base.quiet import quiet
from compoundnet.models import ExportedModel
from compoundnet.nn import ConvNet
from compoundnet.runtime.exports.litert_metadata import add_metadata

_SIGNATURE, _INPUT, _OUTPUT = "serving_default", "images", "logits"
# The operators that hold the multiply-adds of a network.
_LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")

# Images that are in memory at a time during calibration.
_AT_ONCE = 32


class _ChannelsLast(nn.Module):
    """A network that reads float32[N, H, W, C], as LiteRT's operators and mobile libraries do."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {_OUTPUT: self.net(images.permute(0, 3, 1, 2))}


def convert(net: ConvNet, size: int) -> bytes:
    """Return a float32 .tflite model of a network in eval mode. Input float32[1, size, size, C], output logits."""
    with quiet(), torch.inference_mode(False), torch.no_grad():
        import litert_torch  # noqa: PLC0415  an extra that takes some seconds to import

        images = torch.zeros(1, size, size, net.spec.in_channels)
        try:
            converted = litert_torch.convert(_ChannelsLast(net.fuse()).eval(), sample_kwargs={_INPUT: images})
            with tempfile.TemporaryDirectory() as folder:
                converted.export(str(Path(folder) / "model.tflite"))
                return (Path(folder) / "model.tflite").read_bytes()
        except OSError:
            raise
        except Exception as error:  # the converter raises anything
            raise CompoundNetError(f"litert-torch cannot convert {net.spec.name}: {first_line(error)}") from error


def write_litert(model: bytes, described: ExportedModel, file: Path) -> None:
    """Write a model with its metadata and labels."""
    file.write_bytes(add_metadata(model, described))


def halve(model: bytes) -> bytes:
    """Return a model with float16 weights, which LiteRT widens when it loads them, or which a GPU takes as they are."""
    from ai_edge_quantizer import qtyping, quantizer, recipe  # noqa: PLC0415  an extra

    weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    how = qtyping.OpQuantizationConfig(
        weight_tensor_config=weights, compute_precision=qtyping.ComputePrecision.FLOAT, explicit_dequantize=True
    )
    with quiet():
        found = quantizer.Quantizer(model)
        found.update_quantization_recipe(
            ".*", qtyping.TFLOperationName.ALL_SUPPORTED, how, recipe.AlgorithmName.FLOAT_CASTING
        )
        return bytes(found.quantize().quantized_model)


class LitertQuantiser:
    """A model in int8: calibrated once, with any of its layers left in float32.

    Args:
        model: The float32 model.
        images: The images for calibration, each float32[C, H, W].
        described: The metadata of the files to write.

    Attributes:
        layers: The names of the layers that hold its multiply-adds, in order. What follows a layer up to the next one
            (activation, mean, product, sum) goes with it.
    """

    def __init__(self, model: bytes, images: Iterable[NDArray[np.float32]], described: ExportedModel) -> None:
        self._model, self._described = model, described
        self._groups = _groups(model)
        self.layers = tuple(self._groups)
        with quiet():
            fed = ({_INPUT: np.ascontiguousarray(image.transpose(1, 2, 0)[None])} for image in images)
            self._ranges: Any = None
            while some := list(islice(fed, _AT_ONCE)):
                self._ranges = self._quantiser().calibrate({_SIGNATURE: some}, self._ranges, num_threads=1)

    def write(self, file: Path, float32: Collection[str] = ()) -> None:
        """Write the model in int8, input and output too, apart from the layers in `float32`."""
        from ai_edge_quantizer import qtyping, recipe  # noqa: PLC0415  an extra

        with quiet():
            found = self._quantiser()
            for name in chain.from_iterable(self._groups[layer] for layer in float32):
                # The scope of an operator is the names of its outputs, each followed by a semicolon.
                found.update_quantization_recipe(
                    f"^{re.escape(name)};?$",
                    qtyping.TFLOperationName.ALL_SUPPORTED,
                    algorithm_key=recipe.AlgorithmName.NO_QUANTIZE,
                )
            model = bytes(found.quantize(self._ranges, enable_progress_report=False).quantized_model)
        write_litert(model, self._described, file)

    def _quantiser(self) -> Any:
        from ai_edge_quantizer import quantizer, recipe  # noqa: PLC0415  an extra

        return quantizer.Quantizer(self._model, recipe.static_wi8_ai8())


def _groups(model: bytes) -> dict[str, list[str]]:
    """The names of the outputs of each layer's operators, by the number of the layer and its module's name."""
    from ai_edge_litert.tools import flatbuffer_utils as tools  # noqa: PLC0415  an extra

    tree = tools.read_model_from_bytearray(bytearray(model))
    graph = tree.subgraphs[0]
    groups: dict[str, list[str]] = {}
    last: list[str] = []
    for operator in graph.operators:
        name = graph.tensors[operator.outputs[0]].name.decode()
        if tools.opcode_to_name(tree, operator.opcodeIndex) in _LAYERS:
            path = name.partition(";")[0].split("/")[-2:]
            module = ".".join(part.rpartition(".")[2] for part in path)
            last = groups.setdefault(f"{len(groups)} {module}", [])
        last.append(name)
    return groups
