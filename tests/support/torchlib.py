"""The exporter's table of operators, made once for a process: making it is a third of the export of a small network."""

from __future__ import annotations

import functools
import sys

_TABLE = "torch.onnx._internal.exporter._registration"


def share_torchlib() -> None:
    """Let all further exports of this process share the table, if there was one."""
    if _TABLE not in sys.modules:
        return
    library = sys.modules[_TABLE].onnxscript_apis
    if not hasattr(library.get_torchlib_ops, "cache_info"):
        library.get_torchlib_ops = functools.cache(library.get_torchlib_ops)
