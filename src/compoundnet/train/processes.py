"""Communication between the processes of a run: sums, complete states of sharded weights, agreement on checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor

from compoundnet.base import CompoundNetError
from compoundnet.nn import ConvNet
from compoundnet.train.checkpoints import Checkpoints

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_GATHER = StateDictOptions(full_state_dict=True, cpu_offload=True)
_SPREAD = StateDictOptions(full_state_dict=True)


def total(fabric: Fabric, value: Tensor) -> Tensor:
    """Return the sum of `value` over all processes."""
    if fabric.world_size == 1:
        return value
    summed = fabric.all_reduce(value.clone(), reduce_op="sum")
    assert isinstance(summed, Tensor)
    return summed


def gathered(fabric: Fabric, lines: list[str]) -> list[str]:
    """Return the lines of all processes. All processes call it together."""
    return [line for process in range(fabric.world_size) for line in fabric.broadcast(lines, process)]


def newest_checkpoint(checkpoints: Checkpoints, fabric: Fabric) -> dict[str, Any] | None:
    """Load the newest checkpoint, the same on all processes; None if there is none.

    Raises:
        CompoundNetError: as `Checkpoints.load`; or a process cannot read the checkpoint that the first one chose.
            Several machines need a shared folder.
    """
    found: list[dict[str, Any] | None] = []
    on_first(lambda: found.append(checkpoints.load()), fabric)
    state = found[0] if found else None
    step = fabric.broadcast(None if state is None else state["run"]["step"])
    if step is None:
        return None
    if not fabric.is_global_zero:
        state = checkpoints.load_step(step)
    missing = int(total(fabric, torch.tensor(int(state is None), device=fabric.device)))
    if missing:
        raise CompoundNetError(
            f"{checkpoints.path(step)} cannot be read by {missing} of {fabric.world_size} processes: all machines must"
            " see the same output folder (-o)"
        )
    return state


def on_first(work: Callable[[], object], fabric: Fabric) -> None:
    """Call `work` on the first process; a CompoundNetError raised there is raised on all of them."""
    failure: CompoundNetError | None = None
    if fabric.is_global_zero:
        try:
            work()
        except CompoundNetError as error:
            failure = error
    failure = fabric.broadcast(failure)
    if failure is not None:
        raise failure


def share_statistics(net: ConvNet, fabric: Fabric) -> None:
    """Copy the batch-norm statistics of the first process, which are the ones saved, to all others."""
    if fabric.world_size > 1:
        for buffer in net.buffers():
            torch.distributed.broadcast(buffer, src=0)


def network_state(net: nn.Module) -> dict[str, Tensor]:
    """Return the complete tensors of a network by name, also under FSDP. All processes call it together."""
    return {
        name: tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        for name, tensor in net.state_dict().items()
    }


def load_network(net: nn.Module, state: dict[str, Tensor]) -> None:
    """Load what `network_state` returned."""
    if _is_shared(net):
        set_model_state_dict(net, dict(state), options=_SPREAD)
    else:
        net.load_state_dict(state)


def optimizer_state(net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the complete state of the optimiser of a network's parameters. All processes call it together."""
    return get_optimizer_state_dict(net, optimizer, options=_GATHER) if _is_shared(net) else optimizer.state_dict()


def load_optimizer(net: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load what `optimizer_state` returned."""
    if _is_shared(net):
        set_optimizer_state_dict(net, optimizer, state, options=_SPREAD)
    else:
        optimizer.load_state_dict(state)


def _is_shared(net: nn.Module) -> bool:
    return isinstance(next(net.parameters()), DTensor)
