"""What the reproduction of a figure is: the picture in two formats, its points, and what becomes of its claim."""

from __future__ import annotations

from typing import Any

import msgspec

from compoundnet.paper.tables import Verdict


class Figure(msgspec.Struct, frozen=True):
    """A figure of the paper, drawn from measurements.

    description      what the picture says, for those who do not see it
    points           what is plotted, as plain data
    svg, png         the picture; equal inputs give equal bytes
    claim            what the paper says with it; empty for a figure that is not the paper's
    verdict, reason  whether it holds by what is measured here, and why that is said
    """

    name: str
    title: str
    source: str
    description: str
    points: list[dict[str, Any]]
    svg: bytes
    png: bytes
    claim: str = ""
    verdict: Verdict = "not printed"
    reason: str = ""
