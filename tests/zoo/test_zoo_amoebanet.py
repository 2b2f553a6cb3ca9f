"""AmoebaNet's cells: TensorFlow's padding, the reduction that keeps all pixels, and the wiring of the genotypes."""

from __future__ import annotations

import msgspec
import pytest
import torch
import torch.nn.functional as F

from compoundnet.arch import Norm
from compoundnet.base import CompoundNetError
from compoundnet.zoo.amoebanet import AmoebaNet, Cell
from compoundnet.zoo.genotype import CellGenotype, amoebanets
from compoundnet.zoo.operations import FactorisedReduction, SameConv2d, SamePool2d


@pytest.mark.parametrize("side", [1, 2, 7, 8])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [2, 3])
def test_a_max_pool_is_over_the_windows_of_tensorflows_same_padding(side: int, stride: int, kernel: int) -> None:
    x = torch.randn(2, 3, side, side)
    out = -(-side // stride)
    total = max((out - 1) * stride + kernel - side, 0)
    padded = F.pad(x, (total // 2, total - total // 2) * 2, value=float("-inf"))
    windows = padded.unfold(2, kernel, stride).unfold(3, kernel, stride)
    pooled = SamePool2d("max", kernel, stride)(x)
    assert pooled.shape[-2:] == (out, out)
    torch.testing.assert_close(pooled, windows.amax((-1, -2)))


@pytest.mark.parametrize("side", [1, 2, 7, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_an_average_pool_counts_only_pixels_inside_the_image(side: int, stride: int) -> None:
    pooled = SamePool2d("avg", 3, stride)(torch.ones(1, 2, side, side))
    torch.testing.assert_close(pooled, torch.ones(1, 2, -(-side // stride), -(-side // stride)))


def test_uneven_padding_of_a_convolution_has_its_odd_pixel_last() -> None:
    # 4 px, kernel 3, stride 2: one pixel of padding in all, so the windows are 0..2 and 2..4.
    conv = SameConv2d(1, 1, (3, 3), (2, 2))
    torch.nn.init.ones_(conv.weight)
    rows = torch.arange(4.0).repeat(4, 1)[None, None]
    torch.testing.assert_close(conv(rows)[0, 0], torch.tensor([[9.0, 15.0], [6.0, 10.0]]))


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [((1, 7), (1, 2), 1), ((7, 1), (2, 1), 1), ((5, 5), (1, 1), 2)]
)
def test_a_convolution_gives_the_side_over_the_stride(
    kernel: tuple[int, int], stride: tuple[int, int], dilation: int
) -> None:
    out = SameConv2d(2, 3, kernel, stride, dilation=dilation)(torch.randn(1, 2, 9, 12))
    assert out.shape == (1, 3, -(-9 // stride[0]), -(-12 // stride[1]))


@pytest.mark.parametrize("side", [4, 5])
def test_the_factorised_reduction_reads_even_pixels_and_the_ones_after_them(side: int) -> None:
    reduction = FactorisedReduction(1, 2, Norm(eps=1e-12, momentum=0.1)).eval()
    torch.nn.init.ones_(reduction.even.weight)
    torch.nn.init.ones_(reduction.odd.weight)
    x = torch.arange(float(side * side)).view(1, 1, side, side)
    out = reduction(x)
    shifted = F.pad(x, (0, 1, 0, 1))[:, :, 1::2, 1::2]
    torch.testing.assert_close(out, torch.cat([x[:, :, ::2, ::2], shifted], dim=1))


@pytest.mark.parametrize("letter", ["A", "B", "C"])
def test_every_weight_of_a_network_gets_a_gradient_in_a_training_step(letter: str) -> None:
    torch.manual_seed(0)
    model = AmoebaNet(letter, cells=3, filters=16, num_classes=5)
    loss = F.cross_entropy(model(torch.randn(4, 3, 48, 48)), torch.arange(4))
    loss.backward()
    assert loss.isfinite()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


def test_a_network_has_its_cells_and_their_reductions() -> None:
    with torch.device("meta"):
        model = AmoebaNet("A", cells=18, filters=190)
    cells = [cell for cell in model.cells if isinstance(cell, Cell)]
    assert len(cells) == 18 + 2 + 2
    assert [number for number, cell in enumerate(cells) if cell.genotype == amoebanets().genotype("A").reduction] == [
        0,
        1,
        8,
        15,
    ]
    # A 331 px input is 165 after the stem's convolution, which has no padding, and 11 after four reductions.
    assert cells[-1].shape == (4 * 760, 5)


def test_drop_path_falls_linearly_to_the_last_cell() -> None:
    with torch.device("meta"):
        model = AmoebaNet("A", cells=3, filters=16)
    survivals = [cell.left[0][-1].survival for cell in model.cells]  # type: ignore[index, union-attr]  # Sequentials
    assert survivals == pytest.approx([1 - 0.3 * number / 7 for number in range(1, 8)])


def test_an_unknown_genotype_names_the_known_ones() -> None:
    with pytest.raises(CompoundNetError, match="there is no AmoebaNet-D; known: A, B, C"):
        AmoebaNet("D", cells=18, filters=190)


@pytest.mark.parametrize(("cells", "filters", "said"), [(4, 190, "multiple of 3, got 4"), (3, 8, "at least 16, got 8")])
def test_impossible_sizes_are_refused(cells: int, filters: int, said: str) -> None:
    with pytest.raises(CompoundNetError, match=said):
        AmoebaNet("A", cells=cells, filters=filters)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ({"op": "conv-3x3", "state": 2}, "state 2 cannot be made from state 2"),
        ({"op": "conv-9x9", "state": 0}, "Invalid enum value 'conv-9x9'"),
    ],
)
def test_a_genotype_that_cannot_be_built_is_refused(cell: dict[str, object], said: str) -> None:
    right = {"op": "identity", "state": 1}
    with pytest.raises(msgspec.ValidationError, match=said):
        msgspec.convert({"combinations": [{"left": cell, "right": right}], "outputs": [2]}, CellGenotype)


def test_an_output_must_be_a_state() -> None:
    with pytest.raises(ValueError, match=r"outputs must name states of 0 to 1, got \[2\]"):
        CellGenotype(combinations=(), outputs=(2,))
