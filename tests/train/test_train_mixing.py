"""Random erasing, mixup, CutMix, binary cross-entropy, repeats and augmentation, in formulas and in runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from small_train import small_dataset, small_network, small_recipe
from torch import Tensor

from compoundnet.base import CompoundNetError
from compoundnet.data.augment import AutoAugment, ColorJitter, RandAugment, TrivialAugment
from compoundnet.data.order import Order
from compoundnet.data.randomness import image_random, repeated_order
from compoundnet.data.training_transform import TrainingTransform
from compoundnet.train import plan_task, train
from compoundnet.train.batch_augmentation import BatchMix, draw_mix, erase, one_hot
from compoundnet.train.losses import BinaryCrossEntropy

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)


def images(count: int = 6, size: int = 32) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_mixup_is_the_shares_of_two_images_and_of_their_classes() -> None:
    batch, mix = images(), BatchMix(0.7)
    torch.testing.assert_close(mix.images(batch)[2], 0.7 * batch[2] + 0.3 * batch[1])
    targets = mix.targets(one_hot(torch.tensor([0, 1, 2, 0, 1, 2]), 3))
    torch.testing.assert_close(targets[0], torch.tensor([0.7, 0.0, 0.3]))  # the first with the last


def test_cutmix_pastes_a_rectangle_and_the_share_is_that_of_its_pixels() -> None:
    for number in range(50):
        mix = draw_mix(0, 1, 32, np.random.default_rng(number))
        assert mix is not None and mix.box is not None
        batch = torch.arange(4.0)[:, None, None, None].expand(4, 3, 32, 32)
        mixed = mix.images(batch)
        assert float((mixed[2] == 2).float().mean()) == pytest.approx(mix.share)
        assert set(mixed[2].unique().tolist()) <= {1.0, 2.0}


def test_a_teacher_at_another_resolution_sees_the_same_box() -> None:
    mix = BatchMix(0.75, (0.0, 0.25, 0.5, 0.75))
    batch = torch.arange(2.0)[:, None, None, None]
    small, large = mix.images(batch.expand(2, 3, 8, 8)), mix.images(batch.expand(2, 3, 32, 32))
    assert torch.equal(small, large[..., ::4, ::4])


def test_shares_are_drawn_from_the_beta_distribution() -> None:
    random = np.random.default_rng(0)
    drawn = [draw_mix(0.4, 0, 32, random) for _ in range(2000)]
    assert stats.kstest([mix.share for mix in drawn if mix is not None], stats.beta(0.4, 0.4).cdf).pvalue > 0.01
    both = [draw_mix(0.2, 1, 32, random) for _ in range(2000)]
    assert np.mean([mix is not None and mix.box is None for mix in both]) == pytest.approx(0.5, abs=0.05)
    assert draw_mix(0, 0, 32, random) is None


def test_erasing_replaces_one_rectangle_of_a_share_of_the_images() -> None:
    before, after = images(400), erase(images(400), 0.25, np.random.default_rng(0))
    changed = (before != after).any(1)
    assert float(changed.flatten(1).any(1).float().mean()) == pytest.approx(0.25, abs=0.06)
    for mask in changed[changed.flatten(1).any(1)]:
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        assert mask.sum() == len(rows) * len(columns)
        assert 0.01 < len(rows) * len(columns) / 32**2 < 0.36
    assert torch.equal(after, erase(images(400), 0.25, np.random.default_rng(0)))


def test_binary_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.0]])
    expected = -(torch.tensor([2.0]).sigmoid().log() + torch.tensor([1.0, 0.0]).sigmoid().log().sum())
    torch.testing.assert_close(BinaryCrossEntropy()(logits, torch.tensor([0])), expected[0])
    mixed = BinaryCrossEntropy()(logits, torch.tensor([[0.9, 0.1, 0.0]]))
    torch.testing.assert_close(mixed, BinaryCrossEntropy()(logits, torch.tensor([[0.5, 0.5, 0.0]])))


def test_repeated_draws_are_of_one_image_in_one_batch_with_choices_of_their_own() -> None:
    draws = repeated_order(10, 3, seed=0, epoch=0)
    assert len(draws) == len(set(draws.tolist())) == 10
    assert (draws % 10).reshape(-1)[:9].reshape(3, 3).std(axis=1).max() == 0
    batches = list(Order(10, 5, True, False, pieces=2, repeats=3).indices(0))
    assert [len(batch) for batch in batches] == [5, 5]
    seen = {int(draw) % 10 for epoch in range(12) for draw in repeated_order(10, 3, 0, epoch)}
    assert seen == set(range(10))


@pytest.mark.parametrize("augment", [TrivialAugment(), ColorJitter(0.4), RandAugment(increasing=True, noise=0.5)])
def test_an_image_has_the_same_augmentation_in_every_run(augment: TrivialAugment | ColorJitter | RandAugment) -> None:
    def drawn(index: int) -> bytes:
        torch.manual_seed(index * 7)  # no generator of the process matters, and none is changed
        state = torch.default_generator.get_state()
        result = augment.apply(Image.fromarray(PIXELS), image_random(0, 0, index)).tobytes()
        assert torch.equal(torch.default_generator.get_state(), state)
        return result

    first = [drawn(index) for index in range(8)]
    assert first == [drawn(index) for index in range(8)] and len(set(first)) > 3


def test_increasing_operations_change_an_image_more_at_a_higher_strength() -> None:
    def change(magnitude: float, **fields: float) -> float:
        how = RandAugment(layers=1, magnitude=magnitude, increasing=True, **fields)
        drawn = [how.apply(Image.fromarray(PIXELS), image_random(0, 0, index)) for index in range(150)]
        return float(np.mean([np.abs(np.asarray(image).astype(int) - PIXELS).mean() for image in drawn]))

    assert change(0) < change(3) < change(9)
    assert change(9, probability=0.5) < 0.75 * change(9)


def test_uniform_noise_draws_strengths_up_to_the_magnitude_and_a_number_around_it() -> None:
    uniform, normal = RandAugment(magnitude=6, noise="uniform"), RandAugment(magnitude=6, noise=1.5)
    random = np.random.default_rng(0)
    assert stats.kstest([uniform._level(random) for _ in range(500)], stats.uniform(0, 6).cdf).pvalue > 0.01
    assert np.std([normal._level(random) for _ in range(500)]) == pytest.approx(1.5, abs=0.15)


@pytest.mark.parametrize("fields", [{"noise": -1}, {"noise": 31}, {"probability": 0}, {"probability": 1.5}])
def test_impossible_noise_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        RandAugment(**fields)  # type: ignore[arg-type]


def test_the_recipe_reaches_the_transform() -> None:
    recipe = small_recipe("color_jitter=0.3", "train_resolution=40", "resolution=48", "augment.kind=autoaugment")
    task = plan_task(recipe, small_dataset(), network=small_network())
    expected = TrainingTransform(40, padding=(124, 116, 104), augment=AutoAugment(), jitter=ColorJitter(0.3))
    assert task.transform == expected
    assert (task.preprocess.size, task.network.resolution) == (48, 48)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(["mixup=0.2", "cutmix=1", "erase=0.5", "label_smoothing=0.1"], marks=pytest.mark.slow),
        pytest.param(["loss=bce", "cutmix=1", "repeats=3", "augment.kind=trivialaugment"], marks=pytest.mark.slow),
        ["balance=loss", "mixup=0.4", "color_jitter=0.1", "train_resolution=40", "augment=none"],
    ],
)
def test_a_run_with_them_learns(tmp_path: Path, settings: list[str]) -> None:
    recipe = small_recipe("epochs=6", "minival=0", "select=last", "patience=0", "ema_decay=0.9", *settings)
    outcome = train(plan_task(recipe, small_dataset(), network=small_network()), tmp_path / "model")
    assert outcome.result is not None and outcome.result.top1 > 0.5
    assert outcome.model.preprocess.size == 32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["mixup=0.2"], "mixup needs a loss of mixed classes"),
        (["loss=bce"], "together with a loss of your own"),
    ],
)
def test_a_loss_of_ones_own_takes_classes(settings: list[str], message: str) -> None:
    recipe = small_recipe("label_smoothing=0", *settings)
    with pytest.raises(CompoundNetError, match=message):
        plan_task(recipe, small_dataset(), network=small_network(), loss=torch.nn.CrossEntropyLoss())


@pytest.mark.parametrize("settings", [["balance=loss", "loss=bce"], ["balance=sampler", "repeats=2"]])
def test_what_excludes_each_other_is_said(settings: list[str]) -> None:
    with pytest.raises(CompoundNetError, match="balance ="):
        small_recipe(*settings)
