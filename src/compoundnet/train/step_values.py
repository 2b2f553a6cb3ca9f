"""What a step reports: its values on their way to the CPU, and the requests among them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class StepValues(NamedTuple):
    """The values of a step on their way to the CPU, and the event after their copy from a GPU."""

    values: Tensor
    copied: torch.cuda.Event | None

    @classmethod
    def sent(cls, values: Tensor) -> StepValues:
        """Start copying, behind the kernels of this step alone.

        Reading the tensor on the GPU later would wait for everything queued by then, which includes the next step.
        """
        if values.device.type != "cuda":
            return cls(values, None)
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        return cls(host, copied)

    def read(self) -> list[float]:
        """Return the values, as soon as they have arrived."""
        if self.copied is not None:
            self.copied.synchronize()
        values: list[float] = self.values.tolist()
        return values


class Wanted(NamedTuple):
    """The requests that end a stretch of steps early."""

    stop: bool
    save: bool
