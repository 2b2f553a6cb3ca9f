"""REINFORCE (Williams 1992) on the factored space, following Zoph & Le 2017 and MnasNet.

The policy is one softmax for each choice, all choices independent: MnasNet's recurrent controller has far more weights
than hundreds of trials can train. It takes one step of gradient ascent for each batch; the several clipped steps of
MnasNet's PPO were measured and gave no better results here (docs/search.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from compoundnet.search.architecture.samplers.history import HistorySampler, Value

# Chosen on separate synthetic objectives (docs/search.md): trials per step of the policy, the size of the step, the
# weight of the policy's entropy, the decay of the baseline per batch, and the limit in standard deviations.
BATCH = 5
RATE = 2.0
ENTROPY = 0.02
BASELINE_DECAY = 0.8
CLIP = 3.0


class ReinforceSampler(HistorySampler):
    """Policy gradient with a moving-average baseline; the policy is rebuilt from the finished trials at each draw.

    Trials are taken in the order of their positions, so the policy is a function of the finished trials, regardless of
    the order in which they ended. A trial drawn from an older policy counts as if it were drawn from the present one.
    """

    def __init__(
        self,
        choices: Mapping[str, tuple[Value, ...]],
        *,
        seed: int,
        batch: int = BATCH,
        rate: float = RATE,
        entropy: float = ENTROPY,
    ) -> None:
        super().__init__(choices, seed=seed)
        self._batch, self._rate, self._entropy = batch, rate, entropy
        # Padding options, which a choice does not have, get log-probability minus infinity.
        self._absent = np.arange(self.options.max(initial=1)) >= self.options[:, None]

    def drawer(
        self, picks: NDArray[np.int64], rewards: NDArray[np.float64]
    ) -> Callable[[np.random.Generator], NDArray[np.int64]]:
        summed = self.policy(picks, rewards).cumsum(axis=1)

        def draw(random: np.random.Generator) -> NDArray[np.int64]:
            passed: NDArray[np.int64] = (random.random((len(self.options), 1)) * summed[:, -1:] >= summed).sum(axis=1)
            return np.minimum(passed, self.options - 1)

        return draw

    def policy(self, picks: NDArray[np.int64], rewards: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of each option after these trials: float[choices, options]."""
        logits = np.where(self._absent, -np.inf, 0.0)
        baseline = spread = np.nan
        for start in range(0, len(picks) - self._batch + 1, self._batch):
            batch = rewards[start : start + self._batch]
            judged = batch[~np.isnan(batch)]
            if np.isnan(baseline) and len(judged):
                baseline, spread = judged.mean(), judged.std()
            advantages = _advantages(batch, baseline, spread)
            logits = logits + self._rate * self._gradient(logits, picks[start : start + self._batch], advantages)
            if len(judged):
                baseline = BASELINE_DECAY * baseline + (1 - BASELINE_DECAY) * judged.mean()
                spread = BASELINE_DECAY * spread + (1 - BASELINE_DECAY) * judged.std()
        likely: NDArray[np.float64] = softmax(logits, axis=1)
        return likely

    def _gradient(
        self, logits: NDArray[np.float64], picks: NDArray[np.int64], advantages: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the gradient of the expected reward and the weighted entropy with respect to the logits."""
        likely = softmax(logits, axis=1)
        chosen = picks[:, :, None] == np.arange(likely.shape[1])
        reward = (advantages[:, None, None] * (chosen - likely)).mean(axis=0)
        surprise = np.log(np.maximum(likely, 1e-12))
        mean = (likely * surprise).sum(axis=1, keepdims=True)
        gradient: NDArray[np.float64] = reward - self._entropy * likely * (surprise - mean)
        return gradient


def _advantages(rewards: NDArray[np.float64], baseline: float, spread: float) -> NDArray[np.float64]:
    """Return rewards in standard deviations above the baseline.

    A pruned trial counts as the worst of its batch, and as at least one deviation below the baseline.
    """
    if np.isnan(baseline):  # nothing but pruned trials so far
        return np.full(len(rewards), -1.0)
    scaled = np.clip((rewards - baseline) / max(spread, 1e-12), -CLIP, CLIP)
    return np.where(np.isnan(scaled), min(-1.0, np.nanmin(np.append(scaled, 0.0))), scaled)
