"""Class names in any script are legible in plots and images, or replaced by numbers with a legend."""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image

from compoundnet.explain.pages import Panel, draw_page
from compoundnet.plots import fonts
from compoundnet.plots.canvas import canvas, encode_png
from compoundnet.train.training_plots import draw_confusion

SCISSORS = ("翘头剪", "直剪")  # yolov5#6522


@pytest.fixture(autouse=True)
def _a_machine_without_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_machine_fonts", tuple)
    monkeypatch.setattr(fonts, "_told", set())
    fonts._found.cache_clear()


@pytest.fixture
def font(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A font on the machine, whose characters are black squares."""
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for point in ((100, 800), (900, 800), (900, 0)):
        pen.lineTo(point)
    pen.closePath()
    square, characters = pen.glyph(), sorted(set("".join(SCISSORS)))
    names = [".notdef", *(f"uni{ord(one):04X}" for one in characters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(one): f"uni{ord(one):04X}" for one in characters})
    builder.setupGlyf(dict.fromkeys(names, square))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "Squares-Regular.ttf")
    monkeypatch.setattr(fonts, "_machine_fonts", lambda: (str(tmp_path / "Squares-Regular.ttf"),))
    fonts._found.cache_clear()
    return tmp_path / "Squares-Regular.ttf"


CONFUSION = np.array([[5, 1], [2, 4]])


def test_a_font_of_the_machine_is_used_and_nothing_is_said(font: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert fonts.legible(SCISSORS, ["class 0", "class 1"]) == list(SCISSORS)
    assert fonts.families(["cat", *SCISSORS]) == ["DejaVu Sans", "Squares"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert draw_confusion(CONFUSION, SCISSORS, "a study of 直剪").startswith(b"\x89PNG")
    assert caplog.records == []


def test_without_a_font_plots_have_numbers_and_the_log_the_legend_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            assert draw_confusion(CONFUSION, ("cat", *SCISSORS[1:]), "small on photos").startswith(b"\x89PNG")
    (record,) = caplog.records
    assert "plots and images show class 1 = 直剪 (classes); install a font of the script" in record.getMessage()


def test_images_have_the_font_too(font: Path) -> None:
    blank = Image.new("RGB", (100, 80), "white")
    named, empty = (draw_page([[Panel(blank, text)]], "Maps", across=960) for text in (SCISSORS[1], ""))
    ink = np.asarray(named.convert("L")) < 128
    assert ink.sum() - (np.asarray(empty.convert("L")) < 128).sum() > 2 * 300  # two squares of the font


@pytest.mark.parametrize("text", ["Katze", "Löwe, №5", "кот", "γάτα", "قط", "חתול"])
def test_scripts_of_the_projects_own_font_look_for_no_other(text: str) -> None:
    assert fonts.font_file(text) == fonts.font_file("a")
    assert fonts.legible([text], ["class 0"]) == [text]


def test_latin_plots_are_the_same_with_and_without_fonts_of_the_machine(font: Path) -> None:
    def drawn(texts: tuple[str, ...]) -> bytes:
        with canvas(2, texts) as surface:
            surface.subplots().set_title("cats")
            return encode_png(surface, "")

    assert Image.open(io.BytesIO(drawn(()))).tobytes() == Image.open(io.BytesIO(drawn(SCISSORS))).tobytes()
