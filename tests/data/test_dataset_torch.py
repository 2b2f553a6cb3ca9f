"""A split as what torch's own DataLoader reads, and what it shows of itself."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sample_images import write_classes
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from compoundnet.data import Dataset, open_dataset
from compoundnet.data.loader import loader
from compoundnet.data.training_transform import TrainingTransform

TO_TENSOR = v2.Compose([v2.Resize((16, 16)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return open_dataset(write_classes(tmp_path / "pets", 5))


def test_an_item_is_an_image_and_its_label(dataset: Dataset) -> None:
    split = dataset.split("train")
    image, label = split[3]
    assert isinstance(image, Image.Image) and image.mode == "RGB" and isinstance(label, int)
    assert np.array_equal(np.asarray(image), np.asarray(split.image(3))) and label == split.labels[3]
    assert split[-1][1] == split.labels[-1] and split[np.int64(2)][1] == split.labels[2]
    with pytest.raises(IndexError, match="the train split has 8 images, and no number 8"):
        split[8]
    assert len(list(split)) == 8


@pytest.mark.parametrize("workers", [0, 2])
def test_torchs_loader_batches_it(dataset: Dataset, workers: int) -> None:
    split = dataset.split("train").with_transform(TO_TENSOR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking while other threads run
        batches = list(DataLoader(split, batch_size=3, num_workers=workers))  # type: ignore[arg-type]
    assert [tuple(images.shape) for images, _ in batches] == [(3, 3, 16, 16), (3, 3, 16, 16), (2, 3, 16, 16)]
    assert torch.cat([labels for _, labels in batches]).tolist() == split.labels.tolist()
    assert torch.equal(batches[1][0][0], TO_TENSOR(split.image(3)))


def test_a_transform_stays_with_a_subset_and_leaves_the_split_alone(dataset: Dataset) -> None:
    split = dataset.split("train")
    chosen = split.with_transform(TO_TENSOR).subset(np.array([1, 4]))
    assert torch.equal(chosen[1][0], TO_TENSOR(split.image(4)))
    assert split.transform is None and chosen.with_transform(None).transform is None


def test_what_they_show(dataset: Dataset) -> None:
    assert repr(dataset) == "<Dataset 'pets': 8 train, 2 test images of 2 classes, metric top1>"
    assert repr(dataset.split("test")) == "<Split 'test': 2 images of 2 classes>"
    split = dataset.split("train")
    shown = repr(loader(split, TrainingTransform(8), batch=3).at(2, 1))
    assert shown == "<Loader: 8 images shuffled in 2 batches of 3, epoch 2 from batch 1>"
    part = repr(loader(split, TrainingTransform(8), batch=2, shuffle=False, rank=1, world=2))
    assert part == "<Loader: 8 images in 2 batches of 2 of process 1 of 2, epoch 0>"
