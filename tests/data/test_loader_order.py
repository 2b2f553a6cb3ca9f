from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compoundnet.base import CompoundNetError
from compoundnet.data.order import Order
from compoundnet.data.randomness import balanced_order, epoch_order, image_random


def ranks(count: int, batch: int, world: int, *, shuffle: bool, drop_last: bool) -> Sequence[Order]:
    return [
        Order(count=count, batch=batch, shuffle=shuffle, drop_last=drop_last, seed=5, rank=rank, world=world)
        for rank in range(world)
    ]


def indices(order: Order, epoch: int = 0, start: int = 0) -> list[list[int]]:
    return [batch.tolist() for batch in order.indices(epoch, start)]


def test_the_order_is_the_same_on_every_machine() -> None:
    """Golden: a change here changes every training run of the same seed."""
    assert epoch_order(10, seed=0, epoch=0).tolist() == [7, 8, 4, 5, 3, 1, 9, 2, 6, 0]
    assert epoch_order(10, seed=0, epoch=1).tolist() == [2, 8, 4, 5, 1, 7, 6, 9, 0, 3]
    assert image_random(seed=1, epoch=2, index=3).random(3).tolist() == [
        0.06344102965932141,
        0.707504754819708,
        0.27756060377104574,
    ]


def test_images_epochs_and_seeds_draw_apart() -> None:
    drawn = {image_random(seed, epoch, index).random() for seed in range(8) for epoch in range(8) for index in range(8)}
    assert len(drawn) == 512


@given(count=st.integers(1, 200), batch=st.integers(1, 40), world=st.integers(1, 5), shuffle=st.booleans())
def test_evaluation_sees_each_image_exactly_once(count: int, batch: int, world: int, shuffle: bool) -> None:
    orders = ranks(count, batch, world, shuffle=shuffle, drop_last=False)
    seen = [index for order in orders for part in indices(order) for index in part]
    assert sorted(seen) == list(range(count))
    for order in orders:
        assert len(indices(order)) == order.batches()
        assert all(1 <= len(part) <= batch for part in indices(order))


@given(count=st.integers(1, 200), batch=st.integers(1, 20), world=st.integers(1, 4), epoch=st.integers(0, 3))
def test_processes_together_see_what_one_sees_with_their_total_batch(
    count: int, batch: int, world: int, epoch: int
) -> None:
    if count < batch * world:
        return
    one = indices(ranks(count, batch * world, 1, shuffle=True, drop_last=True)[0], epoch)
    several = [indices(order, epoch) for order in ranks(count, batch, world, shuffle=True, drop_last=True)]
    assert [[index for part in parts for index in part] for parts in zip(*several, strict=True)] == one
    assert all(len(part) == batch for parts in several for part in parts)


@given(count=st.integers(20, 100), start=st.integers(0, 8), drop_last=st.booleans())
def test_resuming_at_a_batch_gives_the_batches_that_were_left(count: int, start: int, drop_last: bool) -> None:
    order = ranks(count, 10, 1, shuffle=True, drop_last=drop_last)[0]
    assert indices(order, 3, start) == indices(order, 3)[start:]


def test_epochs_differ_and_hold_the_same_images() -> None:
    first, second = epoch_order(1000, 0, 0), epoch_order(1000, 0, 1)
    assert np.array_equal(np.sort(first), np.sort(second))
    assert (first == second).mean() < 0.02


def test_a_batch_larger_than_the_data_says_what_fits() -> None:
    with pytest.raises(CompoundNetError, match=r"30 images do not fill one batch of 16 on each of 2 processes.* 15"):
        Order(count=30, batch=16, shuffle=True, drop_last=True, world=2)


@given(
    count=st.integers(1, 200),
    pieces=st.integers(1, 30),
    world=st.integers(1, 4),
    labels=st.lists(st.integers(0, 5), min_size=200, max_size=200),
    start=st.integers(0, 8),
)
def test_an_epoch_of_equal_pieces_leaves_no_image_out(
    count: int, pieces: int, world: int, labels: list[int], start: int
) -> None:
    if pieces * world > count:
        with pytest.raises(CompoundNetError, match="cannot be divided"):
            Order(count=count, batch=1, shuffle=True, drop_last=False, pieces=pieces, world=world)
        return
    for balanced in (None, np.array(labels[:count], np.int64)):
        orders = [
            Order(
                count=count,
                batch=1,
                shuffle=True,
                drop_last=False,
                rank=rank,
                world=world,
                pieces=pieces,
                labels=balanced,
            )
            for rank in range(world)
        ]
        parts = [indices(order, 2) for order in orders]
        assert all(indices(order, 2, start) == part[start:] for order, part in zip(orders, parts, strict=True))
        drawn = [draw for part in parts for batch in part for draw in batch]
        assert len(set(drawn)) == len(drawn) == count
        sizes = [sum(map(len, batch)) for batch in zip(*parts, strict=True)]
        assert sizes == [orders[0].size(number) for number in range(pieces)]
        assert max(sizes) - min(sizes) <= 1 and all(batch for part in parts for batch in part)
        if balanced is None:
            assert sorted(drawn) == list(range(count))


@given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6), epoch=st.integers(0, 5))
def test_balanced_draws_take_each_class_and_each_of_its_images_equally_often(sizes: list[int], epoch: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    draws = balanced_order(labels, seed=1, epoch=epoch)
    images = np.bincount(draws % len(labels), minlength=len(labels))
    per_class = np.bincount(labels, images)
    assert len(draws) == len(labels) and np.ptp(per_class) <= 1
    assert all(np.ptp(images[labels == label]) <= 1 for label in range(len(sizes)))
    assert balanced_order(labels, seed=1, epoch=epoch).tolist() == draws.tolist()


@pytest.mark.parametrize(
    ("batch", "rank", "world"), [(0, 0, 1), (-1, 0, 1), (1, -1, 1), (1, 1, 1), (1, 2, 2), (1, 0, 0)]
)
def test_impossible_shares_are_refused(batch: int, rank: int, world: int) -> None:
    with pytest.raises(ValueError, match="batch must be at least 1 and 0 <= rank < world"):
        Order(count=10, batch=batch, shuffle=False, drop_last=False, rank=rank, world=world)


def test_the_limits_of_what_can_be_divided() -> None:
    Order(count=1, batch=1, shuffle=False, drop_last=True)
    Order(count=6, batch=3, shuffle=False, drop_last=True, rank=1, world=2)
    Order(count=6, batch=1, shuffle=False, drop_last=True, rank=1, world=2, pieces=3)
    with pytest.raises(CompoundNetError, match=r"5 images do not fill one batch of 3 on each of 2 processes; .* 2$"):
        Order(count=5, batch=3, shuffle=False, drop_last=True, world=2)
    with pytest.raises(CompoundNetError, match="2 images do not fill one batch of 3; give a batch of at most 2"):
        Order(count=2, batch=3, shuffle=False, drop_last=True)
    with pytest.raises(CompoundNetError, match="5 images cannot be divided into 3 batches on each of 2 processes"):
        Order(count=5, batch=1, shuffle=False, drop_last=True, world=2, pieces=3)


def test_batches_and_sizes_of_an_epoch() -> None:
    order = Order(count=10, batch=3, shuffle=False, drop_last=False)
    assert (order.batches(), [order.size(number) for number in range(4)]) == (4, [3, 3, 3, 1])
    assert indices(order) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert Order(count=10, batch=3, shuffle=False, drop_last=True).batches() == 3
    pieces = Order(count=10, batch=1, shuffle=False, drop_last=True, pieces=4)
    assert (pieces.batches(), [pieces.size(number) for number in range(4)]) == (4, [2, 3, 2, 3])
    second = Order(count=10, batch=2, shuffle=False, drop_last=False, rank=1, world=2)
    assert indices(second) == [[2, 3], [6, 7], [9]]


def test_an_order_is_of_seed_0_on_one_process_without_repeats_and_starts_at_its_first_batch() -> None:
    plain = Order(count=10, batch=4, shuffle=True, drop_last=False)
    assert (plain.seed, plain.rank, plain.world, plain.pieces, plain.repeats) == (0, 0, 1, 0, 1)
    assert [batch.tolist() for batch in plain.indices(3)] == indices(plain, 3, 0)
    assert [index for batch in indices(plain) for index in batch] == epoch_order(10, seed=0, epoch=0).tolist()


def test_two_repeats_draw_each_image_twice_in_a_row() -> None:
    """Draws `count` and more are the second ones of an image."""
    drawn = [
        index
        for batch in indices(Order(count=10, batch=4, shuffle=True, drop_last=False, repeats=2))
        for index in batch
    ]
    assert len(drawn) == 10
    assert {second - first for first, second in zip(drawn[0::2], drawn[1::2], strict=True)} == {10}
