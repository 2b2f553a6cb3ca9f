"""The one list of backends, with the packages that each needs and the inputs that it accepts.

The help of the command line reads this list too, so this module imports no library that is slow to load.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from compoundnet.base import CompoundNetError, did_you_mean, need

if TYPE_CHECKING:
    from compoundnet.runtime.session_source import Run, SessionSource

AUTO = "auto"


class Backend(msgspec.Struct, frozen=True):
    """A library, or a way of using one, that runs networks.

    Attributes:
        name: The name in options, messages and results.
        package: The package that it needs, by its import name.
        open: Prepares a source to run with a number of threads on a device in a precision.
        formats: The suffixes of the exported files that it runs.
        extra: The extra of this package that installs it; None if the base install does.
        devices: Whether it runs on any device of torch; the others run on the CPU.
        any_size: Whether a session of a module takes images of any size, not only of the size it was opened for.
        whole_batch: Whether a batch runs as a whole, so that all of it must fit in memory.
        in_auto: Whether `auto` tries it.
        folders: Whether it runs models that are no exported files, and modules in memory.
        precisions: The precisions in which it runs networks on a CPU. An exported file it runs in the file's own too.
        gpu_precisions: The precisions in which it runs networks on a GPU.
        reopens: Whether it can be opened anew in a process that was forked from one where it ran. The threads of the
            others are gone there, and waiting for them never ends.
        shareable: Whether threads may run what it opened at the same time. The others hold the images of one call, or
            set the number of torch's threads for the whole process.
    """

    name: str
    package: str
    open: Callable[[SessionSource, int, str, str], Run]
    formats: tuple[str, ...]
    extra: str | None = None
    devices: bool = False
    any_size: bool = False
    whole_batch: bool = False
    in_auto: bool = True
    folders: bool = True
    precisions: tuple[str, ...] = ("float32",)
    gpu_precisions: tuple[str, ...] = ()
    reopens: bool = False
    shareable: bool = False

    @property
    def is_installed(self) -> bool:
        """Whether the required package is installed."""
        return importlib.util.find_spec(self.package) is not None

    def check_installed(self) -> None:
        """Raise a CompoundNetError that says what to install if the required package is missing."""
        if self.extra is not None:
            need(self.package, f"the backend {self.name}", self.extra)
        elif not self.is_installed:
            raise CompoundNetError(f"the backend {self.name} needs {self.package}: pip install {self.package}")


# Each library is imported when a session is opened on it.


def _open_onnxruntime(source: SessionSource, threads: int, _: str, __: str) -> Run:
    from compoundnet.runtime.backends.onnxruntime import open_onnxruntime  # noqa: PLC0415  only its own library

    return open_onnxruntime(source, threads)


def _open_torch(source: SessionSource, threads: int, device: str, precision: str) -> Run:
    from compoundnet.runtime.backends.torch import open_torch  # noqa: PLC0415  only its own library

    return open_torch(source, threads, device, precision)


def _open_compiled(source: SessionSource, threads: int, device: str, precision: str) -> Run:
    from compoundnet.runtime.backends.torch import open_compiled  # noqa: PLC0415  only its own library

    return open_compiled(source, threads, device, precision)


def _open_openvino(source: SessionSource, threads: int, _: str, precision: str) -> Run:
    from compoundnet.runtime.backends.openvino import open_openvino  # noqa: PLC0415  only its own library

    return open_openvino(source, threads, precision)


def _open_litert(source: SessionSource, threads: int, _: str, __: str) -> Run:
    from compoundnet.runtime.backends.litert import open_litert  # noqa: PLC0415  only its own library

    return open_litert(source, threads)


_GPU_PRECISIONS = ("float32", "bfloat16", "float16")
# The default first.
BACKENDS = (
    Backend(
        "onnxruntime",
        "onnxruntime",
        _open_onnxruntime,
        (".onnx",),
        precisions=("float32", "int8"),
        reopens=True,
        shareable=True,
    ),
    Backend(
        "torch",
        "torch",
        _open_torch,
        (".pt2",),
        extra="torch",
        devices=True,
        any_size=True,
        whole_batch=True,
        gpu_precisions=_GPU_PRECISIONS,
    ),
    # Not in auto: compiling takes up to a minute in every process.
    Backend(
        "compile",
        "torch",
        _open_compiled,
        (".pt2",),
        extra="torch",
        devices=True,
        any_size=True,
        whole_batch=True,
        in_auto=False,
        gpu_precisions=_GPU_PRECISIONS,
    ),
    Backend(
        "openvino",
        "openvino",
        _open_openvino,
        (".onnx", ".xml"),
        extra="openvino",
        precisions=("float32", "bfloat16", "int8"),
    ),
    Backend(
        "litert",
        "ai_edge_litert",
        _open_litert,
        (".tflite",),
        extra="litert",
        folders=False,
        precisions=("float32", "int8"),
    ),
)


def find_backend(name: str, *others: str) -> Backend:
    """Return the backend with the given name, installed or not.

    Args:
        name: The name of the backend.
        others: Further names that the caller accepts, for the message.

    Raises:
        CompoundNetError: There is no such backend; the message names the nearest.
    """
    found = next((backend for backend in BACKENDS if backend.name == name), None)
    if found is None:
        known = [*(backend.name for backend in BACKENDS), *others]
        raise CompoundNetError(f"there is no backend named {name!r}{did_you_mean(name, known)}")
    return found


def names_of(backends: tuple[Backend, ...]) -> str:
    """Return the names for a message: `torch or compile`."""
    return " or ".join(backend.name for backend in backends)
