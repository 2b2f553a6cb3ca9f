"""A training that ends in the middle as by kill -9, in this process."""

from __future__ import annotations

from compoundnet.train.status import Watcher


class Killed(BaseException):
    """Stands for kill -9: nothing in the engine catches it."""


class KillAt(Watcher):
    """Ends the training after a step; at 0 never."""

    def __init__(self, step: int) -> None:
        self._step = step

    def stepped(self, step: int, loss: float) -> None:
        if step == self._step:
            raise Killed
