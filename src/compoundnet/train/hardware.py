"""The devices of a run: one process, several (DDP), or several with sharded weights (FSDP).

Lightning's Fabric finds GPUs, starts processes (or joins those of torchrun and SLURM) and sets the precision. The loop
itself is our own (`engine`): a resumed run must equal an uninterrupted one bit for bit, at any step, and the counters
of Lightning's Trainer do not restore its position in the data.

torch and Lightning are imported inside the functions: commands that only pass a `Hardware` on, or
wait for worker processes, start without them.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from compoundnet.base import CompoundNetError
from compoundnet.base.machine import instruction_sets
from compoundnet.train.recipe import Recipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import nn

# Fabric by itself, and the packages that have it in them, which a user may import too.
_LIGHTNING = ("lightning_fabric", "pytorch_lightning", "lightning.fabric", "lightning.pytorch")
_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


class Hardware(msgspec.Struct, frozen=True):
    """The devices of a run. Under torchrun and SLURM, the launcher decides both counts.

    Attributes:
        devices: Number per node of GPUs, or of processes on the CPU; 0: all GPUs, or one process.
        nodes: Number of machines.
        strategy: "ddp": each process has all weights; "fsdp": each has a part of them; "auto": "ddp" if there are
            several processes.
        accelerator: The type of device to run on: "gpu" is CUDA's (or ROCm's); "auto" is that, or the CPU where there
            is none.
    """

    devices: int = 0
    nodes: int = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"


def launch(hardware: Hardware, recipe: Recipe | None = None) -> Fabric:
    """Start or join the processes; each of them returns from here.

    Args:
        hardware: The devices.
        recipe: Sets the precision; None is for evaluation, in float32.

    Raises:
        CompoundNetError: the machine lacks the devices.
    """
    from lightning_fabric import Fabric  # noqa: PLC0415  slow; see the top

    accelerator = _accelerator(hardware)
    devices, nodes = process_counts(hardware)
    processes = devices * nodes
    one = processes == 1 and hardware.strategy == "auto"
    for package in _LIGHTNING:  # whichever was imported last
        logging.getLogger(f"{package}.utilities.rank_zero").addFilter(_is_no_advice)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about counts and chosen plugins
            fabric = Fabric(
                accelerator=accelerator,
                devices=devices,
                num_nodes=nodes,
                strategy="auto" if one else _strategy(hardware, recipe, processes),
                precision=_PRECISION[recipe.precision if recipe else "fp32"],  # type: ignore[arg-type]  # one of its names
            )
            fabric.launch()
    except (ValueError, RuntimeError) as error:  # the exceptions of Fabric for missing devices
        raise CompoundNetError(f"this machine cannot run this: {error}") from error
    if fabric.world_size > 1:
        atexit.register(_leave)
    return fabric


def _accelerator(hardware: Hardware) -> str:
    """The accelerator by Lightning's name.

    Lightning's own "auto" and "gpu" take Apple's MPS too, which lacks float64, in which values of images are added up.
    """
    import torch  # noqa: PLC0415  slow; see the top

    if hardware.accelerator == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if hardware.accelerator == "gpu":
        raise CompoundNetError(
            "this machine has no GPU for CUDA: leave out --accelerator gpu (accelerator='gpu'), and the CPU is used"
        )
    return "cpu"


def precision_notes(precision: str) -> list[str]:
    """Return what a user of this precision should know on a CPU."""
    notes = []
    if precision == "fp16":
        notes.append("precision bf16 instead of fp16, which runs on GPUs only")
    if precision != "fp32" and sys.platform == "linux" and "bf16" not in instruction_sets():
        notes.append("this processor has no bfloat16 instructions: bf16 takes about twice the time of fp32")
    return notes


@contextlib.contextmanager
def repeatable(recipe: Recipe) -> Iterator[None]:
    """Let torch use deterministic algorithms, if the recipe asks for them.

    An operation without one warns. A resumed run then equals an uninterrupted one to the bit on a GPU too.
    """
    if not recipe.deterministic:
        yield
        return
    import torch  # noqa: PLC0415  slow; see the top

    # Read when the process first uses cuBLAS: https://docs.nvidia.com/cuda/cublas/#results-reproducibility
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn_before = cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.deterministic, cudnn.benchmark = cudnn_before


def _is_no_advice(record: logging.LogRecord) -> bool:
    """Hide the advice to lower the precision of float32, which Lightning gives in every run on a recent GPU."""
    return "set_float32_matmul_precision" not in record.getMessage()


def _leave() -> None:
    """End gloo's threads before Python ends.

    After the last sum a thread may still release a tensor, for which it needs the interpreter's lock; the process
    aborts if the lock no longer exists. For NCCL, Fabric ends the threads itself.
    """
    import torch.distributed as dist  # noqa: PLC0415  slow; see the top

    if dist.is_initialized() and dist.get_backend() == "gloo":
        dist.destroy_process_group()


def one_gpu(number: int) -> dict[str, str]:
    """Return the environment variables that give process number `number` one GPU; processes take the GPUs in turn."""
    import torch  # noqa: PLC0415  slow, as above

    count = torch.cuda.device_count()
    if not count:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(index) for index in range(count)]
    return {"CUDA_VISIBLE_DEVICES": names[number % len(names)]}


def starts_as_first() -> bool:
    """Whether this process will be the first of its run, known before `launch`."""
    # RANK is torchrun's number of a process, LOCAL_RANK and NODE_RANK are Fabric's, SLURM_PROCID is SLURM's.
    names = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in names)


def is_sharded(fabric: Fabric) -> bool:
    """Whether the weights are sharded among the processes (FSDP)."""
    from lightning_fabric.strategies.model_parallel import ModelParallelStrategy  # noqa: PLC0415  slow; see the top

    return isinstance(fabric.strategy, ModelParallelStrategy)


def process_counts(hardware: Hardware) -> tuple[int, int]:
    """Return the numbers of processes per node and of nodes, set by torchrun or SLURM if it started this process."""
    import torch  # noqa: PLC0415  slow; see the top
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment  # noqa: PLC0415

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
        from lightning_fabric.strategies.model_parallel import ModelParallelStrategy  # noqa: PLC0415  slow; see the top

        return ModelParallelStrategy(
            _shard, data_parallel_size=processes, tensor_parallel_size=1, save_distributed_checkpoint=False
        )
    from lightning_fabric.strategies.ddp import DDPStrategy  # noqa: PLC0415  slow; see the top

    # With synchronised batch norm the statistics are equal already.
    return DDPStrategy(broadcast_buffers=recipe is not None and not recipe.sync_norm)


def _shard(net: nn.Module, mesh: Any) -> nn.Module:
    """Shard each block, which `forward` calls, then the rest."""
    from torch.distributed.fsdp import fully_shard  # noqa: PLC0415  slow; see the top

    for stage in net.stages:  # type: ignore[union-attr]  # a ConvNet
        for block in stage:
            fully_shard(block, mesh=mesh["data_parallel"])
    fully_shard(net, mesh=mesh["data_parallel"])
    return net
