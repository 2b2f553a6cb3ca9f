"""What the reproduction of a figure is: the picture in two formats, and the points it shows."""

from __future__ import annotations

from typing import Any

import msgspec


class Figure(msgspec.Struct, frozen=True):
    """A figure of the paper, drawn from measurements.

    description  what the picture says, for those who do not see it
    points       what is plotted, as plain data
    svg, png     the picture; equal inputs give equal bytes
    """

    name: str
    title: str
    source: str
    description: str
    points: list[dict[str, Any]]
    svg: bytes
    png: bytes
