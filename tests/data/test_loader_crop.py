from __future__ import annotations

import io

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from compoundnet.data.augment import AutoAugment, RandAugment
from compoundnet.data.pixels import cropped_pixels, evaluation_pixels
from compoundnet.data.randomness import image_random
from compoundnet.data.training_transform import TrainingTransform
from compoundnet.models import Preprocess
from compoundnet.models.preprocess import crop_box

HOW = TrainingTransform(224)


@given(width=st.integers(1, 900), height=st.integers(1, 900), seed=st.integers(0, 1000))
def test_a_crop_is_inside_and_within_its_limits(width: int, height: int, seed: int) -> None:
    left, top, right, bottom = HOW.crop(width, height, image_random(seed, 0, 0))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    if (left, top, right, bottom) == crop_box(width, height, Preprocess.authors(224).crop):
        return
    wide, tall = right - left, bottom - top
    assert 0.1 * width * height <= wide * tall <= width * height
    assert 3 / 4 - 0.5 / tall <= wide / tall <= 4 / 3 + 0.5 / tall


def test_crops_are_spread_as_tensorflow_spreads_them() -> None:
    """TensorFlow draws the height uniformly between what fits, not the area: small crops are likelier than in timm."""
    boxes = [HOW.crop(500, 375, image_random(0, 0, index)) for index in range(4000)]
    areas = np.array([(right - left) * (bottom - top) / (500 * 375) for left, top, right, bottom in boxes])
    assert areas.min() >= 0.1
    assert areas.mean() == pytest.approx(TENSORFLOW_MEAN, abs=0.01)
    assert np.quantile(areas, [0.1, 0.5, 0.9]) == pytest.approx(TENSORFLOW_QUANTILES, abs=0.02)


# Of 20,000 boxes that tf.image.sample_distorted_bounding_box (TensorFlow 2.21) draws for these limits.
TENSORFLOW_MEAN = 0.386
TENSORFLOW_QUANTILES = [0.138, 0.352, 0.687]


def test_an_image_too_long_for_any_crop_gets_the_centre() -> None:
    assert HOW.crop(2000, 20, image_random(0, 0, 0)) == crop_box(2000, 20, 224 / 256)


def test_the_whole_image_can_be_asked_for() -> None:
    whole = TrainingTransform(32, area=(1, 1), aspect=(1, 1))
    assert whole.crop(8, 8, image_random(0, 0, 0)) == (0, 0, 8, 8)


LONG = [(120, 640), (640, 120), (500, 375), (7, 90), (1, 1)]


@pytest.mark.parametrize(("width", "height"), LONG)
def test_a_squashed_crop_is_inside_and_as_large_as_the_limits_say(width: int, height: int) -> None:
    """Each side by its own scale: the box is a part of the square that the image is squashed to."""
    how = TrainingTransform(224, area=(0.35, 1.0), fit="squash")
    spans = []
    for index in range(300):
        left, top, right, bottom = how.crop(width, height, image_random(0, 0, index))
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        spans.append(((right - left) / width, (bottom - top) / height))
    across, down = np.array(spans).T
    if min(width, height) > 50:
        assert (across * down).min() == pytest.approx(0.35, abs=0.03)
        assert (across / down).min() > 0.72 and (across / down).max() < 1.37
        assert down.max() > 0.95 and across.max() > 0.95  # with fit crop, a tall image is never seen from end to end


@pytest.mark.parametrize(("width", "height"), LONG)
def test_a_padded_crop_holds_enough_of_the_image(width: int, height: int) -> None:
    how = TrainingTransform(224, area=(0.35, 1.0), fit="pad")
    side, shown = max(width, height), []
    for index in range(300):
        left, top, right, bottom = how.crop(width, height, image_random(0, 0, index))
        assert right - left <= side and bottom - top <= side
        wide, tall = min(width, right) - max(0, left), min(height, bottom) - max(0, top)
        shown.append(wide * tall / (width * height))
    assert min(shown) >= 0.35
    assert max(shown) > 0.95


@pytest.mark.parametrize("encoding", ["JPEG", "PNG", "array"])
@pytest.mark.parametrize(("width", "height"), [(120, 640), (1280, 240)])
def test_training_shows_a_whole_image_as_evaluation_does(encoding: str, width: int, height: int) -> None:
    """The largest box, whatever the format. A large JPEG is decoded at half its size, which is slightly softer."""
    ramp = np.linspace(0, 255, width * height * 3).reshape(height, width, 3).astype(np.uint8)
    content = io.BytesIO()
    if encoding != "array":
        Image.fromarray(ramp).save(content, encoding, quality=95)
    encoded = ramp if encoding == "array" else content.getvalue()
    for fit in ("pad", "squash"):
        evaluation = Preprocess(64, 1.0, fit=fit, mean=(0.3, 0.5, 0.7), std=(1 / 255,))
        how = TrainingTransform(
            64, area=(1.0, 1.0), aspect=(1.0, 1.0), flip=False, fit=evaluation.fit, padding=evaluation.padding
        )
        found = cropped_pixels(encoded, how, image_random(0, 0, 0))
        assert found.shape == (3, 64, 64) and found[None].is_contiguous(memory_format=torch.channels_last)
        expected = evaluation_pixels(encoded, evaluation) + torch.tensor([0.3, 0.5, 0.7]).view(3, 1, 1) * 255
        assert (found.float() - expected).abs().mean() < 3


@pytest.mark.parametrize(
    "fields", [{"size": 0}, {"area": (0.5, 0.2)}, {"area": (0, 1)}, {"aspect": (2, 1)}, {"attempts": 0}]
)
def test_impossible_limits_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError, match=next(iter(fields))):
        msgspec.convert({"size": 224} | fields, TrainingTransform)


def test_it_is_data() -> None:
    text = 'size = 300\nflip = false\n[augment]\nkind = "randaugment"\nmagnitude = 17\n'
    made = msgspec.toml.decode(text, type=TrainingTransform)
    assert made == TrainingTransform(300, flip=False, augment=RandAugment(magnitude=17))
    assert msgspec.toml.decode('size = 224\naugment = {kind = "autoaugment"}', type=TrainingTransform).augment == (
        AutoAugment("v0")
    )
