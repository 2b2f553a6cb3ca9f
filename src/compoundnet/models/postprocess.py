"""The postprocessing of logits: probabilities and labels. Like the preprocessing, it belongs to the weights."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError, TomlStruct, check


class Postprocess(TomlStruct, frozen=True, forbid_unknown_fields=True):
    """How a model's logits become probabilities: function(logits / temperature), and these the labels of an image.

    Attributes:
        temperature: Above 1, probabilities are less confident than the network's own; below 1, more. The order of the
            classes never changes. `compoundnet train` fits it on held-out images (Guo et al. 2017).
        function: "softmax": an image has exactly one class, and the probabilities of the classes add up to 1.
            "sigmoid": an image has any number of labels, or none, and each label has a probability of its own.
        thresholds: For "sigmoid", in the order of the labels: an image has a label if its probability is at least the
            threshold. Empty: 0.5 for each label.
    """

    temperature: float = 1.0
    function: Literal["softmax", "sigmoid"] = "softmax"
    thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check(
            math.isfinite(self.temperature) and self.temperature > 0,
            f"temperature must be above 0, got {self.temperature}",
        )
        check(not self.thresholds or self.multilabel, "thresholds are for the function sigmoid, not for softmax")
        wrong = [value for value in self.thresholds if not 0 <= value <= 1]
        check(not wrong, f"thresholds must be probabilities from 0 to 1, got {wrong[:1]}")

    @property
    def multilabel(self) -> bool:
        """Whether an image may have several labels, or none."""
        return self.function == "sigmoid"

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return float64[N, classes] for logits float[N, classes]."""
        scaled = logits.astype(np.float64) / self.temperature
        return sigmoid(scaled) if self.multilabel else softmax(scaled)

    def threshold(self, index: int) -> float:
        """Return the probability from which an image has the label of that index."""
        return self.thresholds[index] if self.thresholds else 0.5

    def predicted(self, probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return bool[..., classes]: the labels whose probabilities, float64[..., classes], reach the thresholds."""
        return probabilities >= np.array(self.thresholds or (0.5,))

    def decided(self, logits: NDArray[np.floating]) -> NDArray[Any]:
        """Return what is predicted for each image: int64[N], its class; of several labels bool[N, classes]."""
        return self.predicted(self.probabilities(logits)) if self.multilabel else logits.argmax(axis=1)

    def check_classes(self, classes: int, source: str) -> None:
        """Raise CompoundNetError if there are thresholds for another number of classes."""
        if self.thresholds and len(self.thresholds) != classes:
            raise CompoundNetError(
                f"{source}: holds {len(self.thresholds)} thresholds, and the network has {classes} classes"
            )


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the probabilities float64[N, classes] of logits float[N, classes].

    Written here because the base install, which runs exported files, does not bring scipy.
    """
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of each logit by itself, 1 / (1 + exp(-logit)), without overflow."""
    probabilities: NDArray[np.float64] = np.exp(-np.logaddexp(0, -logits))
    return probabilities
