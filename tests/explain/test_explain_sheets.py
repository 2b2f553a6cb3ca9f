"""Overlays, cards, sheets and grids: what is drawn where, and what an image says of itself."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from known_photos import package_file
from PIL import Image
from random_net import random_net, reduced

from compoundnet import arch, models, nn
from compoundnet.base import CompoundNetError
from compoundnet.explain import (
    ROWS,
    ClassMap,
    Explainer,
    Page,
    card,
    grid,
    overlay,
    sheet,
    sheets,
    write_grid,
    write_maps,
)
from compoundnet.explain.overlays import mark
from compoundnet.explain.pages import PAGE, Panel, _wrapped, draw_page
from compoundnet.explain.sheets import title

LABELS = [f"class {index}" for index in range(10)]


def spot() -> ClassMap:
    """All in one of 8 x 8 cells, over the middle of an image of 200 x 100 px."""
    cells = np.zeros((8, 8), np.float32)
    cells[2, 5] = 3
    return ClassMap(4, "spot", 0.9, 2.0, cells, (200, 100), (60, 10, 140, 90), (115, 35), (110, 30, 120, 40))


def noise(width: int = 90, height: int = 60, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def opened(drawn: Page) -> Image.Image:
    """What a viewer makes of the JPEG."""
    image = Image.open(io.BytesIO(drawn.jpeg()))
    image.load()
    assert image.format == "JPEG"
    return image


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    return Explainer(random_net(reduced("efficientnet-b0")), preprocess=models.Preprocess.authors(64), labels=LABELS)


def test_an_overlay_is_coloured_where_the_map_is_grey_elsewhere_and_dark_where_nothing_was_seen() -> None:
    drawn = np.asarray(overlay(Image.new("RGB", (200, 100), (120, 120, 120)), spot())).astype(int)
    assert drawn.shape == (100, 200, 3)
    peak, nothing, outside = drawn[35, 115], drawn[80, 70], drawn[50, 20]
    assert np.ptp(peak) > 60
    assert list(nothing) == [120, 120, 120]
    assert list(outside) == [42, 42, 42]


def test_ring_and_frame_mark_what_speaks_for_a_class_and_nothing_else() -> None:
    plain = Image.new("RGB", (200, 100), (120, 120, 120))
    marked = plain.copy()
    mark(marked, spot())
    assert marked.getpixel((115, 30)) == (255, 255, 255)  # the frame's upper edge
    assert len(marked.getcolors() or ()) == 3
    against = msgspec.structs.replace(spot(), grid=-spot().grid, box=None)
    mark(plain, against)
    assert plain.getcolors() == [(20_000, (120, 120, 120))]


def test_brighter_is_more_of_the_map() -> None:
    cells = np.linspace(0, 1, 16, dtype=np.float32)[None].repeat(16, axis=0)
    shown = ClassMap(0, "ramp", 1.0, 1.0, cells, (160, 160), (0, 0, 160, 160), (155, 5), (32, 0, 160, 160))
    drawn = overlay(Image.new("RGB", (160, 160), (100, 100, 100)), shown).convert("L")
    upper_half = np.asarray(drawn)[80, 90:150].astype(int)
    assert (np.diff(upper_half) >= 0).all()
    assert upper_half[-1] - upper_half[0] > 20


def test_a_card_and_a_sheet_are_wide_enough_and_describe_themselves(explainer: Explainer) -> None:
    found = explainer(noise(), top=2)
    for drawn, width in ((card(found), 960), (sheet([found, explainer(noise(60, 90), top=2)]), 1600)):
        image = opened(drawn)
        assert image.width == width
        assert found.maps[0].label in image.info["comment"].decode() == drawn.description
    assert found.maps[1].label in drawn.description


def test_a_description_longer_than_a_jpeg_can_hold_is_cut_between_letters() -> None:
    drawn = Page(Image.new("RGB", (8, 8)), "é" * 40_000)
    assert set(opened(drawn).info["comment"].decode()) == {"é"}


def test_a_png_says_the_same() -> None:
    content = Page(Image.new("RGB", (8, 8)), "tiger cat, 55 %").png()
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.info["Description"]) == ("PNG", "tiger cat, 55 %")


def test_a_sheet_of_20_photos_is_one_that_can_be_sent_by_mail_and_stays_sharp(
    explainer: Explainer, photos: list[Path]
) -> None:
    drawn = sheet(explainer(photos[number % len(photos)], top=3) for number in range(20))
    content = drawn.jpeg()
    assert len(content) < 4_000_000
    # What compression loses of letters and frames: of 255 steps on average.
    with Image.open(io.BytesIO(content)) as image:
        lost = np.abs(np.asarray(image, np.int16) - np.asarray(drawn.image, np.int16))
    assert lost.mean() < 3


@pytest.fixture(scope="module")
def photos() -> list[Path]:
    """Photos of scikit-image, of much detail."""
    return [package_file("skimage", f"data/{name}") for name in ("chelsea.png", "coffee.png", "astronaut.png")]


def test_a_sheet_grows_by_a_row_for_each_image(explainer: Explainer) -> None:
    one, two = (opened(sheet(explainer(noise(), top=3) for _ in range(count))).height for count in (1, 2))
    rows = two - one
    assert rows > 250
    assert opened(sheet(explainer(noise(), top=3) for _ in range(3))).height == two + rows


def test_many_classes_take_several_lines(explainer: Explainer) -> None:
    assert opened(sheet([explainer(noise(), top=10)])).height > opened(sheet([explainer(noise(), top=5)])).height


def test_an_extreme_image_still_fits(explainer: Explainer) -> None:
    for size in [(2000, 20), (20, 2000), (1, 1)]:
        image = opened(sheet([explainer(noise(*size), top=3)]))
        assert image.width == PAGE
        assert image.height < 1200


def test_panels_do_not_cover_one_another_where_images_have_unequal_numbers_of_maps(
    explainer: Explainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[list[Panel]] = []

    def draw(rows: list[list[Panel]], heading: str) -> Image.Image:
        drawn.extend(rows)
        return draw_page(rows, heading)

    monkeypatch.setattr(sheets, "draw_page", draw)
    sheet([explainer(noise(), top=1), explainer(noise(300, 300), top=3)])
    assert [len(row) for row in drawn] == [2, 4]
    assert all(panel.image.width <= PAGE // 4 for row in drawn for panel in row)
    assert [row[0].remark for row in drawn] == ["90 x 60 px", "300 x 300 px"]


def test_what_a_network_sees_of_a_very_long_image_can_be_marked() -> None:
    seen = ClassMap(
        0, "line", 0.9, 1.0, np.ones((2, 2), np.float32), (5000, 10), (2496, 1, 2504, 9), (2500, 5), (2498, 3, 2502, 7)
    )
    drawn = Image.new("RGB", (384, 1), "grey")
    mark(drawn, seen)
    assert len(drawn.getcolors() or ()) > 1


def test_a_description_and_a_heading_of_any_name_can_be_written(explainer: Explainer) -> None:
    """A file name that is not UTF-8, and a model whose name is longer than a card is wide."""
    image = Image.open(io.BytesIO(Page(noise(), "caf\udce9.jpg: spot").png()))
    image.load()
    assert image.info["Description"] == "caf\\xe9.jpg: spot"
    long = msgspec.structs.replace(explainer(noise(), top=1), model="hf-hub:somebody/" + "network-" * 12)
    edge = np.asarray(card(long).image)[:60, -4:]
    assert (edge == 255).all(), "it ends with an ellipsis before the edge"


def test_a_sheet_of_nothing_is_told() -> None:
    with pytest.raises(CompoundNetError, match="needs at least one image"):
        sheet([])


# A folder of maps.


@pytest.mark.slow
def test_a_folder_holds_an_overlay_per_image_sheets_and_the_numbers(explainer: Explainer, tmp_path: Path) -> None:
    for index in range(ROWS + 1):
        noise(seed=index).save(tmp_path / f"{index}.png")
    (tmp_path / "odd.png").write_bytes(b"Dear diary")
    images = [*(tmp_path / f"{index}.png" for index in range(ROWS + 1)), tmp_path / "odd.png"]
    counts: list[int] = []
    reasons: list[str] = []
    written = write_maps(explainer, images, tmp_path / "maps", top=1, progress=counts.append, notify=reasons.append)
    assert json.loads((tmp_path / "maps" / "maps.json").read_text()) == json.loads(msgspec.json.encode(written))
    assert written.sheets == ("sheet-1.jpg", "sheet-2.jpg")
    assert len(list((tmp_path / "maps").iterdir())) == ROWS + 1 + 2 + 1
    assert counts == [1] * len(images)
    assert (written.failures, len(reasons)) == (1, 1)
    odd = written.images[-1]
    assert odd.error is not None and odd.error in reasons[0] and odd.maps is None


def test_an_unknown_class_is_told_before_the_folder_is_made(explainer: Explainer, tmp_path: Path) -> None:
    with pytest.raises(CompoundNetError, match="no class 'klass 3'"):
        write_maps(explainer, [], tmp_path / "maps", classes=["klass 3"])
    with pytest.raises(CompoundNetError, match="no class 'klass 3'"):
        write_grid([explainer], [], tmp_path / "maps", classes=["klass 3"])
    assert not (tmp_path / "maps").exists()


# Figure 7.


def test_a_grid_shows_one_class_of_an_image_for_all_models(explainer: Explainer) -> None:
    drawn = grid([explainer, explainer], [noise(), noise(seed=1)], titles=["small", "large"])
    assert opened(drawn).width == PAGE
    description = drawn.description
    assert "2 images (rows) by small, large (columns)" in description
    best = explainer(noise(), top=1).maps[0]
    assert description.count(f"{best.label} {best.probability:.1%} by {explainer.name}") >= 2


def test_a_grid_takes_a_class_for_each_image_or_for_all(explainer: Explainer) -> None:
    description = grid([explainer], [noise(), noise(seed=1)], classes=["class 3", "class 4"]).description
    assert "image 1: class 3 " in description
    assert "image 2: class 4 " in description
    description = grid([explainer], [noise(), noise(seed=1)], classes=["class 5"]).description
    assert "image 1: class 5 " in description
    assert "image 2: class 5 " in description


def test_models_of_other_classes_show_their_own(explainer: Explainer) -> None:
    other = Explainer(
        random_net(reduced("resnet-50")),
        preprocess=models.Preprocess.authors(64),
        labels=[f"kind {index}" for index in range(10)],
    )
    description = grid([explainer, other], [noise()]).description
    assert "class " in description
    assert "kind " in description


def test_a_grid_names_damaged_files(explainer: Explainer, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.jpg", tmp_path / "cut.jpg"
    noise(200, 200).save(whole)
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    lenient = Explainer(
        random_net(reduced("efficientnet-b0")), preprocess=explainer.preprocess, labels=LABELS, allow_truncated=True
    )
    told: list[str] = []
    description = write_grid([lenient, lenient], [whole, cut], tmp_path / "out", damaged=told.append)
    assert told == [f"{cut}: is truncated; used as far as it can be decoded"]
    assert "cut.jpg, which is truncated: class" in description and "whole.jpg: class" in description


def test_each_model_of_a_grid_reads_an_image_by_its_own_range(tmp_path: Path) -> None:
    deep = tmp_path / "deep.png"
    values = np.random.default_rng(0).integers(0, 4096, (64, 64)).astype(np.uint16)
    Image.fromarray(values).save(deep)
    net, how = random_net(reduced("efficientnet-b0")), models.Preprocess.authors(64)
    narrow, wide = (Explainer(net, preprocess=how, labels=LABELS, value_range=(0, top)) for top in (4095, 65535))

    def last_column(explainers: list[Explainer]) -> Image.Image:
        page = grid(explainers, [deep], classes=["class 1"]).image
        return page.crop((2 * page.width // 3, 0, *page.size))

    beside, alone, other = (last_column(two) for two in ([narrow, wide], [wide, wide], [narrow, narrow]))
    assert beside == alone != other


def test_a_grid_that_does_not_fit_is_told(explainer: Explainer) -> None:
    with pytest.raises(CompoundNetError, match="at least one model and 1 to 50 images, got 0"):
        grid([explainer], [])
    with pytest.raises(CompoundNetError, match="one for each of its 1 images, got 2 classes"):
        grid([explainer], [noise()], classes=["class 0", "class 1"])
    with pytest.raises(CompoundNetError, match="needs as many titles, got 2"):
        grid([explainer], [noise()], titles=["a", "b"])


def test_a_column_is_headed_by_name_scaling_and_size() -> None:
    network = arch.scale(arch.network("efficientnet-b0"), width=0.5, depth=1.4, resolution=64).replace(num_classes=3)
    heading = title(Explainer(nn.build(network).eval()))
    assert heading.startswith(f"{network.name}, d=1.4 w=0.5")
    assert heading.endswith("64 px")


def test_a_number_is_not_parted_from_its_unit() -> None:
    assert [line.split() for line in _wrapped("resolution, 89 px", 190, bold=True)] == [["resolution,"], ["89", "px"]]
