"""A search space small enough to enumerate, with a made-up accuracy that is known everywhere.

The space: 4 blocks of the shipped space `small`, each with operator, kernel, squeeze-excitation and filters to choose:
48^4 = 5,308,416 networks. Multiply-adds are those of the real networks (`arch.stage_costs`). The accuracy is made of
random effects of single choices, of pairs within a block and between neighbouring blocks, and of triples over
neighbouring blocks, with a gain by size, squashed to between 55 % and 95 %.
"""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
from numpy.typing import NDArray

from compoundnet.arch import stage_costs
from compoundnet.search.architecture.objective import Objective
from compoundnet.search.architecture.space import Space, find_space

Array = NDArray[np.float64]
# Share of the effects' variance that single choices, pairs and triples have.
SHARES = (0.35, 0.4, 0.25)
_TRIPLES = 12  # for each pair of neighbouring blocks
_GAIN = 0.3  # of one standard deviation of log multiply-adds, in standard deviations of all other effects


def space() -> Space:
    """Without skips and layers, which would make it too big to enumerate."""
    small = find_space("small")
    blocks = tuple(msgspec.structs.replace(block, skips=("identity",), layers=(0,)) for block in small.blocks)
    return msgspec.structs.replace(small, name="enumerated", blocks=blocks)


class Landscape:
    """The reward of every network of the space, drawn by `seed`.

    rewards  float[48, 48, 48, 48], by the combination of each block
    top      the least reward of the best 0.05 %
    """

    def __init__(self, seed: int, shares: tuple[float, float, float] = SHARES) -> None:
        self.space = space()
        self.options = [len(options) for options in self.space.choices().values()]
        self._dims = tuple(self.options[:4])
        count = len(self.space.blocks)
        macs = multiply_adds(self.space)
        size = np.log(macs)
        size = (size - size.mean()) / size.std()
        accuracy = 0.55 + 0.4 / (1 + np.exp(-self._effects(np.random.default_rng(seed), count, shares) - _GAIN * size))
        target = float(np.median(macs))
        self.rewards: Array = accuracy * (macs / target) ** Objective(target).exponent
        best = int(self.rewards.size * 0.0005)
        self.top = float(np.partition(self.rewards.ravel(), -best)[-best])

    def reward(self, picks: NDArray[np.int64]) -> float:
        """Of the network with these options, int[16]."""
        return float(self.rewards.flat[np.ravel_multi_index(tuple(picks), self.options)])

    def _effects(self, random: np.random.Generator, count: int, shares: tuple[float, float, float]) -> Array:
        dims, kinds = self._dims, range(len(self._dims))
        pick = np.array(np.unravel_index(np.arange(np.prod(dims)), dims))  # int[4, 48]
        pairs = list(itertools.combinations(kinds, 2))
        across = list(itertools.product(kinds, kinds))
        total = np.zeros((pick.shape[1],) * count)
        single, pair, triple = (
            np.sqrt(share / number)
            for share, number in zip(
                shares,
                (count * len(kinds), count * len(pairs) + (count - 1) * len(across), (count - 1) * _TRIPLES),
                strict=True,
            )
        )
        for block in range(count):
            here = sum(single * random.normal(size=dims[kind])[pick[kind]] for kind in kinds)
            here = here + sum(pair * random.normal(size=(dims[a], dims[b]))[pick[a], pick[b]] for a, b in pairs)
            total += _along(np.asarray(here), count, block)
        for block in range(count - 1):
            both = sum(pair * random.normal(size=(dims[a], dims[b]))[np.ix_(pick[a], pick[b])] for a, b in across)
            for _ in range(_TRIPLES):
                a, b = random.choice(len(dims), 2, replace=False)
                c = random.integers(len(dims))
                effects = random.normal(size=(dims[a], dims[b], dims[c]))
                both = both + triple * effects[pick[a], pick[b]][:, pick[c]]
            total += _along(np.asarray(both), count, block, block + 1)
        return total


def multiply_adds(given: Space) -> Array:
    """float[48, 48, 48, 48], exact: a block's cost depends on itself and on the filters of the block before."""
    choices = given.choices()
    names, count = list(choices), len(given.blocks)
    each = [
        list(itertools.product(*(choices[name] for name in names[4 * block : 4 * block + 4]))) for block in range(count)
    ]
    filters = choices["block1.filters"]
    plain = {name: options[0] for name, options in choices.items()}
    total = np.zeros([len(combinations) for combinations in each])
    for block in range(count):
        here = {}
        for before in filters if block else filters[:1]:
            changed = plain | ({f"block{block}.filters": before} if block else {})
            for combination in each[block]:
                chosen = changed | dict(zip(names[4 * block : 4 * block + 4], combination, strict=True))
                rows = stage_costs(given.network(chosen))
                # The head follows the last block, the stem is the same for all.
                macs = rows[1 + block].macs + (rows[0].macs if block == 0 else 0)
                here[before, combination] = macs + (rows[-1].macs if block == count - 1 else 0)
        if block == 0:
            table = np.array([here[filters[0], combination] for combination in each[0]], dtype=float)
            total += _along(table, count, 0)
        else:
            table = np.array(
                [[here[before[-1], combination] for combination in each[block]] for before in each[block - 1]],
                dtype=float,
            )
            total += _along(table, count, block - 1, block)
    return total


def _along(table: Array, count: int, *axes: int) -> Array:
    """The table as part of an array with one axis a block."""
    shape = [1] * count
    for axis, length in zip(axes, table.shape, strict=True):
        shape[axis] = length
    return table.reshape(shape)
