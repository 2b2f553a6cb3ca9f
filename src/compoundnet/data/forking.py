"""Worker processes that begin as a fork of this one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def forks_quietly() -> Iterator[None]:
    """Ignore warnings about forking while other threads run: Python's, and JAX's, which litert-torch imports.

    They warn of locks that those threads hold. Workers that only decode images never wait for one.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        yield
