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

_THUMB = 160  # pixels of the longest side
_LONGEST_BAR = 16  # rem
# The page stays below 5 MB: of each finding so many images are shown.
_MOST_THUMBS = 60


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
                "widths": [round(_LONGEST_BAR * count / longest, 2) for count in of.tolist()],
            }
            for name, of in zip(found.dataset.classes, counts.T, strict=True)
        ],
        findings=[_view(finding, found.dataset) for finding in found.findings],
        made_at=datetime.datetime.now(datetime.UTC).isoformat(sep=" ", timespec="minutes"),
        version=metadata.version("compoundnet"),
    )
    return page.encode(errors="replace")


def _view(finding: Finding, dataset: Dataset) -> dict[str, Any]:
    """Return a finding with thumbnails for the first groups of images, and names only for the others."""
    groups: list[list[dict[str, str | None]]] = []
    left = _MOST_THUMBS
    for names, images in zip(finding.examples, finding.images, strict=False):
        left -= len(images)
        if left < 0 and groups:
            break
        thumbs = [_thumb(dataset, split, index) for split, index in images]
        groups.append([{"name": name, "image": thumb} for name, thumb in zip(names, thumbs, strict=True)])
    return {
        "kind": finding.kind,
        "level": finding.level,
        "text": finding.text,
        "training": finding.training,
        "count": finding.count,
        "groups": groups,
        "names": [" = ".join(names) for names in finding.examples[len(groups) :]],
        "more": finding.count > sum(map(len, finding.examples)) > 0,
    }


def _thumb(dataset: Dataset, split: str, index: int) -> str | None:
    try:
        return jpeg_address(dataset.splits[split].image(index), _THUMB)
    except UnreadableImageError:
        return None
