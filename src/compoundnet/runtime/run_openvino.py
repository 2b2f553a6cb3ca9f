"""Runs a network on OpenVINO; the converted graph, and what OpenVINO compiles of it, are kept in the cache."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compoundnet.arch import CompoundNetError
from compoundnet.runtime.cache import stored
from compoundnet.runtime.sources import Source

if TYPE_CHECKING:
    import openvino

_MODEL = "model.xml"


def open_openvino(source: Source, threads: int) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Logits of pictures, one at a time, on that many threads."""
    identity = source.identified("compoundnet", "openvino", *(["onnx", "torch"] if source.module else []))
    with stored("openvino", source.name, identity, partial(_convert, source), "converting for OpenVINO") as folder:
        compiled = compile_graph(read_graph(folder / _MODEL), threads)
    request, output = compiled.create_infer_request(), compiled.output(0)

    def run(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        singles = (pictures[index : index + 1] for index in range(len(pictures)))
        return np.concatenate([request.infer([one])[output] for one in singles])

    return run


def read_graph(file: Path) -> openvino.Model:
    """An ONNX file or OpenVINO's IR. Raises CompoundNetError where it cannot be read."""
    import openvino

    try:
        return openvino.Core().read_model(file)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise CompoundNetError(f"{file}: OpenVINO cannot read it, it is damaged: {reason}") from error


def compile_graph(graph: openvino.Model, threads: int) -> openvino.CompiledModel:
    """The graph for the CPU, in float32 where the processor would take a narrower type by itself."""
    import openvino

    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    return openvino.Core().compile_model(graph, "CPU", config)


def write_graph(source: Path, target: Path, properties: Mapping[str, str]) -> None:
    """Write an ONNX file as OpenVINO's IR with float32 weights kept as they are, and what it says of itself."""
    import openvino

    graph = read_graph(source)
    for key, value in properties.items():
        graph.set_rt_info(value, key.split("."))
    openvino.save_model(graph, target, compress_to_fp16=False)


def _convert(source: Source, folder: Path) -> None:
    import openvino

    if source.exported is not None:
        graph = read_graph(source.exported.file)
        shape = graph.input(0).partial_shape
        shape[0] = 1
        graph.reshape(shape)
        openvino.save_model(graph, folder / _MODEL, compress_to_fp16=False)
        return
    from compoundnet.runtime.onnx_graph import write_onnx

    assert source.module is not None and source.size is not None
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        onnx = Path(scratch) / "plain.onnx"
        write_onnx(source.module(), onnx, channels=source.channels, size=source.size, one_file=False)
        openvino.save_model(read_graph(onnx), folder / _MODEL, compress_to_fp16=False)
