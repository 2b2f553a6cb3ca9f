"""What a run tells whoever watches: the command line's progress bar, or nobody."""

from __future__ import annotations

import msgspec


class Epoch(msgspec.Struct, frozen=True):
    """One line of the log, after `step` steps; `held_*` on the held-out pictures, None where it was not evaluated.

    Losses are means over pictures, the training loss with label smoothing and augmentation; top-1 are fractions.
    """

    epoch: int
    step: int
    lr: float
    loss: float
    top1: float
    held_loss: float | None
    held_top1: float | None
    pictures_per_second: float


class Watcher:
    """Overridden by who wants to know. Called on the first process only."""

    def started(self, step: int, steps: int, batch: int) -> None:
        """Training goes on from `step`."""

    def stepped(self, step: int, loss: float) -> None:
        """After each step; the loss is that step's."""

    def epoch_ended(self, epoch: Epoch) -> None:
        """After each epoch."""

    def said(self, text: str) -> None:
        """Something a person should know."""
