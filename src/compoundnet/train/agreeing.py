"""What several processes must agree on: the checkpoint they go on from, that one was saved, batch norm's statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from compoundnet.base import CompoundNetError
from compoundnet.nn import ConvNet
from compoundnet.train.checkpoints import Checkpoints
from compoundnet.train.counting import total

if TYPE_CHECKING:
    from lightning.fabric import Fabric


def newest(checkpoints: Checkpoints, fabric: Fabric) -> dict[str, Any] | None:
    """The newest checkpoint, the same on all processes; None where there is none.

    The first process chooses it. The others must find it too: several machines need a folder that they share.
    """
    state = checkpoints.load() if fabric.is_global_zero else None
    step = fabric.broadcast(None if state is None else state["place"]["step"])
    if step is None:
        return None
    if not fabric.is_global_zero:
        state = checkpoints.load(step)
    missing = int(total(fabric, torch.tensor(int(state is None), device=fabric.device)))
    if missing:
        raise CompoundNetError(
            f"{checkpoints.path(step)} cannot be read by {missing} of {fabric.world_size} processes: all machines must"
            " see the same output folder (-o)"
        )
    return state


def on_first(work: Callable[[], object], fabric: Fabric) -> None:
    """Done by the first process; the CompoundNetError that it raises is raised on all of them."""
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
    """Give every process the first one's batch-norm statistics, which are what is written."""
    if fabric.world_size > 1:
        for buffer in net.buffers():
            torch.distributed.broadcast(buffer, src=0)
