"""RMSProp as TensorFlow 1 computes it.

torch's own adds eps outside the root, starts the mean square at zero and applies the learning rate after the momentum;
with eps 1e-3 and a changing learning rate the training differs. (timm's RMSpropTF computes the same, but timm would
become a dependency for one function.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class RMSPropTF(torch.optim.Optimizer):
    """ms += (1 - decay) (g^2 - ms);  m = momentum m + lr g / sqrt(ms + eps);  w -= m.

    ms starts at ones, m at zeros. `weight_decay` is coupled: g is the gradient plus weight_decay times w.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        decay: float = 0.9,
        momentum: float = 0.9,
        eps: float = 1e-3,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "decay": decay, "momentum": momentum, "eps": eps, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # as torch's
        """Do one step, over all tensors of a group at once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._step(weights, group)
        return loss

    def _step(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["mean_square"] = torch.ones_like(weight)
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        squares = [self.state[weight]["mean_square"] for weight in weights]
        momenta = [self.state[weight]["momentum"] for weight in weights]
        torch._foreach_mul_(squares, group["decay"])
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - group["decay"])
        roots = torch._foreach_add(squares, group["eps"])
        torch._foreach_sqrt_(roots)
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_addcdiv_(momenta, gradients, roots, value=group["lr"])
        torch._foreach_sub_(weights, momenta)
