"""The optimiser of a recipe, with a group of parameters for each weight decay and learning rate."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from compoundnet.nn import ConvNet
from compoundnet.train.recipe import Recipe
from compoundnet.train.recipe_parts import SGD, AdamW, RMSProp
from compoundnet.train.rmsprop import RMSPropTF
from compoundnet.train.schedule import peak_lr


def make_optimizer(net: ConvNet, recipe: Recipe) -> torch.optim.Optimizer:
    """Make the optimiser of the parameters that require gradients."""
    groups = parameter_groups(net, recipe)
    match recipe.optimizer:
        case RMSProp(decay, momentum, eps):
            return RMSPropTF(groups, peak_lr(recipe), decay, momentum, eps)
        case SGD(momentum, nesterov):
            return torch.optim.SGD(groups, peak_lr(recipe), momentum, nesterov=nesterov)
        case AdamW(beta1, beta2, eps):
            # Fused, one kernel for each tensor: seven times as fast on a small network. Not with fp16: it would unscale
            # the gradients itself, so they could not be clipped before the step.
            fused = recipe.precision != "fp16"
            return torch.optim.AdamW(groups, peak_lr(recipe), (beta1, beta2), eps, fused=fused)


def parameter_groups(net: ConvNet, recipe: Recipe) -> list[dict[str, Any]]:
    """Return groups with `weight_decay` and `scale`, by which the learning rate is multiplied."""
    norms = {
        id(weight) for layer in net.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)
        for weight in layer.parameters(recurse=False)
    }  # fmt: skip
    depths = _depths(net)
    deepest = max(depths.values())
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weight in net.named_parameters():
        if weight.requires_grad:
            decays = id(weight) not in norms and (recipe.decay_bias or not name.endswith(".bias"))
            scale = recipe.layer_decay ** (deepest - depths[name])
            groups.setdefault((recipe.weight_decay if decays else 0.0, scale), []).append(weight)
    return [{"params": weights, "weight_decay": decay, "scale": scale} for (decay, scale), weights in groups.items()]


def _depths(net: ConvNet) -> dict[str, int]:
    """Return each parameter's depth: 0 in the stem, then one more for each part after it."""
    blocks = [f"stages.{i}.{j}." for i, stage in enumerate(net.stages) for j in range(len(stage))]  # type: ignore[arg-type]  # a Sequential
    parts = ["stem.", *blocks, "head.", *(["hidden."] if net.hidden is not None else []), "classifier."]
    return {
        name: next(depth for depth, part in enumerate(parts) if name.startswith(part))
        for name, _ in net.named_parameters()
    }


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all groups, each times its scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]
