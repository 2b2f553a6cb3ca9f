"""Checkpoints of a small network with timm's names, and what is read of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from small_models import small_network
from torch import Tensor

from compoundnet.models.checkpoints import Checkpoint, read_checkpoint
from compoundnet.models.layouts import layout, to_layout
from compoundnet.nn import build


def timm_state(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return dict(to_layout(build(small_network()).state_dict(), small_network(), layout("timm")))


STATE, AVERAGE = timm_state(0), timm_state(1)


def read(content: object, tmp_path: Path, *, raw: bool = False) -> Checkpoint:
    torch.save(content, tmp_path / "checkpoint.pth")
    return read_checkpoint(tmp_path / "checkpoint.pth", raw=raw)


def is_equal(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def below(prefix: str, state: Mapping[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}
