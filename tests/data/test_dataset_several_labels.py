"""Images with several labels: the split, holding out, shards."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compoundnet.data import Dataset, Split, open_dataset
from compoundnet.data.holdout import hold_out, hold_out_by_class
from compoundnet.data.shards import write_shards
from compoundnet.data.sources import Arrays


def split_of(labels: NDArray[np.bool_]) -> Split:
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 8, 8, 3), dtype=np.uint8)
    return Split("train", tuple(f"label {number}" for number in range(labels.shape[1])), labels, Arrays("x", pixels))


LABELS = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0]], np.bool_)


def test_an_item_has_its_labels_and_a_batch_a_row_for_each_image() -> None:
    from torch.utils.data import DataLoader

    from compoundnet.data.loader import loader
    from compoundnet.models import Preprocess

    split = split_of(LABELS)
    assert split.multilabel
    assert split.counts().tolist() == [2, 2, 0]
    assert split[0][1].tolist() == [True, True, False]
    assert split.subset(np.array([3, 0])).labels.tolist() == LABELS[[3, 0]].tolist()
    assert [split.label_text(index) for index in range(4)] == ["0 1", "0", "", "1"]
    (batch,) = loader(split, Preprocess(8, 1.0), batch=4)
    assert batch.labels.tolist() == LABELS.tolist()
    (_, labels) = next(iter(DataLoader(split.with_transform(np.array), batch_size=4)))  # type: ignore[arg-type]
    assert labels.tolist() == LABELS.tolist()


def test_images_of_one_class_have_one_label() -> None:
    single = Split("train", ("a", "b"), np.array([1, 0]), Arrays("x", np.zeros((2, 8, 8), np.uint8)))
    assert single.with_several_labels().labels.tolist() == [[False, True], [True, False]]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(4, 120), labels=st.integers(1, 8), share=st.floats(0.02, 0.9))
def test_every_label_stays_in_training_and_is_held_out_where_two_images_have_it(
    seed: int, count: int, labels: int, share: float
) -> None:
    random = np.random.default_rng(seed)
    split = split_of(random.random((count, labels)) < share * random.random(labels))
    rest, held = hold_out(split, 0.25)
    assert len(rest) + len(held) == count
    assert sorted(set(map(rest.image_name, range(len(rest)))) | set(map(held.image_name, range(len(held))))) == sorted(
        map(split.image_name, range(count))
    )
    assert ((rest.counts() > 0) == (split.counts() > 0)).all()
    # The same again, and another choice with another seed.
    again = hold_out(split, 0.25)[1]
    assert again.labels.tolist() == held.labels.tolist()


def test_each_label_is_held_out_in_the_same_share() -> None:
    random = np.random.default_rng(1)
    shares = np.array([0.5, 0.2, 0.05, 0.01, 0.004])
    split = split_of(random.random((2000, 5)) < shares)
    rest, held = hold_out_by_class(split, 0.2)
    assert held.name == "test"
    assert abs(len(held) - 400) <= 4
    np.testing.assert_allclose(held.counts(), 0.2 * split.counts(), atol=1)
    assert (held.counts() > 0).all()
    assert len(rest) == 2000 - len(held)


def test_a_label_of_one_image_stays_in_training() -> None:
    labels = np.zeros((20, 2), np.bool_)
    labels[::2, 0] = labels[7, 1] = True
    rest, held = hold_out_by_class(split_of(labels), 0.2)
    assert rest.counts().tolist() == [8, 1]
    assert held.counts().tolist() == [2, 0]
    assert len(held) == 4


def test_shards_keep_the_labels(tmp_path: Path) -> None:
    split = split_of(LABELS)
    write_shards(Dataset("x", {"train": split}), tmp_path / "shards")
    read = open_dataset(tmp_path / "shards").split("train")
    found = {read.image_name(index): read.labels[index].tolist() for index in range(4)}
    assert found == {split.image_name(index): LABELS[index].tolist() for index in range(4)}
    with tarfile.open(next((tmp_path / "shards").glob("*.tar"))) as tar:
        files = {name: tar.extractfile(name) for name in tar.getnames() if name.endswith(".json")}
        written = [json.loads(file.read()) for _, file in sorted(files.items()) if file is not None]
    assert sorted(written) == [[], [0], [0, 1], [1]]


def test_a_split_that_holds_nothing_back_is_refused() -> None:
    with pytest.raises(Exception, match="cannot hold 4 of 4 train images out"):
        hold_out(split_of(LABELS), 4)
