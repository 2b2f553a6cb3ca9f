"""Which processors take part, and how: one process, several (DDP), or several with the weights shared out (FSDP).

Lightning's Fabric finds GPUs, starts processes (or joins those of torchrun and SLURM) and holds precision. The loop
itself is ours (`engine`): a resumed run must equal an uninterrupted one to the bit, at any step, and Lightning's
Trainer spreads its place in the data over counters that do not restore it.
"""

from __future__ import annotations

import atexit
import os
import warnings
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from compoundnet.base import CompoundNetError
from compoundnet.train.recipe import Recipe

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from torch import nn

_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


class Hardware(msgspec.Struct, frozen=True):
    """`devices` a node: GPUs, or processes on the CPU; 0 is all GPUs, else one process. torchrun and SLURM decide both
    counts themselves."""

    devices: int = 0
    nodes: int = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"


def launch(hardware: Hardware, recipe: Recipe | None = None) -> Fabric:
    """Start or join the processes; each goes on from here. Without a recipe: for evaluation, in float32.

    Raises CompoundNetError where the machine lacks what is asked for.
    """
    from lightning.fabric import Fabric

    devices, nodes = process_counts(hardware)
    processes = devices * nodes
    one = processes == 1 and hardware.strategy == "auto"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of counts and plugins it has chosen
            fabric = Fabric(
                accelerator=hardware.accelerator,
                devices=devices,
                num_nodes=nodes,
                strategy="auto" if one else _strategy(hardware, recipe, processes),
                precision=_PRECISION[recipe.precision if recipe else "fp32"],  # type: ignore[arg-type]  # one of its names
            )
            fabric.launch()
    except (ValueError, RuntimeError) as error:  # what Fabric raises for devices that are not there
        raise CompoundNetError(f"this machine cannot run it so: {error}") from error
    if fabric.world_size > 1:
        atexit.register(_leave)
    return fabric


def _leave() -> None:
    """End gloo's threads before Python does: after the last sum one may still let go of a tensor, for which it needs
    the interpreter's lock, and where that is gone the process aborts. Fabric does this for NCCL by itself."""
    import torch.distributed as dist

    if dist.is_initialized() and dist.get_backend() == "gloo":
        dist.destroy_process_group()


def one_gpu(number: int) -> dict[str, str]:
    """Environment variables that give a process that is about to start one GPU; processes take them in turn."""
    import torch

    count = torch.cuda.device_count()
    if not count:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(index) for index in range(count)]
    return {"CUDA_VISIBLE_DEVICES": names[number % len(names)]}


def is_sharded(fabric: Fabric) -> bool:
    """Whether the weights are shared out among the processes."""
    from lightning.fabric.strategies.model_parallel import ModelParallelStrategy

    return isinstance(fabric.strategy, ModelParallelStrategy)


def process_counts(hardware: Hardware) -> tuple[int, int]:
    """Processes a node, nodes: torchrun's or SLURM's where one of them has started this process."""
    import torch
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment or "LOCAL_WORLD_SIZE" in environment:
        local = int(environment["LOCAL_WORLD_SIZE"])
        return local, int(environment["WORLD_SIZE"]) // local
    if SLURMEnvironment.detect():
        nodes = int(environment.get("SLURM_NNODES", "1"))
        return int(environment["SLURM_NTASKS"]) // nodes, nodes
    gpus = 0 if hardware.accelerator == "cpu" else torch.cuda.device_count()
    return hardware.devices or gpus or 1, hardware.nodes


def _strategy(hardware: Hardware, recipe: Recipe | None, processes: int) -> Any:
    if hardware.strategy == "fsdp" and recipe is not None:
        from lightning.fabric.strategies.model_parallel import ModelParallelStrategy

        return ModelParallelStrategy(
            _shard, data_parallel_size=processes, tensor_parallel_size=1, save_distributed_checkpoint=False
        )
    from lightning.fabric.strategies.ddp import DDPStrategy

    # With synchronised batch norm the statistics are equal already.
    return DDPStrategy(broadcast_buffers=recipe is not None and not recipe.sync_norm)


def _shard(net: nn.Module, mesh: Any) -> nn.Module:
    """Share out each block, which is what `forward` calls, then the rest."""
    from torch.distributed.fsdp import fully_shard

    for stage in net.stages:  # type: ignore[union-attr]  # a ConvNet
        for block in stage:
            fully_shard(block, mesh=mesh["data_parallel"])
    fully_shard(net, mesh=mesh["data_parallel"])
    return net
