from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from split_names import names_of

from compoundnet.base import CompoundNetError
from compoundnet.data.dataset import Split
from compoundnet.data.holdout import _by_label, draws, hold_out, hold_out_by_class
from compoundnet.data.lookup import open_dataset
from compoundnet.data.sources import Files, Strings


def split_of(count: int, classes: int = 10) -> Split:
    names = Strings.of(f"class{number % classes}/{number}.jpg" for number in range(count))
    labels = np.arange(count, dtype=np.int64) % classes
    return Split("train", tuple(f"class{label}" for label in range(classes)), labels, Files("/data", names))


def test_the_draw_is_what_the_documentation_says() -> None:
    expected = int.from_bytes(hashlib.blake2b(b"7/class3/3.jpg", digest_size=8).digest(), "big")
    assert int(draws(split_of(5), seed=7)[3]) == expected


def test_minival_is_the_same_on_every_machine() -> None:
    """Golden: held out by seed 0 of 100,000 names; a change here changes what results are compared on."""
    rest, minival = hold_out(split_of(100_000), 25_000, seed=0)
    assert (len(rest), len(minival), minival.name) == (75_000, 25_000, "minival")
    assert [minival.image_name(index) for index in (0, 1, 2, 24_999)] == [
        "class0/10.jpg",
        "class5/15.jpg",
        "class6/16.jpg",
        "class5/99995.jpg",
    ]
    assert (
        hashlib.sha256("\n".join(names_of(minival)).encode()).hexdigest()
        == "72decc5d81d450c80dbe44c3d7382378dc138cc5fc6418a9b6d749f5a4175dec"
    )


def test_digits_test_images_are_the_same_on_every_machine() -> None:
    names = names_of(open_dataset("digits").split("test"))
    assert names[:4] == ["digits/00003", "digits/00006", "digits/00007", "digits/00010"]


@given(count=st.integers(2, 300), amount=st.floats(0.01, 0.99), seed=st.integers(0, 2**32))
def test_held_out_images_are_apart_from_the_rest_and_complete_it(count: int, amount: float, seed: int) -> None:
    split = split_of(count, classes=1)
    if not 0 < round(amount * count) < count:
        with pytest.raises(CompoundNetError, match="cannot hold"):
            hold_out(split, amount, seed)
        return
    rest, held = hold_out(split, amount, seed)
    assert len(held) == round(amount * count)
    assert sorted([*names_of(rest), *names_of(held)]) == sorted(names_of(split))


@given(
    counts=st.lists(st.integers(0, 60), min_size=1, max_size=8), amount=st.floats(0.01, 0.99), seed=st.integers(0, 9)
)
def test_each_class_is_held_out_in_the_same_share(counts: list[int], amount: float, seed: int) -> None:
    """Rounded to a neighbouring whole number; of half of the images at the most, no class loses all."""
    labels = np.repeat(np.arange(len(counts)), counts)
    names = Strings.of(f"{number}.jpg" for number in range(len(labels)))
    split = Split("train", tuple(map(str, range(len(counts)))), labels, Files("/data", names))
    count = round(amount * len(split))
    if not 0 < count < len(split):
        return
    rest, held = hold_out(split, amount, seed)
    assert len(held) == count
    assert (np.abs(held.counts() - count / len(split) * split.counts()) <= 1).all()
    if amount < 0.5:
        assert (rest.counts()[split.counts() > 1] > 0).all()


def test_the_lowest_draws_of_each_class_are_held_out() -> None:
    split = split_of(1000).subset(np.r_[0:400, 400:1000:10])  # class 0 has 100 images, the others 40
    _, held = hold_out(split, 0.25)
    assert held.counts().tolist() == [25] + [10] * 9
    drawn = draws(split, 0)
    for label, count in enumerate(held.counts().tolist()):
        members = np.flatnonzero(split.labels == label)
        lowest = members[np.argsort(drawn[members])[:count]]
        assert {split.image_name(index) for index in lowest} <= set(names_of(held))


def test_the_choice_does_not_depend_on_the_order_of_the_files() -> None:
    split = split_of(1000)
    mixed = split.subset(np.random.default_rng(3).permutation(1000))
    assert set(names_of(hold_out(split, 100)[1])) == set(names_of(hold_out(mixed, 100)[1]))


def test_another_seed_chooses_others() -> None:
    first, second = (set(names_of(hold_out(split_of(1000), 100, seed)[1])) for seed in (0, 1))
    assert len(first & second) < 30


def test_each_class_gives_its_share_and_keeps_its_labels() -> None:
    rest, held = hold_out_by_class(split_of(1003), 0.2)
    assert held.counts().tolist() == [20] * 10
    assert rest.counts().sum() + held.counts().sum() == 1003
    assert all(held.classes[label] in held.image_name(index) for index, label in enumerate(held.labels))


@pytest.mark.parametrize("amount", [0, 10, -1, 25_000])
def test_too_many_or_none_is_an_error(amount: int) -> None:
    with pytest.raises(CompoundNetError, match="give a count from 1 to 9"):
        hold_out(split_of(10), amount)


@pytest.mark.parametrize(
    ("count", "fraction", "held"),
    [(2, 0.01, 1), (2, 0.5, 1), (2, 0.99, 1), (3, 0.01, 1), (3, 0.5, 2), (3, 0.99, 2), (5, 0.2, 1), (10, 0.2, 2)],
)
def test_the_smallest_classes_are_in_both_parts(count: int, fraction: float, held: int) -> None:
    rest, chosen = hold_out_by_class(split_of(count, classes=1), fraction)
    assert (len(chosen), len(rest)) == (held, count - held)


@pytest.mark.parametrize(("count", "said"), [(1, "'class0' has 1 image:"), (0, "'class0' has 0 images:")])
def test_a_class_of_one_image_cannot_be_divided(count: int, said: str) -> None:
    split = split_of(4, classes=2).subset(np.array([1, 3, 0][: 2 + count]))
    with pytest.raises(CompoundNetError, match=said):
        hold_out_by_class(split, 0.5)


@pytest.mark.parametrize(
    ("amount", "held"), [(1, 1), (9, 9), (1.0, 1), (0.05, None), (0.06, 1), (0.94, 9), (0.95, None)]
)
def test_the_least_and_the_most_that_can_be_held_out(amount: float, held: int | None) -> None:
    if held is None:
        with pytest.raises(CompoundNetError, match="cannot hold"):
            hold_out(split_of(10), amount)
    else:
        rest, chosen = hold_out(split_of(10), amount)
        assert (len(chosen), len(rest)) == (held, 10 - held)


def labelled(rows: list[list[int]]) -> Split:
    """Images with several labels each: 1 where an image has the label."""
    names = Strings.of(f"{number}.jpg" for number in range(len(rows)))
    classes = tuple(f"label{number}" for number in range(len(rows[0])))
    return Split("train", classes, np.array(rows, np.bool_), Files("/data", names))


def test_a_label_of_two_images_is_in_both_parts_and_one_of_a_single_image_stays() -> None:
    rows = [[1, 0, 0], [1, 0, 0], [0, 1, 0], *([[0, 0, 1]] * 17)]
    for seed in range(5):
        rest, held = hold_out(labelled(rows), 0.1, seed)
        assert held.labels.sum(axis=0).tolist()[:2] == [1, 0]
        assert rest.labels.sum(axis=0).tolist()[:2] == [1, 1]
        assert len(rest) + len(held) == len(rows)
        assert 1 <= held.labels[:, 2].sum() <= 3


@pytest.mark.parametrize(
    ("rows", "count", "held"),
    [
        ([[1], [1]], 1, [1]),  # both parts lack one: the first stays
        # The second and third image have a label that no other has, and stay; of label 1 two are wanted, one is left.
        ([[0, 1, 0], [1, 1, 0], [0, 1, 1]], 2, [0]),
        # The first stays, the others are chosen, and nobody would learn the last label: one that has it goes back.
        ([[1, 1, 0], [0, 1, 1], [1, 0, 1]], 2, [2]),
        ([[1, 1, 0], [0, 1, 1]], 1, []),
    ],
)
def test_division_by_label_by_hand(rows: list[list[int]], count: int, held: list[int]) -> None:
    """Images in the order in which they are drawn."""
    drawn = np.arange(len(rows), dtype=np.uint64)
    assert _by_label(np.array(rows, np.bool_), drawn, count).tolist() == held


def test_images_that_each_have_a_label_of_their_own_cannot_be_held_out() -> None:
    said = "cannot hold 1 of 3 train images out as minival: each has a label that no other image has; add images"
    with pytest.raises(CompoundNetError, match=said):
        hold_out(labelled([[1, 0, 0], [0, 1, 0], [0, 0, 1]]), 1)
    with pytest.raises(CompoundNetError, match="cannot hold 1 of 2 train images out as test"):
        hold_out_by_class(labelled([[1, 1, 0], [0, 1, 1]]), 0.2)


@pytest.mark.parametrize(("fraction", "count", "held"), [(0.01, 2, 1), (0.99, 2, 1), (0.01, 10, 1), (0.99, 10, 9)])
def test_images_without_labels_are_divided_too(fraction: float, count: int, held: int) -> None:
    rest, chosen = hold_out_by_class(labelled([[0]] * count), fraction)
    assert (len(chosen), len(rest)) == (held, count - held)


def test_each_label_is_held_out_in_its_share() -> None:
    random = np.random.default_rng(0)
    rows = (random.random((400, 6)) < [0.5, 0.3, 0.2, 0.1, 0.05, 0.02]).astype(int).tolist()
    rest, held = hold_out(labelled(rows), 0.25)
    total = rest.labels.sum(axis=0) + held.labels.sum(axis=0)
    assert np.abs(held.labels.sum(axis=0) - 0.25 * total).max() <= 3
    assert abs(len(held) - 100) <= 10


def test_seed_0_chooses_unless_told_otherwise() -> None:
    split = split_of(100)
    assert names_of(hold_out(split, 10)[1]) == names_of(hold_out(split, 10, 0)[1])
    assert names_of(hold_out_by_class(split, 0.1)[1]) == names_of(hold_out_by_class(split, 0.1, 0)[1])


def test_the_least_fraction_is_told() -> None:
    with pytest.raises(CompoundNetError, match=r"a fraction from 0\.1 to below 1"):
        hold_out(split_of(10), 0)


def test_labels_of_few_images_are_held_out_by_their_number() -> None:
    """Of a label's images, from none to all but one, whatever the share says: half of three is two, of one none."""
    rows = [[1, 0, 0, 0], *([[0, 1, 0, 0]] * 2), *([[0, 0, 1, 0]] * 3), *([[0, 0, 0, 1]] * 14)]
    for amount, counts in ((2, [0, 1, 1, 1]), (10, [0, 1, 2, 7]), (18, [0, 1, 2, 13])):
        for seed in range(3):
            _, held = hold_out(labelled(rows), amount, seed)
            assert held.labels.sum(axis=0).tolist() == counts


def test_a_label_that_others_took_away_keeps_an_image_in_the_rest() -> None:
    """Each image of the first label has a rarer one too, whose draw may hold all of them out."""
    rows = [[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], *([[0, 0, 0, 0]] * 4)]
    for seed in range(60):
        rest, held = hold_out(labelled(rows), 5, seed)
        assert rest.labels.any(axis=0).all()
        assert len(rest) + len(held) == len(rows)


def test_a_label_of_all_images_beside_one_of_none() -> None:
    rest, held = hold_out(labelled([[0, 1]] * 10), 3)
    assert (len(rest), len(held)) == (7, 3)


def test_images_without_labels_fill_up_what_labels_leave_and_no_more() -> None:
    pairs = [[int(label == number // 2) for label in range(6)] for number in range(12)]
    for amount, without in ((2, 0), (6, 0), (8, 2), (10, 4)):
        _, held = hold_out(labelled([*pairs, *([[0] * 6] * 5)]), amount)
        assert held.labels.any(axis=0).all(), "one of each two"
        assert int((~held.labels.any(axis=1)).sum()) == without
