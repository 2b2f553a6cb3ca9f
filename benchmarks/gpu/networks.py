"""The same network from each library, with random weights."""

from __future__ import annotations

from contest import Case
from torch import nn

import compoundnet as cn

SIZES = {"b0": 224, "b4": 380, "b7": 600, "lite0": 224, "tiny": 64}
LIBRARIES = ("compoundnet", "timm tf_", "timm", "torchvision")
DROP = 0.2  # of features before the classifier, and of the last block's branch: the same for all


def network(case: Case) -> nn.Module:
    """The network of a case. "timm tf_" pads as the authors' networks and ours do, the others symmetrically."""
    if case.network == "tiny":
        return _tiny(case.library)
    if case.library == "torchvision":
        import torchvision

        made: nn.Module = getattr(torchvision.models, f"efficientnet_{case.network}")(
            dropout=DROP, stochastic_depth_prob=DROP
        )
        return made
    if case.library.startswith("timm"):
        import timm

        prefix = case.library.removeprefix("timm").strip()
        theirs: nn.Module = timm.create_model(
            f"{prefix}efficientnet_{case.network}", drop_rate=DROP, drop_path_rate=DROP
        )
        return theirs
    return cn.build(cn.network(f"efficientnet-{case.network}"), drop_rate=DROP, drop_path_rate=DROP)


def _tiny(library: str) -> nn.Module:
    """For the smoke test: ours scaled down, and a network that no library has."""
    if library == "compoundnet":
        return cn.build(cn.scale(cn.network("efficientnet-b0"), width=0.1, depth=0.1, resolution=64))
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1000))
