"""LiteRT: a .tflite file, which runs as it is, on XNNPACK."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError, first_line
from compoundnet.base.quiet import quiet
from compoundnet.models.exported import unbounded
from compoundnet.runtime.session_source import Run, SessionSource

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter


def open_litert(source: SessionSource, threads: int) -> Run:
    """Open a .tflite file. Images run one at a time."""
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415  an extra; imported on demand

    assert source.exported is not None
    file = source.exported.file
    run = run_litert(file, threads)
    if schema.Model.GetRootAs(file.read_bytes()).SubgraphsLength() != 1:  # the bodies of loops
        raise unbounded(file, "a second subgraph")
    return run


def run_litert(file: Path, threads: int) -> Run:
    """Return a function that runs a .tflite file on images float32[N, C, H, W], whatever the type of its input."""
    interpreter = open_interpreter(file, threads)
    (given,), (out,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = []
        for image in images:
            interpreter.set_tensor(given["index"], _quantised(image.transpose(1, 2, 0)[None], given))
            interpreter.invoke()
            logits.append(_dequantised(interpreter.get_tensor(out["index"]), out))
        return np.concatenate(logits)

    return run


def open_interpreter(file: Path, threads: int) -> Interpreter:
    """Load a .tflite file. Raises CompoundNetError if it cannot be loaded."""
    from ai_edge_litert import interpreter  # noqa: PLC0415  an extra; the registry imports this module on demand

    try:
        with quiet():
            opened = interpreter.Interpreter(str(file), num_threads=threads)
            opened.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise CompoundNetError(f"{file}: LiteRT cannot load it, it is damaged: {first_line(error)}") from error
    return opened


def _quantised(values: NDArray[np.float32], tensor: dict[str, Any]) -> NDArray[Any]:
    """Values as the tensor holds them: int8 with its scale and zero point, or float32."""
    if tensor["dtype"] == np.float32:
        return np.ascontiguousarray(values, np.float32)
    scale, zero = tensor["quantization"]
    limits = np.iinfo(tensor["dtype"])
    found: NDArray[Any] = np.clip(np.rint(values / scale) + zero, limits.min, limits.max).astype(tensor["dtype"])
    return found


def _dequantised(values: NDArray[Any], tensor: dict[str, Any]) -> NDArray[np.float32]:
    if values.dtype == np.float32:
        return values
    scale, zero = tensor["quantization"]
    found: NDArray[np.float32] = (values.astype(np.float32) - zero) * np.float32(scale)
    return found
