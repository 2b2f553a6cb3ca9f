"""The exponential moving average of weights and batch-norm statistics, as a separate network for evaluation."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from compoundnet.nn import ConvNet
from compoundnet.train.schedule import average_decay


class Average:
    """The average of a network over its steps.

    It starts as a copy of the network, as in TensorFlow, and decays faster at first: min(decay, (1 + n) / (10 + n))
    after n steps.

    Attributes:
        decay: The limit of the decay; 0 keeps no average.
        net: The average as a network in eval mode; with decay 0, the network last passed to `follow`.
    """

    def __init__(self, net: ConvNet, decay: float) -> None:
        self.decay = decay
        self.net: ConvNet = copy.deepcopy(net).eval().requires_grad_(False)
        self.net.set_grad_checkpointing(False)
        self._source: ConvNet | None = None
        self._pairs: tuple[list[Tensor], list[Tensor]] = ([], [])

    @torch.no_grad()
    def update(self, net: ConvNet, steps: int) -> None:
        """Update the average with the network after step number `steps`, counted from 1."""
        # Listed once: walking through all modules takes longer than the arithmetic on a small network. The tensor
        # objects do not change, as an optimiser requires too.
        if net is not self._source:
            self._source, self._pairs = net, (_tensors(self.net), _tensors(net))
        torch._foreach_lerp_(*self._pairs, 1 - average_decay(self.decay, steps))

    @torch.no_grad()
    def follow(self, net: ConvNet) -> None:
        """Copy the network unchanged if no average is kept."""
        for mine, theirs in zip(_tensors(self.net), _tensors(net), strict=True):
            mine.copy_(theirs)


def _tensors(net: ConvNet) -> list[Tensor]:
    """List all weights and statistics, or the part on this process (FSDP), without batch norm's step counters."""
    tensors = [tensor for tensor in net.state_dict().values() if tensor.is_floating_point()]
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
