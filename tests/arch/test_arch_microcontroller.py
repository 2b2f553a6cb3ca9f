"""int8 SRAM and flash, against sums by hand."""

from compoundnet import arch

STEM = arch.Stem(channels=8, kernel=3, stride=2)
PLAIN = arch.Network("plain", 32, STEM, (arch.Stage(arch.ConvBlock(kernel=3), 16),), activation="relu", num_classes=10)


def test_a_relu_belongs_to_its_convolution() -> None:
    # 3 channels of 32 px are read while 8 of 16 px are written; then 8 are read while 16 of 16 px are written.
    assert arch.cost(PLAIN).sram_bytes == max(3 * 32**2 + 8 * 16**2, (8 + 16) * 16**2)


def test_silu_holds_three_tensors() -> None:
    assert arch.cost(PLAIN.replace(activation="silu")).sram_bytes == 3 * 16 * 16**2


def test_a_shortcut_lives_until_it_is_added() -> None:
    block = arch.MBConv(kernel=3, expansion=6, se=0.0)
    network = PLAIN.replace(stages=(arch.Stage(block, 8, repeats=1),))
    # The input of the block, and the depthwise convolution's input and output of 48 channels.
    assert arch.cost(network).sram_bytes == (8 + 48 + 48) * 16**2
    without = network.replace(stages=(arch.Stage(block, 8, repeats=1, skip=False),))
    assert arch.cost(without).sram_bytes == (48 + 48) * 16**2


def test_symmetric_padding_is_a_copy_where_tensorflows_is_another() -> None:
    symmetric = PLAIN.replace(padding="symmetric")
    # An even input and stride 2: 3 channels of 32 px, and the copy of 34 px; then the copy and 8 channels of 16 px.
    assert arch.cost(symmetric).sram_bytes == max(3 * (32**2 + 34**2), 3 * 34**2 + 8 * 16**2, (8 + 16) * 16**2)
    wide = symmetric.replace(stem=arch.Stem(channels=8, kernel=3, stride=2, pool="max"))
    # The pool of 3 x 3 with stride 2 too: 8 channels of 16 px, and their copy of 18 px.
    assert arch.cost(wide).sram_bytes == max(3 * (32**2 + 34**2), 8 * (16**2 + 18**2))
    odd = symmetric.replace(resolution=33)
    assert arch.cost(odd).sram_bytes == arch.cost(odd.replace(padding="same")).sram_bytes
    # As tflite-micro plans it (tests/runtime/test_export_microcontroller.py): the copy before the pool, and its input.
    assert arch.cost(arch.network("resnet-18")).sram_bytes == 64 * (112**2 + 114**2)


def test_flash_holds_weights_biases_and_scales() -> None:
    weights = 3 * 8 * 9 + 8 * 16 * 9 + 16 * 10
    assert arch.cost(PLAIN).flash_bytes == weights + 8 * (8 + 16 + 10)


def test_the_batch_does_not_matter() -> None:
    b0 = arch.network("efficientnet-b0")
    assert arch.cost(b0, batch=8).sram_bytes == arch.cost(b0).sram_bytes
