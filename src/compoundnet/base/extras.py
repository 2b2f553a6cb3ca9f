"""Optional libraries: the extras of this package that install them, and names that are loaded on first use.

The base install plans networks and runs exported files. If anything else is requested but not installed, a
MissingLibraryError says what to install.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lazy_loader import attach_stub

from compoundnet.base.errors import CompoundNetError

_TORCH = ("torch", "huggingface_hub", "onnx_ir", "onnxscript", "scipy")
_SERVICE = ("anyio", "prometheus_client", "python_multipart", "starlette", "uvicorn")
_TRAIN = (
    *_TORCH,
    "jinja2",
    "lightning_fabric",
    "markupsafe",
    "matplotlib",
    "simplejpeg",
    "sklearn",
    "tensorboard",
    "threadpoolctl",
    "torchvision",
)
# Extra -> the libraries that it installs, by their import names; pyproject.toml lists the distributions. A library of
# several extras belongs to the first one unless the purpose is known.
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "torch": _TORCH,
    "paper": ("jinja2", "markupsafe", "matplotlib", "scipy"),
    "train": _TRAIN,
    "search": (*_TRAIN, "optuna", "sqlalchemy"),
    "explain": (*_TORCH, "matplotlib", "pytorch_grad_cam"),
    "serve": (*_SERVICE, "matplotlib", "scipy"),
    "service": _SERVICE,
    "openvino": ("openvino",),
    "litert": (*_TORCH, "ai_edge_litert", "ai_edge_quantizer", "flatbuffers", "litert_torch"),
    "coreml": (*_TORCH, "coremltools"),
    "keras": (*_TORCH, "h5py"),
    "parquet": ("pyarrow",),
    "heif": ("pillow_heif",),
    "postgresql": (*_TRAIN, "optuna", "sqlalchemy", "psycopg"),
    "peers": (*_TORCH, "efficientnet_pytorch", "timm", "torchvision", "transformers"),
}


def _extra_of(library: str, preferred: str | None) -> str | None:
    """Return the extra to name for a library; None if no extra installs it."""
    if preferred is not None and library in EXTRAS[preferred]:
        return preferred
    return next((extra for extra, libraries in EXTRAS.items() if library in libraries), None)


class MissingLibraryError(CompoundNetError, ImportError):
    """An optional library is not installed; the message says which extra installs it."""

    def __init__(self, what: str, library: str, extra: str) -> None:
        super().__init__(f"{what} needs {library}: pip install 'compoundnet[{extra}]'")
        self.library = library
        self.extra = extra


def need(library: str, what: str, extra: str | None = None) -> None:
    """Raise MissingLibraryError if a library is not installed; call this before the work starts.

    Args:
        library: The import name of the library.
        what: The feature that needs it, as the subject of the message, such as `reading Keras files`.
        extra: The extra to name, if it installs the library.
    """
    if importlib.util.find_spec(library) is None:
        named = _extra_of(library, extra)
        assert named is not None
        raise MissingLibraryError(what, library, named)


@contextmanager
def naming_extras(what: str, extra: str | None = None) -> Iterator[None]:
    """Raise MissingLibraryError if an optional library that is imported inside the block is not installed.

    Args:
        what: The feature that needs it, as the subject of the message.
        extra: The extra to name, if it installs the library.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        named = _extra_of(error.name or "", extra)
        if named is None:
            raise
        raise MissingLibraryError(what, str(error.name), named) from error


def attach(
    package: str, file: str, extra: str | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` of a package that loads its names on first use.

    Args:
        package: The package's `__name__`.
        file: The package's `__file__`. The names are those imported by the `__init__.pyi` next to it.
        extra: The extra to name, if it installs the missing library.
    """
    load, names, listed = attach_stub(package, file)

    def load_or_name_extra(name: str) -> Any:
        what = f"{package}.{name}"
        try:
            with naming_extras(what, extra):
                return load(name)
        except MissingLibraryError as error:  # raised by a lower package: the requested name is more informative
            raise MissingLibraryError(what, error.library, _extra_of(error.library, extra) or error.extra) from error

    return load_or_name_extra, names, listed
