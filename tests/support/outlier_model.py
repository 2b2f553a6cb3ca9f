"""A model that loses its accuracy in int8 because of one layer, and images for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from random_net import random_net

from compoundnet import arch, models

LABELS = [f"class {index}" for index in range(10)]


def images(count: int = 60) -> list[Image.Image]:
    random = np.random.default_rng(0)
    small = [Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8)) for _ in range(count)]
    return [image.resize((40, 40), Image.Resampling.BICUBIC) for image in small]


def write_outlier_model(folder: Path) -> models.ModelFolder:
    """A random network in which one channel is 2,000 times as large as the others, and is read with weights that are so
    much smaller: the same function, but in int8 one scale for all channels loses the others."""
    stages = (
        arch.Stage(arch.MBConv(expansion=1, se=0.0), 8),
        arch.Stage(arch.MBConv(expansion=2, se=0.0), 16, repeats=2, stride=2),
    )
    spec = arch.Network("outlier", 32, arch.Stem(8), stages, arch.Head(32), activation="relu", num_classes=10)
    net = random_net(spec)
    block = net.get_submodule("stages.1.1")
    norms = [module for module in block.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    convolutions = [module for module in block.modules() if isinstance(module, torch.nn.Conv2d)]
    preprocess = models.Preprocess.authors(32)
    with torch.no_grad():
        norms[1].weight[0] *= 2000  # after the depthwise convolution
        norms[1].bias[0] *= 2000
        convolutions[2].weight[:, 0] /= 2000
        # Without this a random network gives all images one class.
        logits = net(torch.stack([preprocess(image) for image in images()]))
        net.get_parameter("classifier.bias").sub_(logits.mean(0))
    return models.write_folder(folder, spec, net.state_dict(), preprocess, labels=LABELS, readme="For tests.\n")
