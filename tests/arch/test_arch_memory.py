"""Memory by formula: exact figures, which tests/nn compares with torch's own accounting within 15 %."""

from __future__ import annotations

import pytest

from compoundnet import arch

# Inference of 1 and of 8 images, and a training step of 8 in float32 and in bfloat16; bytes. Pinned: a change of a
# formula must be meant, and must agree with torch (tests/nn/test_nn_memory.py).
FIGURES = {
    "efficientnet-b0": (33655056, 119960464, 789507120, 440922120),
    "efficientnet-lite0": (31108896, 117414304, 707461984, 394417408),
    "mobilenet-v1": (24902816, 80098208, 556465120, 316305920),
    "mobilenet-v2": (26488736, 112794144, 685573600, 374280320),
    "resnet-50": (114185888, 171548320, 1052528512, 764854224),
    "mnasnet-a1": (28014904, 114320312, 544782312, 306940756),
    "resnet-18": (57337504, 96571040, 354070400, 292013008),
    "efficientnet-b7": (438463200, 1641214176, 31723859360, 16411713120),
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_figures_of_the_catalogue(name: str) -> None:
    network = arch.network(name)
    one, eight, half = (
        arch.cost(network, batch=1),
        arch.cost(network, batch=8),
        arch.cost(network, batch=8, precision="bfloat16"),
    )
    found = one.memory_bytes, eight.memory_bytes, eight.training_memory_bytes, half.training_memory_bytes
    assert found == FIGURES[name]


def small(**fields: object) -> arch.Network:
    """A stem of 8 channels at half of 32 px, one 3x3 convolution to 16, mean, and a classifier of 10."""
    stages = (arch.Stage(arch.ConvBlock(), 16),)
    made = arch.Network(name="small", resolution=32, stem=arch.Stem(channels=8), stages=stages, num_classes=10)
    return made.replace(**fields)


WEIGHTS = (3 * 9 * 8 + 2 * 8) + (8 * 9 * 16 + 2 * 16) + (16 * 10 + 10)
STATISTICS = 2 * 8 + 2 * 16


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_inference_by_hand(batch: int) -> None:
    image, stem, stage = 3 * 32 * 32, 8 * 16 * 16, 16 * 16 * 16
    # The worst layer is the stage's convolution: its input twice (the block's and the layer's are one tensor), its
    # output, and the folded weight; and the image, which its owner keeps.
    live = image + stem + stage
    assert arch.cost(small(padding="symmetric"), batch=batch).memory_bytes == 4 * (
        WEIGHTS + STATISTICS + batch * live + 8 * 9 * 16
    )


@pytest.mark.parametrize("batch", [1, 2])
def test_padding_as_in_tensorflow_copies_the_input_of_a_strided_convolution(batch: int) -> None:
    wide = small(resolution=64, stem=arch.Stem(channels=1))
    # 64 px at stride 2 need one row more after the image than before it: a copy of 65 x 65.
    difference = (
        arch.cost(wide, batch=batch).training_memory_bytes
        - arch.cost(wide.replace(padding="symmetric"), batch=batch).training_memory_bytes
    )
    assert difference == 4 * batch * 3 * 65 * 65


def test_relu_keeps_its_output_and_silu_its_input() -> None:
    silu, relu = (arch.cost(small(activation=name), batch=4).training_memory_bytes for name in ("silu", "relu"))
    assert relu < silu


def test_training_grows_by_the_same_bytes_with_each_image() -> None:
    found = [arch.cost(small(), batch=batch).training_memory_bytes for batch in (8, 9, 10)]
    assert found[2] - found[1] == found[1] - found[0] > 4 * 3 * 32 * 32


def test_bfloat16_halves_what_grows_with_the_batch() -> None:
    network = arch.network("efficientnet-b0")
    full, half = (
        arch.cost(network, batch=9, precision=precision).training_memory_bytes
        - arch.cost(network, batch=8, precision=precision).training_memory_bytes
        for precision in ("float32", "bfloat16")
    )
    # Gradients of the weights stay in float32, and the peak lies elsewhere.
    assert abs(full - 2 * half) < 0.02 * full
