"""Class activation maps: the identity that defines them, where they stand on the picture, and what goes wrong."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import command
import numpy as np
import pytest
from PIL import Image

from compoundnet.arch import CompoundNetError
from compoundnet.explain import Explainer, grid, overlay, sheet
from compoundnet.explain.undo import box, over_picture, peak

MODEL = "efficientnet-lite0"


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    return Explainer(MODEL)


@pytest.fixture(scope="module")
def cat() -> Image.Image:
    with resources.as_file(resources.files("skimage.data").joinpath("chelsea.png")) as path:
        return Image.open(path).convert("RGB")


def test_a_maps_mean_and_bias_are_the_logit(explainer: Explainer, cat: Image.Image) -> None:
    for found in explainer(cat, top=5).maps:
        assert found.grid.mean() + found.bias == pytest.approx(found.logit, abs=1e-4)


def test_the_maps_are_of_the_most_probable_classes_in_order(explainer: Explainer, cat: Image.Image) -> None:
    found = explainer(cat, top=3)
    assert [shown.index for shown in found.maps] == [guess.index for guess in found.predictions]
    assert found.maps[0].label == "tiger cat"


def test_the_cat_is_where_the_map_of_tiger_cat_is_highest(explainer: Explainer, cat: Image.Image) -> None:
    # The face, drawn by hand: eyes, nose and whiskers without the background on the right.
    left, top, right, bottom = 90, 0, 330, 290
    (found,) = explainer(cat, classes=["tiger cat"]).maps
    x, y = found.peak
    assert left <= x <= right and top <= y <= bottom


def test_it_is_grad_cam_on_a_network_with_a_pooled_linear_classifier(explainer: Explainer, cat: Image.Image) -> None:
    """Selvaraju et al. 2017, section 3: gradients of the logit by the last map, averaged, are CAM's weights / area."""
    import torch

    from compoundnet import data

    net = explainer._net
    pixels = torch.from_numpy(data.preprocess(cat, explainer.model.preprocess))[None]
    features = net.forward_features(pixels).detach().requires_grad_()
    found = explainer(cat, top=1).maps[0]
    (gradients,) = torch.autograd.grad(net.forward_head(features)[0, found.index], features)
    gradcam = (gradients.mean((2, 3), keepdim=True) * features).sum(1)[0].detach().numpy()
    assert np.corrcoef(gradcam.ravel(), found.grid.ravel())[0, 1] > 0.999


@pytest.mark.parametrize(("width", "height"), [(300, 200), (200, 300), (640, 100), (33, 47)])
def test_a_map_lies_where_the_crop_was_cut_out(width: int, height: int) -> None:
    heat = np.zeros((7, 7), np.float32)
    heat[1, 5] = 1
    whole = over_picture(heat, width, height, 0.875)
    side = int(0.875 * min(width, height))
    left, top = (width - side + 1) // 2, (height - side + 1) // 2
    assert whole.shape == (height, width)
    assert np.isfinite(whole).sum() == side * side and np.isnan(whole[0, 0])
    x, y = peak(whole)
    assert x == pytest.approx(left + 5.5 / 7 * side, abs=side / 14 + 1)
    assert y == pytest.approx(top + 1.5 / 7 * side, abs=side / 14 + 1)
    found = box(whole)
    assert found is not None and found[0] <= x < found[2] and found[1] <= y < found[3]


def test_nothing_that_speaks_for_a_class_has_no_box() -> None:
    assert box(np.full((4, 4), -1.0, np.float32)) is None


def test_an_overlay_is_of_the_pictures_size_and_dark_where_nothing_was_seen(
    explainer: Explainer, cat: Image.Image
) -> None:
    found = explainer(cat, top=1)
    drawn = overlay(cat, found.maps[0])
    assert drawn.size == cat.size
    assert np.asarray(drawn)[150, 2].mean() < 0.4 * np.asarray(cat)[150, 2].mean()


def test_a_sheet_and_a_grid_are_pictures(explainer: Explainer, cat: Image.Image) -> None:
    found = explainer(cat, top=2)
    png, description = grid([[found, found]], ["one", "two"])
    for content in (sheet(found), png):
        assert content.startswith(b"\x89PNG")
    assert "one, two" in description


def test_an_unknown_class_is_named_with_close_ones(explainer: Explainer, cat: Image.Image) -> None:
    with pytest.raises(CompoundNetError, match="no class 'tiger ca'; did you mean tiger cat"):
        explainer(cat, classes=["tiger ca"])


def test_the_command_writes_maps_and_reports_what_it_cannot_read(tmp_path: Path, cat: Image.Image) -> None:
    cat.save(tmp_path / "cat.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    done = command.run("explain", MODEL, tmp_path / "cat.png", tmp_path / "broken.png", "-o", tmp_path / "out")
    assert done.returncode == 1
    assert "tiger cat" in done.stdout and "broken.png" in done.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"001-cat.png", "001-cat-282.png", "maps.json"} <= names or {"002-cat.png", "maps.json"} <= names


def test_a_command_without_a_picture_says_so(tmp_path: Path) -> None:
    done = command.run("explain", MODEL)
    assert done.returncode == 2
