"""What is written into plots: names of any kind."""

from __future__ import annotations

import io

from PIL import Image

from compoundnet.plots.canvas import canvas, encode


def test_names_may_hold_dollars_and_bytes_that_are_not_utf_8() -> None:
    with canvas(height=3) as figure:
        axes = figure.add_subplot()
        axes.set_title("$0_$10")  # as mathematics, nothing that can be read
        svg, png = encode(figure, "prices of caf\udce9")
    assert b"prices of caf\\xe9" in svg
    assert Image.open(io.BytesIO(png)).info["Description"] == "prices of caf\\xe9"
