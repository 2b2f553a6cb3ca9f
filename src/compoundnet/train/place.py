"""Where a run is, and what is random there."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any


@dataclasses.dataclass
class Place:
    """Where a run is: steps done, the log, the best evaluation so far, and the sums of the epoch under way."""

    step: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best_score: float = -1.0
    evaluations_since_best: int = 0
    loss: float = 0.0
    right: int = 0
    seen: int = 0
    seconds: float = 0.0


def random_seed(seed: int, step: int, part: int, rank: int) -> int:
    """Of dropout and stochastic depth."""
    digest = hashlib.blake2b(f"{seed}/{step}/{part}/{rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
