"""A network as torch.export's archive (.pt2), which torch runs without this package."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.experimental import _config

from compoundnet.arch.spec import MIN_RESOLUTION
from compoundnet.nn import ConvNet
from compoundnet.nn.units import ConvNorm
from compoundnet.runtime.exported import Exported
from compoundnet.runtime.onnx_graph import Half


def write_archive(net: ConvNet, described: Exported, path: Path) -> None:
    """Write a network with folded norms; `described` says in which precision and which dimensions are dynamic."""
    size = described.preprocess.size
    example = torch.zeros(2 if described.dynamic_batch else 1, net.spec.in_channels, size, size)
    dynamic: dict[int, torch.export.Dim] = {}
    if described.dynamic_batch:
        dynamic[0] = torch.export.Dim("batch", min=1)
    if described.dynamic_size:
        dynamic |= {axis: torch.export.Dim(name, min=MIN_RESOLUTION) for axis, name in ((2, "height"), (3, "width"))}
    module: nn.Module = _with_padding_by_size(net) if described.dynamic_size else net
    if described.precision == "float16":
        module = Half(module)
    # Without the patch torch.export refuses sizes at which a map is 1 px wide, because it might treat those apart.
    sizes_alike = _config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]  # made at import
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad(), sizes_alike:
        warnings.simplefilter("ignore")  # torch.export's own, about its future
        program = torch.export.export(module, (example,), dynamic_shapes=(dynamic,) if dynamic else None)
        torch.export.save(program, path, extra_files=dict(described.properties()))


def _with_padding_by_size(net: ConvNet) -> ConvNet:
    """A copy that pads as TensorFlow's SAME without asking whether the padding is even, which would fix the size."""
    net = copy.deepcopy(net)
    for name, module in list(net.named_modules()):
        if isinstance(module, ConvNorm) and module.pad_same:
            conv = module.conv
            module.pad_same, conv.padding = False, (0, 0)
            net.set_submodule(name, nn.Sequential(_Pad(conv.kernel_size[0], conv.stride[0]), module))
    return net


class _Pad(nn.Module):
    """TensorFlow's SAME padding. The kernel is at least the stride, so it is never negative."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        height, width = (
            (-(-side // self.stride) - 1) * self.stride + self.kernel - side for side in (x.shape[-2], x.shape[-1])
        )
        return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
