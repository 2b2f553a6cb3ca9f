"""The authors' initial weights (efficientnet_model.py: conv_kernel_initializer, dense_kernel_initializer)."""

from __future__ import annotations

import math

from torch import nn


def initialise(module: nn.Module) -> None:
    """Fresh weights for every layer below `module`."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            # N(0, sqrt(2 / fan_out)); a depthwise kernel has one output a group, so fan_out is kernel^2 there.
            fan_out = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / fan_out))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
        else:
            initialise_classifier(layer)


def initialise_classifier(layer: nn.Module) -> None:
    """U(-1/sqrt(classes), 1/sqrt(classes)) and bias 0; nothing where there is no classifier."""
    if isinstance(layer, nn.Linear):
        bound = 1.0 / math.sqrt(layer.out_features)
        nn.init.uniform_(layer.weight, -bound, bound)
        nn.init.zeros_(layer.bias)
