"""AmoebaNet: a stack of evolved cells (Real et al. 2019), built from the genotypes in amoebanet.toml."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from compoundnet.arch import Norm
from compoundnet.base import CompoundNetError
from compoundnet.nn.units import StochasticDepth
from compoundnet.zoo.genotype import CellGenotype, amoebanets
from compoundnet.zoo.operations import FactorisedReduction, SameConv2d, batch_norm, conv, operation


class MapShape(NamedTuple):
    """A feature map's channels, and how often its resolution has been halved."""

    channels: int
    halvings: int


class Cell(nn.Module):
    """One cell, which computes its output from the outputs of the two previous cells.

    Args:
        genotype: The cell's operations.
        last: Shape of the output of the previous cell.
        before: Shape of the output of the cell before the previous one; None for the first cell.
        channels: Channels of each operation.
        stride: 2 halves the resolution.
        norm: The batch norm settings.
        survival: Drop path: probability that an operation is kept in training.
    """

    def __init__(
        self,
        genotype: CellGenotype,
        last: MapShape,
        before: MapShape | None,
        channels: int,
        stride: int,
        norm: Norm,
        survival: float,
    ) -> None:
        super().__init__()
        self.genotype = genotype
        self.enter_last = conv(last.channels, channels, norm)
        # The first cell has only one input, which serves as both states; as state 1 it is unchanged.
        self.enter_before = nn.Identity() if before is None else _entrance(before, last, channels, norm)
        states = [MapShape(channels, last.halvings), last if before is None else MapShape(channels, last.halvings)]
        made = MapShape(channels, last.halvings + (stride == 2))
        self.left, self.right = nn.ModuleList(), nn.ModuleList()
        for combination in genotype.combinations:
            for step, side in ((combination.left, self.left), (combination.right, self.right)):
                by = stride if step.state < 2 else 1  # later states have the new resolution already
                module = operation(step.op, states[step.state].channels, channels, by, norm)
                if step.op != "identity":
                    module = nn.Sequential(module, StochasticDepth(survival))
                side.append(module)
            states.append(made)
        self.leave = nn.ModuleList(_exit(states[state], made, norm) for state in genotype.outputs)
        self.shape = MapShape(channels * len(genotype.outputs), made.halvings)

    def forward(self, last: Tensor, before: Tensor) -> Tensor:
        states = [self.enter_last(last), self.enter_before(before)]
        for combination, left, right in zip(self.genotype.combinations, self.left, self.right, strict=True):
            states.append(left(states[combination.left.state]) + right(states[combination.right.state]))
        outputs = zip(self.leave, self.genotype.outputs, strict=True)
        return torch.cat([leave(states[state]) for leave, state in outputs], dim=1)


class AmoebaNet(nn.Module):
    """AmoebaNet, from float[N, 3, H, W] to logits float[N, num_classes]; without auxiliary head.

    Args:
        genotype: "A", "B" or "C".
        cells: Normal cells, in three equal groups (3 N in the papers).
        filters: Channels of each operation in the first group (F); twice that in the second, four times in the third.
        num_classes: Length of the logits.

    Raises:
        CompoundNetError: there is no such genotype, `cells` is no multiple of 3, or `filters` is below 16.
    """

    def __init__(self, genotype: str, cells: int, filters: int, num_classes: int = 1000) -> None:
        super().__init__()
        if cells < 3 or cells % 3:
            raise CompoundNetError(f"cells must be a multiple of 3, got {cells}: three groups of equal length")
        if filters < 16:
            raise CompoundNetError(f"filters must be at least 16, got {filters}: the first cell has a quarter of them")
        family = amoebanets()
        design = family.genotype(genotype)
        self.stem = nn.Sequential(
            nn.Conv2d(3, family.stem_channels, 3, stride=2, bias=False), batch_norm(family.stem_channels, family.norm)
        )
        normal = [(design.normal, 1)] * (cells // 3)
        halve = (design.reduction, 2)
        # Two reduction cells as stem, then the three groups, a reduction cell before the second and the third.
        stack = [
            (halve, filters // 4),
            (halve, filters // 2),
            *((form, filters) for form in normal),
            *((form, filters * 2) for form in (halve, *normal)),
            *((form, filters * 4) for form in (halve, *normal)),
        ]
        self.cells = nn.ModuleList()
        before: MapShape | None = None
        last = MapShape(family.stem_channels, 1)
        for position, ((form, stride), channels) in enumerate(stack, start=1):
            survival = 1 - (1 - family.survival) * position / len(stack)
            cell = Cell(form, last, before, channels, stride, family.norm, survival)
            self.cells.append(cell)
            before, last = last, cell.shape
        self.dropout = nn.Dropout(family.dropout)
        self.classifier = nn.Linear(last.channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        last = before = self.stem(x)
        for cell in self.cells:
            last, before = cell(last, before), last
        logits: Tensor = self.classifier(self.dropout(last.relu().mean((2, 3))))
        return logits


def _entrance(before: MapShape, last: MapShape, channels: int, norm: Norm) -> nn.Module:
    """Return the module that brings the last but one output to the resolution of the last one and to `channels`."""
    if before.halvings != last.halvings:
        return nn.Sequential(nn.ReLU(), FactorisedReduction(before.channels, channels, norm))
    return nn.Identity() if before.channels == channels else conv(before.channels, channels, norm)


def _exit(state: MapShape, made: MapShape, norm: Norm) -> nn.Module:
    """Return the module that brings a state to the shape of the cell's new states, for concatenation."""
    if state.halvings != made.halvings:
        return FactorisedReduction(state.channels, made.channels, norm)
    if state.channels == made.channels:
        return nn.Identity()
    return nn.Sequential(SameConv2d(state.channels, made.channels), batch_norm(made.channels, norm))
