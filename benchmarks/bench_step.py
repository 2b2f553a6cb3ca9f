"""A training step of B0 at batch 16 against timm's and torchvision's models, with the recipe's optimiser for all.

Time on two threads, each library in the better of the two memory formats; peak memory by torch's own tracker, which
counts every tensor; and what gradient checkpointing saves and costs.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable

import torch
from bench_eager import better, modules
from harness import compare
from torch import nn
from torch.distributed._tools.mem_tracker import MemTracker

import compoundnet as cn
from compoundnet.nn import ConvNet
from compoundnet.train.rmsprop import RMSPropTF

BATCH = 16


def step(net: nn.Module, images: torch.Tensor) -> Callable[[], object]:
    return _step(net, images, _optimizer(net))


def _optimizer(net: nn.Module) -> torch.optim.Optimizer:
    return RMSPropTF(net.train().parameters(), lr=1e-5, weight_decay=1e-5)


def _step(net: nn.Module, images: torch.Tensor, optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    labels = torch.arange(len(images))

    def run() -> object:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return run


def checkpointed(net: ConvNet) -> ConvNet:
    net = copy.deepcopy(net)
    net.set_grad_checkpointing(True)
    return net


def peak(net: nn.Module, images: torch.Tensor) -> int:
    """Bytes of all tensors at the worst moment of a step: weights, gradients, optimiser state, activations."""
    optimizer = _optimizer(net)
    run = _step(net, images, optimizer)
    run()  # makes the optimiser's state
    tracker = MemTracker()
    tracker.track_external(net, optimizer, images)
    with tracker:
        run()
    return max(device["Total"] for device in tracker.get_tracker_snapshot("peak").values())


def memory() -> None:
    images = torch.randn(BATCH, 3, 224, 224)
    print(f"\npeak memory of a training step of B0, batch {BATCH}, float32")
    for kind, members in modules("b0").items():
        ours = members["compoundnet"]
        assert isinstance(ours, ConvNet)
        members["compoundnet, checkpointing"] = checkpointed(ours)
        peaks = {name: peak(net, images) for name, net in members.items()}
        print(f"{kind}")
        for name, value in peaks.items():
            print(f"  {name:28s} {value / 1e6:8.1f} MB  {value / peaks['compoundnet']:6.3f}x ours")


def checkpointing() -> None:
    """The price in time."""
    net = cn.build(cn.network("efficientnet-b0")).to(memory_format=torch.channels_last)
    images = torch.randn(BATCH, 3, 224, 224).to(memory_format=torch.channels_last)
    subjects = {"plain": step(net, images), "checkpointing": step(checkpointed(net), images)}
    compare("training step of B0, batch 16, channels last", subjects, ours="plain", rounds=7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    memory()
    better("training step of B0, batch 16", step, "b0", BATCH)
    checkpointing()


if __name__ == "__main__":
    main()
