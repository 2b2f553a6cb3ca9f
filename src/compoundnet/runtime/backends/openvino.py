"""OpenVINO: a network is compiled for this processor once and kept in the cache."""

from __future__ import annotations

import errno
import functools
import io
import os
import sys
import tempfile
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError, first_line
from compoundnet.base.machine import instruction_sets
from compoundnet.runtime.cache import stored
from compoundnet.runtime.session_source import Run, SessionSource

if TYPE_CHECKING:
    import openvino

_COMPILED = "compiled.blob"
_cores: dict[int, openvino.Core] = {}
_cores_lock = threading.Lock()


def open_openvino(source: SessionSource, threads: int, precision: str = "float32") -> Run:
    """Open a network on OpenVINO; compile it if it is not in the cache.

    One image runs on all threads, several run beside one another, each on one thread.
    """
    identity = source.identified("compoundnet", "openvino", *(["onnx", "torch"] if source.module else []))
    if identity is not None:
        identity |= {"processor": instruction_sets(), "precision": precision}
    make = partial(_compile, source, precision)
    with stored("openvino", source.name, identity, make, f"compiling for OpenVINO{_words(precision)}") as folder:
        content = (folder / _COMPILED).read_bytes()
    alone = _import(content, threads, precision)
    request, output = alone.create_infer_request(), alone.output(0)
    if threads == 1:
        return lambda images: np.concatenate([request.infer([one])[output] for one in _singles(images)])
    beside = _beside(_import(content, threads, precision, streams=threads), threads)
    return lambda images: beside(images) if len(images) > 1 else request.infer([images])[output].copy()


def _words(precision: str) -> str:
    return "" if precision == "float32" else f" in {precision}"


def _singles(images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return [images[index : index + 1] for index in range(len(images))]


def _beside(compiled: openvino.CompiledModel, threads: int) -> Run:
    """Run the images of a batch beside one another, each on one thread."""
    queue = _library().AsyncInferQueue(compiled, threads)

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        rows: list[NDArray[np.float32]] = [images[:0]] * len(images)

        def keep(request: openvino.InferRequest, index: int) -> None:
            rows[index] = request.get_output_tensor(0).data.copy()

        queue.set_callback(keep)
        for index, one in enumerate(_singles(images)):
            queue.start_async([one], index)
        queue.wait_all()
        return np.concatenate(rows)

    return run


@functools.cache
def _library() -> Any:
    """Import OpenVINO, without its telemetry.

    Its import (2026.4) sends an event to Google Analytics from a forked process and keeps a client id in the home
    folder, unless openvino_telemetry cannot be imported. `_core` calls this first, under its lock.
    """
    name = "openvino_telemetry"
    if name in sys.modules:  # another part of the program wants it
        import openvino  # noqa: PLC0415  an extra; exports to ONNX import this module without it
    else:
        sys.modules[name] = None  # type: ignore[assignment]  # an import of it raises ImportError
        try:
            import openvino  # noqa: PLC0415
        finally:
            del sys.modules[name]
    return openvino


def _core() -> openvino.Core:
    """This process's one Core, which is never freed.

    OpenVINO's CPU plugin, which a Core loads, replaces the thread's alternate signal stack with one of its own and
    frees that with itself (openvinotoolkit/openvino#11894). Of two Cores, freed in the order of their making or from
    another thread, one leaves the thread with a stack that is gone, and the next signal kills the process.
    """
    process = os.getpid()  # a forked process has none of the threads of its parent's
    with _cores_lock:
        if process not in _cores:
            _cores[process] = _library().Core()
        return _cores[process]


def read_graph(file: Path) -> openvino.Model:
    """Read an ONNX file or OpenVINO's IR. Raises CompoundNetError if it cannot be read."""
    try:
        return _core().read_model(file)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise CompoundNetError(f"{file}: OpenVINO cannot read it, it is damaged: {reason}") from error


def compile_graph(graph: openvino.Model, threads: int) -> openvino.CompiledModel:
    """Compile a graph for the CPU, in float32 even where OpenVINO would choose a narrower type by default."""
    return _core().compile_model(graph, "CPU", _config(threads, "float32"))


def write_graph(source: Path, target: Path, properties: Mapping[str, str]) -> None:
    """Write an ONNX file as OpenVINO's IR, with its float32 weights unchanged and `properties` as its metadata."""
    graph = read_graph(source)
    for key, value in properties.items():
        graph.set_rt_info(value, key.split("."))
    try:
        _library().save_model(graph, target, compress_to_fp16=False)
    except RuntimeError as error:
        raise OSError(errno.EIO, f"OpenVINO cannot write there: {first_line(error)}") from error


def _config(threads: int, precision: str, streams: int = 1) -> dict[str, str | int]:
    return {
        "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
    }


def _compile(source: SessionSource, precision: str, folder: Path) -> None:
    # Compiled for one thread, but valid for any number of threads: it is set again when the result is read back.
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        graph = _graph(source, Path(scratch) / "plain.onnx")
        compiled = _core().compile_model(graph, "CPU", _config(1, precision))
        (folder / _COMPILED).write_bytes(compiled.export_model().getvalue())


def _import(compiled: bytes, threads: int, precision: str, streams: int = 1) -> openvino.CompiledModel:
    return _core().import_model(io.BytesIO(compiled), "CPU", _config(threads, precision, streams))


def _graph(source: SessionSource, scratch: Path) -> openvino.Model:
    """The graph of the source for one image at a time; `scratch` is a folder for temporary files."""
    if source.exported is not None:
        file = source.exported.file
        if source.exported.with_preprocessing:
            import onnx  # noqa: PLC0415  only what the cache lacks needs it

            from compoundnet.runtime.onnx_preprocess import load_graph  # noqa: PLC0415  as above

            file = scratch
            onnx.save_model(load_graph(source.exported), file)
        graph = read_graph(file)
        shape = graph.input(0).partial_shape
        shape[0] = 1
        graph.reshape(shape)
        return graph
    from compoundnet.runtime.onnx_graph import write_source  # noqa: PLC0415  imports torch

    write_source(source, scratch)
    return read_graph(scratch)
