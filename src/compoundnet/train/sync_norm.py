"""Batch norm over the batches of all processes (the authors' TPU batch norm; tensorflow/tpu issue 806)."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from compoundnet.nn import ConvNet


def synchronise(net: ConvNet) -> None:
    """Synchronise every batch norm in place; names, weights and statistics do not change. The layer of torch needs
    GPUs."""
    if next(net.parameters()).is_cuda:
        nn.SyncBatchNorm.convert_sync_batchnorm(net)
        return
    for layer in net.modules():
        if type(layer) is nn.BatchNorm2d:
            layer.__class__ = CpuSyncBatchNorm  # the same fields; only forward differs


class CpuSyncBatchNorm(nn.BatchNorm2d):
    """Batch norm with sums over all processes; gradients flow through the sums, as in one large batch."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # nn.BatchNorm2d's own name
        if not self.training:
            return super().forward(input)
        x = input.float()
        count = x.new_tensor([x.numel() / x.shape[1]])
        sums: Tensor = all_reduce(torch.cat([x.sum((0, 2, 3)), count]))
        total = sums[-1]
        mean = sums[:-1] / total
        centred = x - mean[:, None, None]
        # First the mean, then the squared deviations: a single pass over both would lose digits by cancellation.
        variance: Tensor = all_reduce(centred.square().sum((0, 2, 3))) / total
        self._remember(mean.detach(), variance.detach(), float(total.detach()))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: float) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None and dist.is_initialized()
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)
