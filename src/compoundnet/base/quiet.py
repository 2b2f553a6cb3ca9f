"""Silence for libraries that write to stdout and stderr whatever their caller wants."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discard what is written to stdout and stderr inside the block, from Python and from C++, and warnings.

    It concerns the whole process: keep the block short where other threads may have something to say.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123  a descriptor is needed
        for descriptor in (1, 2):
            os.dup2(nowhere.fileno(), descriptor)
        try:
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")
                yield
        finally:
            for descriptor, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)
