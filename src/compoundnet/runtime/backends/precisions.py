"""Precisions: the number types that a session computes in, and the backends that run each of them on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.base.machine import has_bfloat16, processor
from compoundnet.runtime.backends.registry import AUTO, BACKENDS, Backend, names_of

if TYPE_CHECKING:
    from compoundnet.runtime.session_source import SessionSource

FLOAT32, BFLOAT16, FLOAT16, INT8 = "float32", "bfloat16", "float16", "int8"
PRECISIONS = (FLOAT32, BFLOAT16, FLOAT16, INT8)
# The compute capability of the first GPUs of NVIDIA that multiply bfloat16 in hardware.
_AMPERE = (8, 0)


class Way(NamedTuple):
    """A way to run a network: a backend in a precision."""

    backend: Backend
    precision: str

    def __str__(self) -> str:
        return f"{self.backend.name} {self.precision}"


def check_precision(precision: str) -> None:
    """Raise a CompoundNetError that names the nearest if there is no such precision; `auto` counts as one."""
    known = (*PRECISIONS, AUTO)
    if precision not in known:
        raise CompoundNetError(f"there is no precision {precision!r}{did_you_mean(precision, known)}")


def check_device(device: str) -> None:
    """Raise a CompoundNetError if torch cannot use the device on this machine."""
    if device != "cpu":
        from compoundnet.runtime.backends.torch import find_device  # noqa: PLC0415  imports torch, for GPUs only

        find_device(device)


def runnable(device: str = "cpu") -> tuple[Way, ...]:
    """Return the installed backends with the precisions that each runs on this machine, the default first.

    int8 is among them where a backend runs it; a model also needs an int8 form (`SessionSource.in_precision`). Not all
    backends run models that are no exported files (`Backend.folders`).

    Args:
        device: A device of torch. On one other than cpu only the backends of torch run.

    Raises:
        CompoundNetError: Torch cannot use the device here.
    """
    return tuple(
        Way(backend, precision)
        for backend in BACKENDS
        if backend.is_installed and (device == "cpu" or backend.devices)
        for precision in PRECISIONS
        if obstacle(backend, precision, device) is None
    )


def obstacle(backend: Backend, precision: str, device: str = "cpu") -> str | None:
    """Return a sentence that says why a backend cannot run a precision on this machine; None if it can.

    Raises:
        CompoundNetError: Torch cannot use the device here.
    """
    on_gpu = device != "cpu"
    supported = backend.gpu_precisions if on_gpu else backend.precisions
    if precision not in supported:
        return _not_supported(backend, precision, on_gpu)
    if precision == BFLOAT16 and not on_gpu and not has_bfloat16():
        return (
            f"bfloat16 on {backend.name} needs a processor with AMX or AVX512-BF16, and this one ({processor()}) has"
            " neither: take float32, or auto"
        )
    if on_gpu:
        return _missing_on_gpu(precision, device)
    return None


def _not_supported(backend: Backend, precision: str, on_gpu: bool) -> str:
    on_cpu = tuple(one for one in BACKENDS if precision in one.precisions and one.folders)
    on_gpus = tuple(one for one in BACKENDS if precision in one.gpu_precisions)
    able = [f"{names_of(on_cpu)} on a CPU"] if on_cpu else []
    able += [f"{names_of(on_gpus)} on a GPU (--device cuda)"] if on_gpus else []
    where = "a GPU" if on_gpu else "a CPU"
    return f"{backend.name} does not run {precision} on {where}; it runs on {', and on '.join(able)}"


def _missing_on_gpu(precision: str, device: str) -> str | None:
    import torch  # noqa: PLC0415  only GPUs need it

    from compoundnet.runtime.backends.torch import find_device  # noqa: PLC0415  imports torch

    found = find_device(device)
    if precision != BFLOAT16 or found.type != "cuda":
        return None
    if torch.cuda.get_device_capability(found) < _AMPERE:
        return f"{torch.cuda.get_device_name(found)} has no arithmetic in bfloat16: take float16 or float32"
    return None


def ways_of(source: SessionSource, able: tuple[Backend, ...], device: str = "cpu") -> tuple[Way, ...]:
    """Return the ways among which `auto` chooses: installed backends in the precisions that they and the model have.

    Args:
        source: The network.
        able: The backends that can run it. One that is not for `auto` is left out, unless it is the only one.
        device: The device of torch.

    Raises:
        CompoundNetError: None of the backends is installed; the message says what to install.
    """
    tried = [one for one in able if one.is_installed and (one.in_auto or len(able) == 1)]
    if not tried:
        for backend in able:
            backend.check_installed()
    found = [
        Way(backend, precision)
        for backend in tried
        for precision in PRECISIONS
        if precision == source.precision or obstacle(backend, precision, device) is None
    ]
    return tuple(way for way in found if _has_form(source, way.precision))


def _has_form(source: SessionSource, precision: str) -> bool:
    try:
        source.in_precision(precision)
    except CompoundNetError:
        return False
    return True


def first_backend(able: tuple[Backend, ...], precision: str, device: str = "cpu") -> Backend:
    """Return the first of these backends that runs a precision here; one that is not installed only if none is.

    Raises:
        CompoundNetError: None of them can; the message says why.
    """
    obstacles = {backend: obstacle(backend, precision, device) for backend in able}
    found = sorted(
        (backend for backend, reason in obstacles.items() if reason is None), key=lambda one: not one.is_installed
    )
    if not found:
        # The reason of a backend that runs it on other machines says most.
        reasons = sorted(obstacles.items(), key=lambda item: precision not in item[0].precisions)
        raise CompoundNetError(reasons[0][1])
    return found[0]
