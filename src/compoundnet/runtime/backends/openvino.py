"""OpenVINO: a network is compiled for this processor once and kept in the cache."""

from __future__ import annotations

import errno
import io
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError, first_line
from compoundnet.base.machine import instruction_sets
from compoundnet.runtime.cache import stored
from compoundnet.runtime.session_source import Run, SessionSource

if TYPE_CHECKING:
    import openvino

_COMPILED = "compiled.blob"


def open_openvino(source: SessionSource, threads: int) -> Run:
    """Open a network on OpenVINO; compile it if it is not in the cache. Images run one at a time."""
    identity = source.identified("compoundnet", "openvino", *(["onnx", "torch"] if source.module else []))
    if identity is not None:
        identity |= {"processor": instruction_sets()}
    with stored("openvino", source.name, identity, partial(_compile, source), "compiling for OpenVINO") as folder:
        compiled = _import((folder / _COMPILED).read_bytes(), threads)
    request, output = compiled.create_infer_request(), compiled.output(0)

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        singles = (images[index : index + 1] for index in range(len(images)))
        return np.concatenate([request.infer([one])[output] for one in singles])

    return run


def read_graph(file: Path) -> openvino.Model:
    """Read an ONNX file or OpenVINO's IR. Raises CompoundNetError if it cannot be read."""
    import openvino  # noqa: PLC0415  an extra; exports to ONNX import this module without it

    try:
        return openvino.Core().read_model(file)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise CompoundNetError(f"{file}: OpenVINO cannot read it, it is damaged: {reason}") from error


def compile_graph(graph: openvino.Model, threads: int) -> openvino.CompiledModel:
    """Compile a graph for the CPU, in float32 even where OpenVINO would choose a narrower type by default."""
    import openvino  # noqa: PLC0415  as above

    return openvino.Core().compile_model(graph, "CPU", _config(threads))


def write_graph(source: Path, target: Path, properties: Mapping[str, str]) -> None:
    """Write an ONNX file as OpenVINO's IR, with its float32 weights unchanged and `properties` as its metadata."""
    import openvino  # noqa: PLC0415  as above

    graph = read_graph(source)
    for key, value in properties.items():
        graph.set_rt_info(value, key.split("."))
    try:
        openvino.save_model(graph, target, compress_to_fp16=False)
    except RuntimeError as error:
        raise OSError(errno.EIO, f"OpenVINO cannot write there: {first_line(error)}") from error


def _config(threads: int) -> dict[str, str | int]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
    }


def _compile(source: SessionSource, folder: Path) -> None:
    # Compiled for one thread, but valid for any number of threads: it is set again when the result is read back.
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        compiled = compile_graph(_graph(source, Path(scratch) / "plain.onnx"), threads=1)
        (folder / _COMPILED).write_bytes(compiled.export_model().getvalue())


def _import(compiled: bytes, threads: int) -> openvino.CompiledModel:
    import openvino  # noqa: PLC0415  as above

    return openvino.Core().import_model(io.BytesIO(compiled), "CPU", _config(threads))


def _graph(source: SessionSource, scratch: Path) -> openvino.Model:
    """The graph of the source for one image at a time; `scratch` is a folder for temporary files."""
    if source.exported is not None:
        graph = read_graph(source.exported.file)
        shape = graph.input(0).partial_shape
        shape[0] = 1
        graph.reshape(shape)
        return graph
    from compoundnet.runtime.onnx_graph import write_onnx  # noqa: PLC0415  imports torch

    assert source.module is not None and source.size is not None
    write_onnx(source.module(), scratch, channels=source.channels, size=source.size, one_file=False)
    return read_graph(scratch)
