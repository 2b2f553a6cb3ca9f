"""Pages of images in rows, each below its caption, with one colour scale at the bottom; and their files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from compoundnet.base.table_files import utf8
from compoundnet.explain.maps import BOX_SHARE
from compoundnet.explain.overlays import UNSEEN, coloured
from compoundnet.plots.canvas import INK, QUIET
from compoundnet.plots.fonts import font_file

# Pixels. The type is legible where a page is shown 600 px wide.
PAGE, CARD = 1600, 960
_TYPE, _LINE = 27, 34
_GAP = 16
_BAR = 26
_PAPER = "white"
# Largest ratio of an image's height to its width; a taller image is drawn narrower.
_TALLEST = 1.5
# Twenty images with three maps each take 16 MB as PNG and 3.5 MB as JPEG. At this quality, and without chroma
# subsampling, letters and frames stay sharp.
_QUALITY = 85
# The comment of a JPEG holds at most 65,533 bytes.
_COMMENT = 65_000
# Compression level of zlib; the default 6 takes twice as long and saves 5 %.
_COMPRESSION = 4


class Panel(NamedTuple):
    """An image below two captions: its content in black, and a remark in grey."""

    image: Image.Image
    caption: str
    remark: str = ""


class Page(NamedTuple):
    """A drawn page, and its description, which is stored in the file."""

    image: Image.Image
    description: str

    def jpeg(self) -> bytes:
        """Encode as JPEG, for viewing, with the description as a comment in UTF-8."""
        comment = utf8(self.description).encode()[:_COMMENT].decode(errors="ignore").encode()
        content = io.BytesIO()
        self.image.save(content, "JPEG", quality=_QUALITY, subsampling="4:4:4", comment=comment)
        return content.getvalue()

    def png(self) -> bytes:
        """Encode as PNG, for further processing, with the description under `Description`."""
        about = PngImagePlugin.PngInfo()
        about.add_itxt("Description", utf8(self.description))
        content = io.BytesIO()
        self.image.save(content, "PNG", pnginfo=about, compress_level=_COMPRESSION)
        return content.getvalue()


def fitted(image: Image.Image, width: int) -> Image.Image:
    """Scale an image, up or down, to fill a panel of a column of that width."""
    across = width - _GAP
    scale = min(across / image.width, across * _TALLEST / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)


def draw_page(
    rows: Sequence[Sequence[Panel]], heading: str, heads: Sequence[str] | None = None, across: int = PAGE
) -> Image.Image:
    """Draw rows below a heading, with `heads` above the columns, on a page `across` pixels wide and of any height."""
    columns = max(len(heads or ()), *(len(row) for row in rows))
    width = across // columns
    captions = [[_wrapped(panel.caption, width - _GAP) for panel in row] for row in rows]
    headers = [_wrapped(head, width - _GAP, bold=True, most=4) for head in heads or ()]
    top = _GAP + _LINE + _GAP + max((len(lines) for lines in headers), default=0) * _LINE + (_GAP if heads else 0)
    heights = [
        max(len(lines) for lines in wrapped) * _LINE + _LINE + max(panel.image.height for panel in row) + 2 * _GAP
        for row, wrapped in zip(rows, captions, strict=True)
    ]
    legend = _legend(across)
    drawn = Image.new("RGB", (across, top + sum(heights) + legend.height), _PAPER)
    pen = ImageDraw.Draw(drawn)
    _write(pen, _GAP // 2, _GAP, _wrapped(heading, across - _GAP, bold=True, most=1), INK, bold=True)
    for column, lines in enumerate(headers):
        _write(pen, column * width + _GAP // 2, _GAP + _LINE + _GAP, lines, INK, bold=True)
    y = top
    for row, wrapped, height in zip(rows, captions, heights, strict=True):
        lines_of_row = max(len(lines) for lines in wrapped)
        for column, (panel, lines) in enumerate(zip(row, wrapped, strict=True)):
            x = column * width + _GAP // 2
            _write(pen, x, y + (lines_of_row - len(lines)) * _LINE, lines, INK)
            _write(pen, x, y + lines_of_row * _LINE, _wrapped(panel.remark, width - _GAP, most=1), QUIET)
            drawn.paste(panel.image, (x, y + (lines_of_row + 1) * _LINE + _GAP // 2))
        y += height
    drawn.paste(legend, (0, y))
    return drawn


@cache
def _legend(across: int) -> Image.Image:
    """The colour scale over medium grey, as over an image, and the meaning of the marks."""
    explained = [
        "of the map's maximum: how much a place adds to the class. Grey: nothing, or evidence against the class.",
        f"Ring: the maximum. Frame: the largest region above {BOX_SHARE:.0%} of it. Dark: cropped off before the"
        " network sees the image.",
    ]
    half = across // 2
    lines = [line for text in explained for line in _wrapped(text, across - _GAP, most=4)]
    drawn = Image.new("RGB", (across, _GAP + _BAR + _LINE + len(lines) * _LINE + _GAP), _PAPER)
    pen = ImageDraw.Draw(drawn)
    share = np.tile(np.linspace(0, 1, half, dtype=np.float32), (_BAR, 1))
    bar = coloured(np.full((_BAR, half, 1), 127, np.float32), share)
    drawn.paste(Image.fromarray(bar.round().astype(np.uint8)), (_GAP // 2, _GAP))
    unseen = round(127 * UNSEEN)
    swatch = (half + 3 * _GAP, _GAP, half + 3 * _GAP + 2 * _BAR, _GAP + _BAR - 1)
    pen.rectangle(swatch, fill=(unseen, unseen, unseen))
    pen.text((swatch[2] + _GAP // 2, _GAP - 4), "not seen", fill=QUIET, font=_font())
    for place in (0, 0.25, 0.5, 0.75, 1):
        x = _GAP // 2 + place * (half - 1)
        anchor = "lt" if place == 0 else "rt" if place == 1 else "mt"
        pen.text((x, _GAP + _BAR + 6), f"{place:.0%}", fill=QUIET, font=_font(), anchor=anchor)
    _write(pen, _GAP // 2, _GAP + _BAR + _LINE, lines, QUIET)
    return drawn


def _write(pen: ImageDraw.ImageDraw, x: int, y: int, lines: Sequence[str], colour: str, *, bold: bool = False) -> None:
    for number, line in enumerate(lines):
        pen.text((x, y + number * _LINE), line, fill=colour, font=_font(line, bold=bold))


def _wrapped(text: str, width: int, *, bold: bool = False, most: int = 2) -> list[str]:
    """The text on at most the given number of lines, broken between words if possible, cut off with "…"."""
    font = _font(text, bold=bold)
    lines: list[str] = []
    rest = " ".join(text.split()).replace(" px", "\N{NO-BREAK SPACE}px")  # a number keeps its unit
    while rest and len(lines) < most:
        fits = next((end for end in range(len(rest), 0, -1) if font.getlength(rest[:end]) <= width), 1)
        last = len(lines) + 1 == most
        if fits < len(rest):
            if last:
                fits = next((end for end in range(fits, 0, -1) if font.getlength(rest[:end] + "…") <= width), 1)
                return [*lines, rest[:fits].rstrip() + "…"]
            space = rest.rfind(" ", 1, fits + 1)
            fits = space if space > 0 else fits
        lines.append(rest[:fits].rstrip())
        rest = rest[fits:].lstrip()
    return lines


def _font(text: str = "", *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font of the project's plots, or one of the machine that has all characters of the text."""
    file = font_file(text, bold=bold) or font_file("", bold=bold)
    assert file is not None  # the project's own font has every character of no text
    return _opened(file)


@cache
def _opened(file: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, _TYPE)
