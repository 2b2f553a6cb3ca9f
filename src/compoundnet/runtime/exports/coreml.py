"""A network as a Core ML package (.mlpackage), by coremltools. Core ML itself runs on macOS and iOS only, so elsewhere
the package is compared with the network by its structure."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch
from torch import nn

from compoundnet.base import CompoundNetError, first_line
from compoundnet.base.quiet import quiet
from compoundnet.models import ExportedModel
from compoundnet.nn import ConvNet

_INPUT, _OUTPUT = "images", "logits"


def write_coreml(net: ConvNet, described: ExportedModel, package: Path) -> None:
    """Write a package for iOS 15 and macOS 12 or later. Input `images` float32[1, C, size, size], output `logits`.

    Raises:
        CompoundNetError: coremltools cannot convert the network, or what it wrote has other inputs, outputs, layers or
            weights than the network.
    """
    with quiet(), torch.inference_mode(False), torch.no_grad():
        import coremltools  # noqa: PLC0415  an extra

        fused = net.fuse().eval()
        size = described.preprocess.size
        half = described.precision == "float16"
        example = torch.zeros(1, net.spec.in_channels, size, size)
        try:
            program = torch.export.export(_Named(fused), (example,)).run_decompositions({})
            _make_bounds_real(program)
            converted = coremltools.convert(
                program,
                convert_to="mlprogram",
                outputs=[coremltools.TensorType(_OUTPUT)],
                minimum_deployment_target=coremltools.target.iOS15,
                compute_precision=coremltools.precision.FLOAT16 if half else coremltools.precision.FLOAT32,
                skip_model_load=True,
            )
            converted.short_description = described.name
            for key, value in described.properties().items():
                converted.user_defined_metadata[key] = value
            converted.save(str(package))
        except OSError:
            raise
        except Exception as error:  # the converter raises anything
            raise CompoundNetError(f"coremltools cannot convert {described.name}: {first_line(error)}") from error
    _check(fused, described, package)


def _make_bounds_real(program: torch.export.ExportedProgram) -> None:
    """Make the bounds of ReLU6 floating-point numbers: torch writes 0 and 6, which coremltools takes for integers."""
    for node in program.graph.nodes:
        if node.target is torch.ops.aten.hardtanh.default:
            node.args = (node.args[0], *map(float, node.args[1:]))


class _Named(nn.Module):
    """A network whose input has the name that the package gives it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(images)
        return logits


def _check(net: nn.Module, described: ExportedModel, package: Path) -> None:
    """Compare names, shapes, layers and the size of the weights with those of the network."""
    import coremltools  # noqa: PLC0415  an extra

    spec = coremltools.models.MLModel(str(package), skip_model_load=True).get_spec()
    size, network = described.preprocess.size, described.network
    shapes = {
        value.name: list(value.type.multiArrayType.shape)
        for value in (*spec.description.input, *spec.description.output)
    }
    (function,) = spec.mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    operators = Counter(operation.type for operation in block.operations)
    modules = Counter(type(module) for module in net.modules())
    found = {
        _INPUT: shapes.get(_INPUT),
        "convolutions": operators["conv"],
        "fully connected layers": operators["linear"],
    }
    expected = {
        _INPUT: [1, network.in_channels, size, size],
        "convolutions": modules[nn.Conv2d],
        "fully connected layers": modules[nn.Linear],
    }
    weights = sum(tensor.numel() for tensor in net.parameters()) * (2 if described.precision == "float16" else 4)
    stored = sum(file.stat().st_size for file in package.rglob("weight.bin"))
    # Core ML aligns each tensor to 64 bytes, and keeps small ones in the program.
    if found != expected or _OUTPUT not in shapes or not 0.95 * weights < stored < 1.1 * weights + 65536:
        raise CompoundNetError(
            f"{package.name} was not kept: it holds {found} and {stored} bytes of weights, and the network {expected}"
            f" and {weights} bytes. Please report it, with the model and the version of coremltools"
        )
