"""Classes of unequal size: what training does about them, and when."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from compoundnet.base import CompoundNetError
from compoundnet.data import Split
from compoundnet.data.classes import UNEQUAL
from compoundnet.train.recipe import Recipe

# What "auto" chooses then: with Lite0 on ten classes of CIFAR-10 with 300 to 10 images, none gives 69.0 %, sampler
# 71.4 % and loss 75.5 % (benchmarks/bench_balance.py, three seeds).
_CHOICE: Literal["loss"] = "loss"


class AdjustedCrossEntropy(nn.Module):
    """Cross-entropy of the logits plus the logarithms of the classes' shares of the training images.

    The network then need not learn the shares: its own logits rank the classes as if all were equally frequent, which
    is what mean accuracy per class asks for ("logit adjustment", Menon et al. 2021, arXiv:2007.07314, equation 10 with
    tau = 1). Weights on the classes lose their effect once a network separates the training images (Byrd and Lipton
    2019, arXiv:1812.03372), which fine-tuning on few images soon does; this does not.

    Args:
        counts: int64[classes], the training images of each class, none of them 0.
        label_smoothing: As in `torch.nn.functional.cross_entropy`.
    """

    log_shares: Tensor

    def __init__(self, counts: NDArray[np.int64], label_smoothing: float) -> None:
        super().__init__()
        shares = torch.from_numpy(counts / counts.sum())
        self.register_buffer("log_shares", shares.log().float())
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of logits float32[N, classes] and labels int64[N]."""
        return F.cross_entropy(logits + self.log_shares, labels, label_smoothing=self.label_smoothing)


def choose_balance(recipe: Recipe, train: Split, *, own_loss: bool = False) -> tuple[Recipe, str | None]:
    """Decide what training does about classes of unequal size.

    Args:
        recipe: The recipe, whose "auto" is to be replaced.
        train: The training images.
        own_loss: Whether the loss is the user's, which only sampling leaves as it is.

    Returns:
        The recipe with what was chosen, and a remark for the user if the classes are unequal.

    Raises:
        CompoundNetError: the images have several labels, which neither the sampler nor the loss can balance.
    """
    if train.multilabel:
        if recipe.balance in ("sampler", "loss"):
            raise CompoundNetError(
                f"balance = {recipe.balance} is for images of one class each, and these have several labels; use"
                " --set balance=none"
            )
        return recipe.replace(balance="none"), None
    counts = train.counts()
    most, least = int(counts.argmax()), int(counts.argmin())
    times = counts[most] / counts[least]
    chosen = recipe.balance
    if chosen == "auto":
        chosen = "none" if times < UNEQUAL else _chosen(recipe, own_loss)
    balanced = recipe if chosen == recipe.balance else recipe.replace(balance=chosen)
    if times < UNEQUAL:
        return balanced, None
    unequal = (
        f"class {train.classes[most]!r} has {counts[most]:,} training images, class {train.classes[least]!r}"
        f" {counts[least]:,}"
    )
    if chosen == "none":
        advice = "--set balance=loss or balance=sampler makes up for it"
        if recipe.balance == "auto":
            advice = f"balance = sampler would make up for it, but repeats = {recipe.repeats} excludes it"
        return balanced, (
            f"{unequal}: the model will favour large classes, which top-1 hides and the mean per class shows; {advice}"
        )
    how = {
        "loss": "the loss makes up for the classes' shares of the images",
        "sampler": "each epoch draws all classes equally often",
    }[chosen]
    off = "; --set balance=none leaves it out" if recipe.balance == "auto" else ""
    return balanced, f"{unequal}: balance = {chosen}, {how}{off}"


def _chosen(recipe: Recipe, own_loss: bool) -> Literal["none", "sampler", "loss"]:
    """Return what "auto" chooses for unequal classes."""
    if not own_loss:
        return _CHOICE
    return "sampler" if recipe.repeats == 1 else "none"  # both decide which images are drawn
