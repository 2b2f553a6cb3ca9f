"""ONNX Runtime: a network is compiled for this processor once and kept in the cache.

Images run one at a time on each thread: on a CPU, running a batch as a whole is slower (its maps do not stay in the
cache of the processor), and threads that share one image wait for one another.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError, first_line
from compoundnet.base.machine import instruction_sets
from compoundnet.runtime.backends.blocked import keep_blocked, pad_squeezed
from compoundnet.runtime.cache import stored
from compoundnet.runtime.session_source import Run, SessionSource

if TYPE_CHECKING:
    import onnx
    import onnxruntime

# ONNX Runtime sends telemetry (1.32 does, on Linux too) and keeps a device id in the home folder, unless this
# variable is set in the environment before the import; calling its disable_telemetry_events() is too late.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_LOG = logging.getLogger(__name__)
_MODEL, _WEIGHTS = "model.onnx", "weights.bin"
# Above this difference the graph of `keep_blocked` computes a different function and is not used.
_SAME = 1e-5
# In the cache's identity: graphs that an older version of this module rewrote must not be reused.
_VERSION = "3"


def open_onnxruntime(source: SessionSource, threads: int) -> Run:
    """Open a network on ONNX Runtime; compile it if it is not in the cache."""
    identity = source.identified("compoundnet", "onnx", "onnxruntime", *(["torch"] if source.module else []))
    if identity is not None:
        identity |= {"processor": instruction_sets(), "version": _VERSION}
    make = partial(_compile, source)
    with stored("onnxruntime", source.name, identity, make, "compiling for ONNX Runtime") as folder:
        # Both files are loaded immediately, because the folder may be temporary.
        alone = raw_session(folder / _MODEL, threads=threads)
        beside = alone if threads == 1 else raw_session(folder / _MODEL)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="compoundnet-onnxruntime") if threads > 1 else None

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        singles = [images[index : index + 1] for index in range(len(images))]
        if pool is None or len(singles) == 1:
            logits = [_run(alone, one) for one in singles]
        else:
            logits = list(pool.map(lambda one: _run(beside, one), singles))
        return np.concatenate(logits)

    return run


def raw_session(file: Path, *, optimise: bool = False, threads: int = 1) -> onnxruntime.InferenceSession:
    """Open an `InferenceSession` of a file; nothing is kept in the cache.

    Args:
        file: An ONNX file.
        optimise: Whether to apply all of ONNX Runtime's optimisations, or none.
        threads: Threads of the session.

    Raises:
        CompoundNetError: The file cannot be loaded.
    """
    import onnxruntime  # noqa: PLC0415  not before ORT_DISABLE_TELEMETRY is set

    options = _options(threads)
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return _session(file, options)


def _run(session: onnxruntime.InferenceSession, images: NDArray[np.float32]) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: images})[0]
    return logits


def _options(threads: int) -> Any:
    import onnxruntime  # noqa: PLC0415  as above

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are not logged, because they are raised as exceptions too
    # Threads wait for work actively (by spinning), but only while an image is being processed.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _session(file: Path, options: Any, name: str | None = None) -> onnxruntime.InferenceSession:
    """`name`: the name of the model in error messages, if the file is an intermediate one."""
    import onnxruntime  # noqa: PLC0415  as above
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidProtobuf  # noqa: PLC0415

    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except InvalidProtobuf as error:
        raise CompoundNetError(f"{name or file} is no ONNX file, or it is damaged") from error
    except _loading_errors() as error:
        raise CompoundNetError(f"{name or file}: ONNX Runtime cannot load it: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The message of ONNX Runtime without its error code, the file's name, and the place in its C++ source."""
    said = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", first_line(error))
    said = re.sub(r"^Load model from .*? failed:", "", said)
    # A full path is followed by the signature of the function, a file name by the name of the function.
    return re.sub(r"^(/\S+:\d+ .*?\(.*?\)|\w+\.(cc|h):\d+ \w+) ", "", said)


def _loading_errors() -> tuple[type[Exception], ...]:
    """The exceptions that ONNX Runtime raises for a file that it cannot load; they have no common class."""
    from onnxruntime.capi import onnxruntime_pybind11_state as errors  # noqa: PLC0415  as above

    return (errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.NotImplemented)


def _compile(source: SessionSource, folder: Path) -> None:
    """Write the graph that runs fastest on this processor."""
    import onnx  # noqa: PLC0415  only what the cache lacks needs it

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        plain = Path(scratch) / "plain.onnx"
        model = _graph(source, plain)
        pad_squeezed(model)
        onnx.save_model(model, plain)
        options = _options(1)
        options.optimized_model_filepath = str(folder / _MODEL)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", _WEIGHTS)
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        try:
            _session(plain, options, source.name if source.exported is None else str(source.exported.file))
        except CompoundNetError as error:
            if "Failed to write" not in str(error):
                raise
            raise OSError(errno.ENOSPC, "ONNX Runtime cannot write there, most likely because it is full") from error
    optimised = onnx.load(folder / _MODEL, load_external_data=False)
    if not keep_blocked(optimised):
        return
    blocked = folder / "blocked.onnx"
    onnx.save_model(optimised, blocked)
    expected, found = (_run(raw_session(file), source.probe()) for file in (folder / _MODEL, blocked))
    with np.errstate(invalid="ignore"):  # infinite values of a damaged file
        same = np.abs(found - expected).max() <= _SAME * np.abs(expected).max()
    if same:
        blocked.replace(folder / _MODEL)
    else:
        _LOG.warning("%s: squeeze-excitation in channel blocks gives other results here; it is left out", source.name)
        blocked.unlink()


def _graph(source: SessionSource, scratch: Path) -> onnx.ModelProto:
    """The ONNX graph of the source for one image at a time; `scratch` is a folder for temporary files."""
    import onnx  # noqa: PLC0415  only what the cache lacks needs it

    from compoundnet.runtime.onnx_preprocess import load_graph  # noqa: PLC0415  as above

    if source.exported is None:
        from compoundnet.runtime.onnx_graph import write_source  # noqa: PLC0415  imports torch

        write_source(source, scratch)
        return onnx.load(scratch, load_external_data=False)
    model = load_graph(source.exported)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    return model
