"""Being asked to stop: SIGTERM (SLURM, Kubernetes, `kill`) or Ctrl-C."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from compoundnet.base import CompoundNetError


class InterruptedRunError(CompoundNetError):
    """The run was asked to stop, and has saved where it is."""


class Stop:
    """While entered, the first SIGTERM or Ctrl-C sets `asked`; a second acts as it would have."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # Python allows it nowhere else
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
