"""Optional libraries: which extra of this package installs them, and names that are loaded on first use.

The base install plans networks and runs exported files. Whatever else is asked for and not installed ends in a
MissingLibraryError, which says what to install.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lazy_loader import attach_stub

from compoundnet.base.errors import CompoundNetError

# Extra -> the libraries that it installs, by the names they are imported by. pyproject.toml lists what to download. A
# library of several extras stands under the one that is named where nothing says what it is for.
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "torch": ("torch", "huggingface_hub", "onnx_ir", "onnxscript", "scipy"),
    "train": ("lightning", "simplejpeg", "sklearn", "tensorboard", "torchvision"),
    "search": ("optuna", "sqlalchemy"),
    "explain": ("pytorch_grad_cam",),
    "serve": ("anyio", "starlette", "uvicorn"),
    "paper": ("jinja2", "matplotlib"),
    "openvino": ("openvino",),
    "keras": ("h5py",),
    "parquet": ("pyarrow",),
    "postgresql": ("psycopg",),
    "peers": ("efficientnet_pytorch", "timm", "transformers"),
}
_EXTRA_OF = {library: extra for extra, libraries in EXTRAS.items() for library in libraries}


class MissingLibraryError(CompoundNetError, ImportError):
    """An optional library is not installed; the message says which extra installs it."""

    def __init__(self, what: str, library: str, extra: str) -> None:
        super().__init__(f"{what} needs {library}: pip install 'compoundnet[{extra}]'")
        self.library = library
        self.extra = extra


def need(library: str, what: str, extra: str | None = None) -> None:
    """Raise MissingLibraryError where a library is not installed; call it before the work starts.

    Args:
        library: the name it is imported by.
        what: what needs it, as the message's subject: `reading Keras files`.
        extra: the extra to name; the one that EXTRAS lists the library under unless given.
    """
    if importlib.util.find_spec(library) is None:
        raise MissingLibraryError(what, library, extra or _EXTRA_OF[library])


@contextmanager
def naming_extras(what: str, extra: str | None = None) -> Iterator[None]:
    """Raise MissingLibraryError where an optional library is imported inside the block and is not installed.

    Args:
        what: what needs it, as the message's subject.
        extra: the extra to name; the one that EXTRAS lists the library under unless given.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA_OF:
            raise
        raise MissingLibraryError(what, error.name, extra or _EXTRA_OF[error.name]) from error


def attach(
    package: str, file: str, extra: str | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` of a package that loads its names on first use.

    Args:
        package: the package's `__name__`.
        file: its `__file__`. The names are those that the `__init__.pyi` beside it imports.
        extra: the extra that the package as a whole needs, where it needs one.
    """
    load, names, listed = attach_stub(package, file)

    def load_or_name_extra(name: str) -> Any:
        what = f"{package}.{name}"
        try:
            with naming_extras(what, extra):
                return load(name)
        except MissingLibraryError as error:  # of a package below: the name that was asked for says more
            raise MissingLibraryError(what, error.library, extra or error.extra) from error

    return load_or_name_extra, names, listed
