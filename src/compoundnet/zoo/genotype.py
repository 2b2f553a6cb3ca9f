"""AmoebaNet's cells as data: the operation applied to each state. Read from amoebanet.toml, without torch."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Literal

import msgspec

from compoundnet.arch import Norm
from compoundnet.base import CompoundNetError, did_you_mean

Operation = Literal[
    "identity",
    "avg-pool-3x3",
    "max-pool-2x2",
    "max-pool-3x3",
    "conv-1x1",
    "conv-3x3",
    "conv-1x7-7x1",
    "separable-3x3",
    "separable-5x5",
    "separable-7x7",
    "dilated-separable-5x5",
]


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One operation on one earlier state."""

    op: Operation
    state: int


class Combination(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Two steps whose sum is the cell's next state."""

    left: Step
    right: Step


class CellGenotype(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A cell. States 0 and 1 are its inputs, combination i creates state i + 2; `outputs` are concatenated."""

    combinations: tuple[Combination, ...]
    outputs: tuple[int, ...]

    def __post_init__(self) -> None:
        for made, combination in enumerate(self.combinations, start=2):
            for step in (combination.left, combination.right):
                if not 0 <= step.state < made:
                    raise ValueError(f"state {made} cannot be made from state {step.state}, only from 0 to {made - 1}")
        last = len(self.combinations) + 1
        if not self.outputs or not all(0 <= state <= last for state in self.outputs):
            raise ValueError(f"outputs must name states of 0 to {last}, got {list(self.outputs)}")


class Genotype(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The two cells of which a network is stacked; the reduction cell halves the resolution."""

    normal: CellGenotype
    reduction: CellGenotype


class AmoebaNets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The genotypes, and their common settings.

    Attributes:
        stem_channels: Channels of the first convolution.
        norm: The batch norm settings.
        dropout: Probability, before the classifier.
        survival: Drop path: probability that an operation of the last cell is kept; falls linearly from 1.
        genotypes: By letter.
    """

    stem_channels: int
    norm: Norm
    dropout: float
    survival: float
    genotypes: dict[str, Genotype]

    def genotype(self, letter: str) -> Genotype:
        """Return the genotype of that letter; raise CompoundNetError if there is none."""
        if letter not in self.genotypes:
            raise CompoundNetError(f"there is no AmoebaNet-{letter}{did_you_mean(letter, self.genotypes)}")
        return self.genotypes[letter]


@cache
def amoebanets() -> AmoebaNets:
    """Return the contents of amoebanet.toml."""
    file = resources.files("compoundnet.zoo").joinpath("amoebanet.toml")
    return msgspec.toml.decode(file.read_bytes(), type=AmoebaNets)
