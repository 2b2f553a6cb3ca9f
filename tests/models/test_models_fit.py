"""`fit`: how an image that is not square becomes the network's square input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from compoundnet.models import Preprocess

PLAIN: dict[str, Any] = {"mean": (0.2, 0.4, 0.6), "std": (1 / 255,) * 3}


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def shown(how: Preprocess, image: Image.Image) -> NDArray[np.float64]:
    """The network's input as pixel values, [size, size, 3]."""
    mean, std = (255 * np.broadcast_to(values, 3) for values in (how.mean, how.std))
    values: NDArray[np.float64] = how.pixels(image).transpose(1, 2, 0) * std + mean
    return values


def test_a_file_without_the_field_is_a_crop_as_before() -> None:
    assert Preprocess.loads("size = 224\ncrop = 0.875").fit == "crop"
    assert Preprocess.authors(224).fit == "crop"


@pytest.mark.parametrize("fit", ["pad", "squash"])
@pytest.mark.parametrize(
    ("width", "height", "crop"),
    [
        (120, 640, 1.0), (640, 120, 1.0), (121, 640, 1.0), (500, 375, 1.0), (64, 64, 1.0), (3, 10, 1.0), (9, 4, 1.0),
        # timm crops after the resize, to whole pixels there: the same for an even gradient.
        (120, 640, 0.875), (640, 120, 0.875), (500, 375, 0.875),
    ],
)  # fmt: skip
def test_pad_and_squash_are_those_of_timm(fit: Any, width: int, height: int, crop: float) -> None:
    data = pytest.importorskip("timm.data", reason="timm is not installed (extra: peers)")
    theirs = data.create_transform(
        input_size=(3, 56, 56), is_training=False, crop_pct=crop, crop_mode={"pad": "border"}.get(fit, fit),
        interpolation="bicubic", mean=PLAIN["mean"], std=PLAIN["std"],
    )  # fmt: skip
    image = noise(width, height) if crop == 1 else Image.linear_gradient("L").resize((width, height)).convert("RGB")
    difference = np.abs(Preprocess(56, crop, fit=fit, **PLAIN).pixels(image) - theirs(image).numpy())
    assert np.quantile(difference, 1 if crop == 1 else 0.8) < 2.1


@pytest.mark.parametrize(("width", "height"), [(120, 640), (640, 120)])
def test_a_crop_loses_the_ends_and_pad_and_squash_do_not(width: int, height: int) -> None:
    """The ends of a long image are white, the rest is black: their share of what the network sees."""
    pixels = np.zeros((640, 120, 3), np.uint8)
    pixels[:80] = pixels[-80:] = 255
    image = Image.fromarray(pixels if height > width else pixels.transpose(1, 0, 2).copy())
    white = {
        fit: float((shown(Preprocess(64, 1.0, fit=fit, **PLAIN), image) > 200).all(axis=2).mean())
        for fit in ("crop", "pad", "squash")
    }
    assert white["crop"] == 0
    assert white["squash"] == pytest.approx(0.25, abs=0.02)
    assert white["pad"] == pytest.approx(0.25 * 120 / 640, abs=0.01)


def test_padding_is_the_mean() -> None:
    how = Preprocess(64, 1.0, fit="pad", **PLAIN)
    image = Image.new("RGB", (20, 80), "white")
    assert how.padding == (51, 102, 153)
    found = shown(how, image)
    np.testing.assert_allclose(found[:, :24], np.broadcast_to((51, 102, 153), (64, 24, 3)), atol=1e-3)
    np.testing.assert_allclose(found[:, 40:], np.broadcast_to((51, 102, 153), (64, 24, 3)), atol=1e-3)
    np.testing.assert_allclose(found[:, 24:40], 255, atol=1e-3)
    lite = Preprocess(64, 1.0, fit="pad", mean=(127 / 255,), std=(128 / 255,))
    assert (lite.pixels(image)[:, :, :24] == 0).all()


@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from(["crop", "pad", "squash"]), st.floats(0.05, 1))
def test_every_shape_has_a_square_input(width: int, height: int, fit: Any, crop: float) -> None:
    how = Preprocess(33, crop, fit=fit, **PLAIN)
    assert how.pixels(Image.new("RGB", (width, height))).shape == (3, 33, 33)
    left, top, right, bottom = how.box(width, height)
    assert abs((left + right) - width) <= 1 and abs((top + bottom) - height) <= 1
    if fit != "squash":
        assert right - left == bottom - top


def test_a_square_image_is_the_same_with_every_fit() -> None:
    crop, pad, squash = (
        Preprocess(48, 0.875, fit=fit, **PLAIN).pixels(noise(90, 90)) for fit in ("crop", "pad", "squash")
    )
    np.testing.assert_array_equal(crop, pad)
    np.testing.assert_array_equal(crop, squash)


@pytest.mark.parametrize(
    ("fit", "crop", "words"),
    [
        ("crop", 0.875, "a centre square of 0.875 of the shorter side, resized to 224 px"),
        ("crop", 1.0, "the centre square, resized to 224 px"),
        ("pad", 1.0, "the whole image, resized to 224 px and padded to a square with the mean colour"),
        ("squash", 1.0, "the whole image, resized to 224 x 224 px whatever its proportions"),
        ("squash", 0.9, "the middle 0.900 of each side, resized to 224 x 224 px whatever its proportions"),
    ],
)
def test_it_says_what_the_network_sees(fit: Any, crop: float, words: str) -> None:
    assert Preprocess(224, crop, fit=fit).describe() == words


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize(("width", "height"), [(120, 640), (641, 120), (451, 300), (10, 7)])
@pytest.mark.parametrize("crop", [1.0, 0.875])
def test_the_recipe_of_the_documentation_is_right_for_every_fit(
    fit: Any, width: int, height: int, crop: float, tmp_path: Path
) -> None:
    """For people who run an exported file without compoundnet."""
    text = (Path(__file__).parents[2] / "docs" / "exported-files.md").read_text(encoding="utf-8")
    recipe = text.split("## Preprocessing in Python")[1].split("```python\n")[1].split("```")[0]
    how = Preprocess(56, crop, fit=fit, **PLAIN)
    known: dict[str, Any] = {}
    exec(recipe, known)
    noise(width, height).save(tmp_path / "image.png")
    found = known["prepare"](tmp_path / "image.png", how.dumps())
    np.testing.assert_allclose(found[0], how.pixels(noise(width, height)), atol=1e-3)
