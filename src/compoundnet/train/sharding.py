"""Whole state dicts of networks and optimisers, whether their tensors are shared out among processes (FSDP) or not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor

_GATHER = StateDictOptions(full_state_dict=True, cpu_offload=True)
_SPREAD = StateDictOptions(full_state_dict=True)


def network_state(net: nn.Module) -> dict[str, Tensor]:
    """Whole tensors by name. Called by all processes together."""
    return {
        name: tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        for name, tensor in net.state_dict().items()
    }


def load_network(net: nn.Module, state: dict[str, Tensor]) -> None:
    """From whole tensors."""
    if _is_shared(net):
        set_model_state_dict(net, dict(state), options=_SPREAD)
    else:
        net.load_state_dict(state)


def optimizer_state(net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Of the optimiser of a network's parameters."""
    return get_optimizer_state_dict(net, optimizer, options=_GATHER) if _is_shared(net) else optimizer.state_dict()


def load_optimizer(net: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """From `optimizer_state`."""
    if _is_shared(net):
        set_optimizer_state_dict(net, optimizer, state, options=_SPREAD)
    else:
        optimizer.load_state_dict(state)


def _is_shared(net: nn.Module) -> bool:
    return isinstance(next(net.parameters()), DTensor)
