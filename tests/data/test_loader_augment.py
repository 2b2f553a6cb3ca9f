from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from compoundnet.data.augment import AutoAugment, RandAugment
from compoundnet.data.operations import OPERATIONS, cutout, posterize
from compoundnet.data.randomness import image_random

TENSORFLOW = np.load(Path(__file__).parents[1] / "fixtures" / "augment_operations.npz")
IMAGE = Image.fromarray(TENSORFLOW["picture"])
# Moved pixels and counted ones are exact; what is computed in floats may be cut at the next whole number.
EXACT = {"Equalize", "Invert", "Posterize", "Solarize", "SolarizeAdd", "Rotate"} | {
    f"{name}{axis}" for name in ("Shear", "Translate") for axis in "XY"
}


def same(first: Image.Image, second: Image.Image) -> bool:
    return np.array_equal(np.asarray(first), np.asarray(second))


@pytest.mark.parametrize("case", [name for name in TENSORFLOW.files if name != "picture"])
def test_operations_compute_what_tensorflow_does(case: str) -> None:
    name, value = case.split()
    ours = np.asarray(OPERATIONS[name](IMAGE, float(value))).astype(int)
    assert np.abs(ours - TENSORFLOW[case]).max() <= (0 if name in EXACT else 1)


def test_no_bits_are_a_black_image() -> None:
    assert np.asarray(posterize(IMAGE, 0)).max() == 0


def test_more_bits_than_eight_change_nothing() -> None:
    assert same(posterize(IMAGE, 12), IMAGE)


def test_flat_channels_survive() -> None:
    flat = Image.new("RGB", (5, 4), (7, 7, 200))
    for name in ("AutoContrast", "Equalize"):
        assert same(OPERATIONS[name](flat, 0), flat)


def test_cutout_is_grey_and_stays_inside() -> None:
    result = np.asarray(cutout(IMAGE, 5, x=1, y=9))
    assert (result[4:14, :6] == 128).all()
    assert np.array_equal(result[:, 6:], np.asarray(IMAGE)[:, 6:])


def test_a_translation_beyond_the_edge_leaves_grey() -> None:
    """Level 9 is 225 pixels whatever the input's size, as in the reference: at 224 px nothing is left."""
    assert (np.asarray(OPERATIONS["TranslateY"](IMAGE, 225)) == 128).all()


def test_the_same_seed_gives_the_same_images() -> None:
    """Golden mean values, which no two operations share; a change here changes every training run of the same seed."""
    for augment, means in ((AutoAugment(), AUTO), (RandAugment(), RAND)):
        drawn = [augment.apply(IMAGE, image_random(0, 0, index)) for index in range(10)]
        assert [np.asarray(image).mean() for image in drawn] == pytest.approx(means, abs=0.6)


AUTO = [183.2, 184.4, 132.4, 132.4, 167.3, 116.3, 133.6, 184.2, 167.3, 183.7]
RAND = [132.0, 132.1, 128.0, 128.0, 128.0, 128.0, 128.0, 128.0, 128.0, 119.9]


def test_autoaugment_leaves_as_many_images_alone_as_its_list_says() -> None:
    """The mean over v0's sub-policies of the product of (1 - probability), operations that do nothing left out."""
    kept = [same(AutoAugment().apply(IMAGE, image_random(0, 1, index)), IMAGE) for index in range(3000)]
    assert np.mean(kept) == pytest.approx(0.1808, abs=0.025)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (AutoAugment, {"policy": "v1"}, "no policy named 'v1'"),
        (RandAugment, {"layers": 0}, "layers"),
        (RandAugment, {"magnitude": 40}, "from 0 to 30"),
    ],
)
def test_impossible_settings_are_refused(kind: type, fields: dict[str, object], message: str) -> None:
    tag = {"kind": "autoaugment" if kind is AutoAugment else "randaugment"}
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(tag | fields, kind)
