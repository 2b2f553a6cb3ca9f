"""The postprocessing of logits: probabilities. Like the preprocessing, it belongs to the weights."""

from __future__ import annotations

import math
import os

import msgspec
import numpy as np
from numpy.typing import NDArray

from compoundnet.base import check, decode_toml, read_toml, write_whole


class Postprocess(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model's logits become probabilities: softmax(logits / temperature).

    Attributes:
        temperature: Above 1, probabilities are less confident than the network's own; below 1, more. The order of the
            classes never changes. `compoundnet train` fits it on held-out images (Guo et al. 2017).
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        check(
            math.isfinite(self.temperature) and self.temperature > 0,
            f"temperature must be above 0, got {self.temperature}",
        )

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return float64[N, classes] for logits float[N, classes]."""
        return softmax(logits.astype(np.float64) / self.temperature)

    @classmethod
    def loads(cls, text: str | bytes, source: str = "<text>") -> Postprocess:
        """Read TOML.

        Raises:
            CompoundNetError: A field is unknown, of the wrong type or impossible; the message names it.
        """
        return decode_toml(text, cls, source)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Postprocess:
        """Read a postprocess.toml, as `loads` does."""
        return read_toml(path, cls)

    def dumps(self) -> str:
        """Return this as TOML, which `loads` reads back to an equal value."""
        return msgspec.toml.encode(self).decode()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the TOML file whole or not at all."""
        write_whole(path, self.dumps().encode())


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the probabilities float64[N, classes] of logits float[N, classes].

    Written here because the base install, which runs exported files, does not bring scipy.
    """
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities
