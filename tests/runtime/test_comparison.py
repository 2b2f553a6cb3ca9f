"""The comparison of a file with torch: the file gets one image at a time, torch gets several."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from compoundnet.runtime.exports import comparison
from compoundnet.runtime.exports.comparison import compare
from compoundnet.runtime.session_source import Run


class Sums(nn.Module):
    """The logits of two classes: minus and plus the sum of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        total = images.sum(dim=(1, 2, 3))
        return torch.stack([-total, total], dim=1)


def file_of(batches: list[int]) -> Run:
    """A file that is wrong for the third image, whose logits it negates, and off by 0.5 for the fourth."""

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        batches.append(len(images))
        total = images.sum(axis=(1, 2, 3))
        logits: NDArray[np.float32] = np.stack([-total, total], axis=1)
        if len(batches) == 3 + 1:  # after the noise
            return -logits
        return logits + np.float32(0.5 * (len(batches) == 4 + 1))

    return run


@pytest.mark.parametrize(("batch", "expected"), [(2, [1, 2, 2, 1]), (1, [1] * 6), (100, [1, 5])])
def test_torch_gets_several_images_at_a_time(batch: int, expected: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "_BATCH", batch * 3 * 4 * 4)
    net, ran = Sums(), list[int]()
    images = [np.full((3, 4, 4), value, np.float32) for value in (1, 2, 3, 4, 5)]
    noise = [np.zeros((1, 3, 4, 4), np.float32)]
    found = compare(net, file_of(ran), noise, images)
    assert net.batches == expected and ran == [1] * 6
    assert (found.images, found.agreement) == (5, 4 / 5)
    # The largest logit is 5 * 48; the third image's 3 * 48 is negated.
    assert found.difference == pytest.approx(2 * 3 / 5)


def test_without_images_nothing_agrees() -> None:
    found = compare(Sums(), file_of([]), [np.ones((1, 3, 4, 4), np.float32)], [])
    assert (found.images, found.agreement, found.difference) == (0, None, 0.0)
