"""The ways in which a run ends before its last step: a request to stop, divergence, or a failure of torch.compile."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from compoundnet.base import CompoundNetError, first_line

if TYPE_CHECKING:  # both import torch, which a command that only waits for workers does not need
    from compoundnet.train.checkpoints import Checkpoints
    from compoundnet.train.recipe import Recipe


class InterruptedRunError(CompoundNetError):
    """The run was asked to stop and has saved a checkpoint."""


class DivergedError(CompoundNetError):
    """The loss or a weight is not a finite number."""


class Stop:
    """A request to stop: SIGTERM (from SLURM, Kubernetes or `kill`) or Ctrl-C.

    Inside its `with` block the first signal sets `asked`; a second one has its usual effect.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # Python allows it only there
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _ask(self, number: int, _: FrameType | None) -> None:
        self.asked = True
        signal.signal(number, self._before[number])


def interrupted(step: int, until: int, checkpoints: Checkpoints) -> InterruptedRunError:
    """Return the error for a run that stops after a step of `until`, because it was asked to."""
    paths = checkpoints.paths()
    last = f"--resume continues from {paths[-1]}" if paths else "no checkpoint was saved yet"
    return InterruptedRunError(f"stopped after step {step} of {until}, as asked; {last}")


def diverged(what: str, recipe: Recipe, checkpoints: Checkpoints) -> DivergedError:
    """Return the error for a run that diverged, with advice: the same settings would diverge again.

    Args:
        what: The quantity that is not finite, and the step.
        recipe: The run's recipe.
        checkpoints: The run's checkpoints.
    """
    change = f"--set lr={recipe.lr / 3:.2g}"
    change += " or --set precision=bf16" if recipe.precision == "fp16" else ""
    paths = checkpoints.paths()
    if not paths:
        return DivergedError(f"{what}, and no checkpoint was saved yet: start again with {change}")
    return DivergedError(
        f"{what}. The last good checkpoint is {paths[-1]}: resume from it with --resume {change} (remove it to go back"
        f" further), or start again with --force {change}"
    )


@contextlib.contextmanager
def readable_compile_errors() -> Iterator[None]:
    """Turn the exceptions of torch.compile, raised in the first step, into one line that says what to do."""
    from torch._dynamo.exc import TorchDynamoException  # noqa: PLC0415  takes a second, and only --compile needs it

    try:
        yield
    except TorchDynamoException as error:
        raise CompoundNetError(
            f"torch.compile failed: {first_line(error)}. It needs a C++ compiler (Debian, Ubuntu: apt install"
            " g++; macOS: xcode-select --install; another one: the variable CXX); or train without --compile"
        ) from error
