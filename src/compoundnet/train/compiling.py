"""Where torch.compile fails. What it compiles shares its tensors with the network, which keeps their names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from compoundnet.base import CompoundNetError, first_line


@contextlib.contextmanager
def readable_compile_errors() -> Iterator[None]:
    """What the compiler raises at the first step, as one line that says what to do."""
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        raise CompoundNetError(
            f"torch.compile failed: {first_line(error)}. It needs a C++ compiler (Debian, Ubuntu: apt install"
            " g++; macOS: xcode-select --install; another one: the variable CXX); or train without --compile"
        ) from error
