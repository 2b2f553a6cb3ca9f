"""A network as torch.export's archive (.pt2), which torch runs without this package."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import torch
from torch.fx.experimental import _config

from compoundnet.arch.spec import MIN_RESOLUTION
from compoundnet.models import ExportedModel
from compoundnet.nn import ConvNet
from compoundnet.runtime.onnx_graph import Half


def write_archive(net: ConvNet, described: ExportedModel, path: Path) -> None:
    """Write a network with folded norms, which may be changed; `described` holds the precision and the dynamic
    dimensions."""
    net.to(memory_format=torch.contiguous_format)  # as it is read: channels_last rounds otherwise
    size = described.preprocess.size
    example = torch.zeros(2 if described.dynamic_batch else 1, net.spec.in_channels, size, size)
    dynamic: dict[int, torch.export.Dim] = {}
    if described.dynamic_batch:
        dynamic[0] = torch.export.Dim("batch", min=1)
    if described.dynamic_size:
        dynamic |= {axis: torch.export.Dim(name, min=MIN_RESOLUTION) for axis, name in ((2, "height"), (3, "width"))}
    module = Half(net) if described.precision == "float16" else net
    # Without the patch torch.export refuses sizes at which a map is 1 px wide, because it might treat those as a
    # special case.
    sizes_alike = _config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]  # made at import
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad(), sizes_alike:
        warnings.simplefilter("ignore")  # a warning of torch.export about its future
        program = torch.export.export(module, (example,), dynamic_shapes=(dynamic,) if dynamic else None)
        content = io.BytesIO()  # torch's writer aborts the process if it cannot write to a file
        torch.export.save(program, content, extra_files=dict(described.properties()))
    path.write_bytes(content.getbuffer())
