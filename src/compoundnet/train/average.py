"""The exponential moving average of weights and batch-norm statistics, as a network of its own to evaluate."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from compoundnet.nn import ConvNet
from compoundnet.train.schedule import average_decay


class Average:
    """`net` holds the average, in eval mode; with decay 0 it holds what it was last updated from.

    It starts as the network itself, as TensorFlow's does, and decays faster at first: min(decay, (1 + n) / (10 + n))
    after n steps.
    """

    def __init__(self, net: ConvNet, decay: float) -> None:
        self.decay = decay
        self.net: ConvNet = copy.deepcopy(net).eval().requires_grad_(False)
        self.net.set_grad_checkpointing(False)
        self._source: ConvNet | None = None
        self._pairs: tuple[list[Tensor], list[Tensor]] = ([], [])

    @torch.no_grad()
    def update(self, net: ConvNet, steps: int) -> None:
        """After step number `steps`, the first being 1."""
        # Listed once: a walk through all modules takes longer than the arithmetic on a small network. The tensors stay
        # the same ones for as long as an optimiser may hold them.
        if net is not self._source:
            self._source, self._pairs = net, (_tensors(self.net), _tensors(net))
        torch._foreach_lerp_(*self._pairs, 1 - average_decay(self.decay, steps))

    @torch.no_grad()
    def follow(self, net: ConvNet) -> None:
        """Without an average: become the network as it is."""
        for mine, theirs in zip(_tensors(self.net), _tensors(net), strict=True):
            mine.copy_(theirs)


def _tensors(net: ConvNet) -> list[Tensor]:
    """All weights and statistics, in one order, or this process's share of them (FSDP).

    Batch norm's step counters are no numbers to average.
    """
    tensors = [tensor for tensor in net.state_dict().values() if tensor.is_floating_point()]
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
