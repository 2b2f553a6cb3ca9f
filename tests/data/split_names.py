"""What a split's images are called, for tests that compare splits."""

from __future__ import annotations

from compoundnet.data import Split


def names_of(split: Split) -> list[str]:
    """In the split's order."""
    return [split.image_name(index) for index in range(len(split))]
