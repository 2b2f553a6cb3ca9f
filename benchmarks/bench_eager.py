"""Eager inference at batch 1 on one thread against timm, torchvision and efficientnet_pytorch, like for like.

SAME padding against timm's `tf_` models and efficientnet_pytorch, symmetric padding against torchvision and timm's own;
each library in the better of the two memory formats.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable

import timm
import torch
import torchvision
from efficientnet_pytorch import EfficientNet
from harness import compare
from torch import nn

import compoundnet as cn


def modules(size: str) -> dict[str, dict[str, nn.Module]]:
    """Models by kind of padding and library. `size` is b0 or b4."""
    ours = cn.network(f"efficientnet-{size}")
    native = ours.replace(padding="symmetric", norm=cn.Norm(eps=1e-5, momentum=0.1))
    return {
        "SAME padding": {
            "compoundnet": cn.build(ours),
            "timm tf_": timm.create_model(f"tf_efficientnet_{size}"),
            "efficientnet_pytorch": EfficientNet.from_name(f"efficientnet-{size}"),
        },
        "symmetric padding": {
            "compoundnet": cn.build(native),
            "timm": timm.create_model(f"efficientnet_{size}"),
            "torchvision": getattr(torchvision.models, f"efficientnet_{size}")(),
        },
    }


def inference(net: nn.Module, image: torch.Tensor) -> Callable[[], object]:
    net = net.eval()

    @torch.inference_mode()
    def run() -> object:
        return net(image)

    return run


def better(
    title: str, prepare: Callable[[nn.Module, torch.Tensor], Callable[[], object]], size: str, batch: int
) -> None:
    side = cn.network(f"efficientnet-{size}").resolution
    images = torch.randn(batch, 3, side, side)
    for kind, members in modules(size).items():
        subjects = {}
        for name, net in members.items():
            subjects[f"{name}, channels first"] = prepare(copy.deepcopy(net), images)
            last = net.to(memory_format=torch.channels_last)
            subjects[f"{name}, channels last"] = prepare(last, images.to(memory_format=torch.channels_last))
        medians = compare(
            f"{title}, {kind}", subjects, ours="compoundnet, channels last", rounds=5 if batch > 1 else 15
        )
        best = {name: min(medians[f"{name}, channels {order}"] for order in ("first", "last")) for name in members}
        for name, value in best.items():
            if name != "compoundnet":
                print(f"  better format of each: {name} takes {value / best['compoundnet']:.2f}x compoundnet's time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    for size in ("b0", "b4"):
        better(f"inference of {size.upper()}, batch 1", inference, size, 1)


if __name__ == "__main__":
    main()
