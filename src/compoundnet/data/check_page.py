"""The page of a data check: its findings with the images they are about (templates/check.html.j2)."""

from __future__ import annotations

import datetime
from importlib import metadata
from typing import Any

import numpy as np

from compoundnet.base.images import UnreadableImageError
from compoundnet.data.check import DataCheck, Finding
from compoundnet.data.dataset import Dataset
from compoundnet.plots.pages import jpeg_address, page_templates

_THUMB = 192  # pixels of the longest side
_LONGEST_BAR = 16  # rem
# The page stays below 5 MB: of each finding so many images are shown.
_MOST_THUMBS = 40


def check_page(found: DataCheck) -> bytes:
    """Return the HTML file: self-contained, without a script."""
    environment = page_templates("compoundnet.data")
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    counts = np.stack([split.counts() for split in found.dataset.splits.values()])
    longest = max(1, int(counts.sum(axis=0).max()))
    page = environment.get_template("check.html.j2").render(
        name=found.dataset.name,
        understood=found.dataset.text(),
        sizes=found.sizes_text(),
        trains=found.trains,
        near=found.near,
        warnings=sum(finding.level == "warning" for finding in found.findings),
        splits=list(found.dataset.splits),
        classes=[
            {
                "name": name,
                "counts": of.tolist(),
                "widths": [round(_LONGEST_BAR * count / longest, 2) for count in of.tolist() if count],
            }
            for name, of in zip(found.dataset.classes, counts.T, strict=True)
        ],
        findings=[_view(finding, found.dataset) for finding in found.findings],
        made_at=datetime.datetime.now(datetime.UTC).isoformat(sep=" ", timespec="minutes"),
        version=metadata.version("compoundnet"),
    )
    return page.encode(errors="replace")


def _view(finding: Finding, dataset: Dataset) -> dict[str, Any]:
    left = _MOST_THUMBS
    examples = []
    for place, names in enumerate(finding.examples):
        images = finding.images[place] if finding.images else ()
        items = [{"name": name, "image": None} for name in names]
        for item, (split, index) in zip(items, images[:left], strict=False):
            item["image"] = _thumb(dataset, split, index)
        left -= len(images[:left])
        examples.append(items)
    return {
        "kind": finding.kind,
        "level": finding.level,
        "text": finding.text,
        "training": finding.training,
        "count": finding.count,
        "examples": examples,
        "more": finding.count > sum(map(len, finding.examples)) > 0,
    }


def _thumb(dataset: Dataset, split: str, index: int) -> str | None:
    try:
        return jpeg_address(dataset.splits[split].image(index), _THUMB)
    except UnreadableImageError:
        return None
