"""The tiny network of tests/fixtures (write_keras.py and write_tensorflow.py), and what ours makes of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from compoundnet.arch import Network, network, scale
from compoundnet.nn import build

FIXTURES = Path(__file__).parent.parent / "fixtures"


def tiny_network(num_classes: int = 5) -> Network:
    """B0's first three stages with 1, 1 and 2 repeats, by width 0.1, at 45 px."""
    b0 = network("efficientnet-b0")
    stages = tuple(
        msgspec.structs.replace(stage, repeats=repeats) for stage, repeats in zip(b0.stages[:3], (1, 1, 2), strict=True)
    )
    base = b0.replace(name="tiny", stages=stages, num_classes=num_classes)
    return scale(base, width=0.1, resolution=45, name="tiny")


def logits(of: Network, state: Mapping[str, Tensor], images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Of images float[N, H, W, 3], in float64."""
    model = build(of).double().eval()
    model.load_state_dict(state, strict=True)
    with torch.no_grad():
        result: npt.NDArray[Any] = model(torch.from_numpy(images).double().permute(0, 3, 1, 2)).numpy()
    return result


def check_close(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> None:
    """Equal up to their float32; and the images make a difference, or equality would say nothing."""
    largest = np.abs(theirs).max()
    assert ours.shape == theirs.shape
    assert np.abs(theirs[0] - theirs[1]).max() > 1e-2 * largest
    assert np.abs(ours - theirs).max() <= 1e-5 * largest
