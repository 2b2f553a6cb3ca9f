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


def test_the_worst_layer_may_be_the_classifier() -> None:
    """Its input, the means, and its output; and the last map, which the block's owner keeps."""
    many = 100_000
    weights = WEIGHTS + 16 * many + many - (16 * 10 + 10)
    live = 3 * 32 * 32 + 16 * 16 * 16 + 16 + many
    assert arch.inference_memory(small(num_classes=many), batch=3) == 4 * (weights + STATISTICS + 3 * live)


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


def test_one_image_in_float32_unless_told_otherwise() -> None:
    network = arch.network("mobilenet-v1")
    assert arch.inference_memory(network) == arch.inference_memory(network, 1, "float32")
    assert arch.training_memory(network) == arch.training_memory(network, 1, "float32")


def test_a_convolution_with_a_bias_has_no_batch_norm_to_fold() -> None:
    """Its weight is used as it is; those of squeeze-excitation are the largest here."""
    squeezed = small(
        resolution=64,
        stages=(
            *(arch.Stage(arch.ConvBlock(kernel=1), 8, stride=2),) * 4,
            arch.Stage(arch.ConvBlock(kernel=1), 256),
            arch.Stage(arch.SeparableConv(se=1.0), 8),
        ),
        num_classes=2,
    )
    params = sum(layer.params for layer in arch.unroll(squeezed))
    statistics = sum(layer.params for layer in arch.unroll(squeezed) if layer.kind == "norm")
    # At 2 x 2 the worst layer is a convolution to or from 8 channels: the image, its input and output, and a weight of
    # 8 x 256; with the weight of squeeze-excitation it would be 256 x 256 elements more.
    found = arch.inference_memory(squeezed) // 4 - params - statistics
    assert 8 * 256 < found < 256 * 256


def test_the_peak_of_training_may_be_at_the_first_of_equal_blocks() -> None:
    """Large weights on small maps: with each block back, more gradients are held than activations are released."""
    wide = small(padding="symmetric", stages=(arch.Stage(arch.ConvBlock(), 512, stride=2, repeats=6),))
    params = sum(layer.params for layer in arch.unroll(wide))
    statistics = sum(layer.params for layer in arch.unroll(wide) if layer.kind == "norm")
    # Then all gradients are there but those of the stem and of the stage's first block, which widens.
    before = (3 * 9 * 8 + 2 * 8) + (8 * 9 * 512 + 2 * 512)
    # The image, and the inputs of every convolution, norm and activation up to the first of the equal blocks.
    kept = 3 * 32**2 + 3 * (8 * 16**2) + 5 * (512 * 8**2)
    # The gradients of its sum, of the convolution's output and of its input.
    made = 3 * 512 * 8**2
    assert arch.training_memory(wide) == 4 * (4 * params - before + statistics + kept + made)
