"""Optimiser, schedule, average, survival and groups against the authors' formulas, with numbers from outside."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from small_train import small_dataset, small_network, small_recipe

from compoundnet.arch import network, scale
from compoundnet.base import CompoundNetError
from compoundnet.nn import build
from compoundnet.nn.units import StochasticDepth
from compoundnet.train import find_recipe, override, plan_task, train
from compoundnet.train.average import Average
from compoundnet.train.optimizer import make_optimizer, parameter_groups, set_learning_rate
from compoundnet.train.recipe_parts import Cosine
from compoundnet.train.rmsprop import RMSPropTF
from compoundnet.train.schedule import (
    average_decay,
    check_norm,
    learning_rate,
    phase_of,
    steps_of_epoch,
    total_steps,
)

WRITTEN = json.loads((Path(__file__).parent / "tf_rmsprop.json").read_text())


def test_rmsprop_takes_tensorflows_steps() -> None:
    weight = torch.nn.Parameter(torch.tensor(WRITTEN["start"]))
    coefficients = torch.tensor(WRITTEN["coefficients"])
    optimizer = RMSPropTF([weight], lr=0.0, weight_decay=WRITTEN["weight_decay"])
    for rate, expected in zip(WRITTEN["rates"], WRITTEN["weights"], strict=True):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        (coefficients * weight**2).sum().backward()
        optimizer.step()
        torch.testing.assert_close(weight.detach(), torch.tensor(expected), rtol=2e-6, atol=2e-7)


def test_batch_norm_on_one_pixel_needs_two_images() -> None:
    """torch refuses one value for each channel; where it would, the error says what to change, before training."""
    v4, b0, recipe = network("mobilenet-v4-conv-small"), network("efficientnet-b0"), find_recipe("finetune")
    check_norm(v4, recipe, images=2, world=1)
    check_norm(v4, recipe.replace(norm="train"), images=2, world=1)
    check_norm(b0, recipe, images=1, world=1)
    check_norm(v4, override(recipe, ["norm=frozen"]), images=1, world=1)
    with pytest.raises(CompoundNetError, match=r"map of one pixel at 224 px \(hidden\.norm\).*--set batch"):
        check_norm(v4, recipe.replace(norm="train"), images=1, world=1)
    with pytest.raises(CompoundNetError, match=r"efficientnet-b0 has batch norm on a map of one pixel at 32 px"):
        check_norm(b0.replace(resolution=32), recipe.replace(norm="train"), images=1, world=1)
    check_norm(v4, recipe.replace(norm="train", sync_norm=True), images=1, world=2)


def test_batch_norm_is_checked_at_the_smallest_training_images(tmp_path: Path) -> None:
    narrow = scale(network("efficientnet-b0"), width=0.1, depth=0.1, resolution=64)
    for setting in ("train_resolution=32", "progressive.resolution=[32,64]"):
        task = plan_task(small_recipe("batch=1", setting), small_dataset(), network=narrow)
        with pytest.raises(CompoundNetError, match="batch norm on a map of one pixel at 32 px"):
            train(task, tmp_path / "model")


def test_rmsprop_one_step_by_hand() -> None:
    """g = 2: ms = 1 + 0.1 (4 - 1) = 1.3; the step is 0.1 * 2 / sqrt(1.301)."""
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = RMSPropTF([weight], lr=0.1)
    weight.grad = torch.tensor([2.0])
    optimizer.step()
    assert weight.item() == pytest.approx(1 - 0.2 / 1.301**0.5, abs=1e-7)


def test_the_average_is_tensorflows() -> None:
    """ExponentialMovingAverage with num_updates, on the weights that TensorFlow wrote."""
    net = build(small_network())
    average = Average(net, WRITTEN["average_decay"])
    bias, averaged = net.get_parameter("classifier.bias"), average.net.get_parameter("classifier.bias")
    with torch.no_grad():
        for tensor in (bias, averaged):
            tensor[:2] = torch.tensor(WRITTEN["start"][:2])
        for step, (weights, expected) in enumerate(zip(WRITTEN["weights"], WRITTEN["averages"], strict=True), start=1):
            bias[:2] = torch.tensor(weights[:2])
            average.update(net, step)
            torch.testing.assert_close(averaged[:2], torch.tensor(expected[:2]), rtol=1e-5, atol=1e-6)


def test_the_average_takes_batch_norm_statistics_in() -> None:
    net = build(small_network())
    average = Average(net, 0.9999)
    net(torch.randn(4, 3, 32, 32))
    average.update(net, 1)
    moved, averaged = (each.get_buffer("stem.norm.running_mean") for each in (net, average.net))
    torch.testing.assert_close(averaged, moved * (1 - 2 / 11))


def test_the_average_is_not_trained() -> None:
    net = build(small_network())
    net.set_grad_checkpointing()
    average = Average(net, 0.9).net
    assert not average.training and not average.checkpointing
    assert not any(weight.requires_grad for weight in average.parameters())
    assert net.checkpointing and all(weight.requires_grad for weight in net.parameters())


def test_average_decay_by_hand() -> None:
    assert average_decay(0.9999, 0) == 0.1
    assert average_decay(0.9999, 90) == pytest.approx(0.91)
    assert average_decay(0.9999, 10**6) == 0.9999


def test_the_imagenet_schedule_by_hand() -> None:
    """100 steps an epoch: 500 of warm-up, a stair every 240, counted from the first step."""
    recipe = find_recipe("imagenet")

    def rate(step: int) -> float:
        return learning_rate(recipe, step, 35_000, 100)

    assert rate(0) == 0
    assert rate(250) == pytest.approx(0.128)
    assert rate(499) == pytest.approx(0.256 * 499 / 500)
    assert rate(500) == pytest.approx(0.256 * 0.97**2)  # 2.08 stairs are 2
    assert rate(719) == pytest.approx(0.256 * 0.97**2)
    assert rate(720) == pytest.approx(0.256 * 0.97**3)
    assert rate(34_999) == pytest.approx(0.256 * 0.97**145)


def test_the_cosine_by_hand() -> None:
    recipe = override(find_recipe("kornblith"), ["lr=0.4"])
    rates = [learning_rate(recipe, step, 20_000, 30) for step in (0, 5_000, 10_000, 20_000)]
    assert rates == pytest.approx([0.4, 0.4 * (2 + 2**0.5) / 4, 0.2, 0.0])


def test_frozen_steps_come_before_the_schedule() -> None:
    recipe = override(find_recipe("finetune"), ["lr=1.0", "frozen_epochs=2", "warmup_epochs=1"])
    rates = [learning_rate(recipe, step, 100, 10) for step in (0, 19, 20, 25, 60)]
    assert rates == pytest.approx([1.0, 1.0, 0.0, 0.5, 0.5])


def test_survival_falls_over_the_blocks_as_the_authors_have_it() -> None:
    net = build(network("efficientnet-b0").replace(survival=0.8))
    found = [module.survival for module in net.modules() if isinstance(module, StochasticDepth)]
    # Blocks with a skip, by their number over all 16: 1 - 0.2 * number / 16.
    assert found[-1] == pytest.approx(0.825)
    assert found == pytest.approx([1 - 0.2 * number / 16 for number in (2, 4, 6, 7, 9, 10, 12, 13, 14)])


def test_all_but_batch_norm_decays_as_the_authors_have_it() -> None:
    net = build(network("efficientnet-b0"))
    groups = {group["weight_decay"]: group["params"] for group in parameter_groups(net, find_recipe("imagenet"))}
    assert set(groups) == {0.0, 1e-5}
    norms = {id(weight) for name, weight in net.named_parameters() if ".norm." in name}
    assert {id(weight) for weight in groups[0.0]} == norms
    assert any(weight is net.get_parameter("classifier.bias") for weight in groups[1e-5])


def test_layer_decay_falls_towards_the_stem() -> None:
    net = build(small_network())
    recipe = override(find_recipe("finetune"), ["layer_decay=0.5", "lr=1.0"])
    optimizer = make_optimizer(net, recipe)
    set_learning_rate(optimizer, 1.0)
    rates = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    # stem, three blocks, head, classifier
    assert rates[id(net.get_parameter("classifier.weight"))] == 1.0
    assert rates[id(net.get_parameter("head.conv.weight"))] == 0.5
    assert rates[id(net.get_parameter("stem.conv.weight"))] == 0.5**5


def test_rmsprop_goes_on_from_its_state() -> None:
    def steps(optimizer: RMSPropTF, weight: torch.nn.Parameter, count: int) -> None:
        for number in range(count):
            weight.grad = torch.full_like(weight, number + 1.0)
            optimizer.step()

    whole = torch.nn.Parameter(torch.ones(3))
    first = RMSPropTF([whole], lr=0.1)
    steps(first, whole, 3)
    copied = torch.nn.Parameter(whole.detach().clone())
    second = RMSPropTF([copied], lr=0.5)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    steps(first, whole, 2)
    steps(second, copied, 2)
    assert torch.equal(whole, copied)


def test_a_run_has_the_steps_or_the_epochs_that_were_asked_for() -> None:
    recipe = find_recipe("imagenet")
    assert total_steps(recipe.replace(epochs=2.5), 10) == 25
    assert total_steps(recipe.replace(steps=7, epochs=0), 10) == 7
    assert total_steps(recipe.replace(epochs=0.01), 10) == 1


def test_each_phase_needs_a_step() -> None:
    recipe = find_recipe("imagenet").replace(progressive={"resolution": [32, 64], "phases": 4})
    assert total_steps(recipe.replace(steps=4, epochs=0), 10) == 4
    with pytest.raises(CompoundNetError, match=r"4 phases .* and the training has 3: .*progressive.phases=3"):
        total_steps(recipe.replace(epochs=0.3), 10)


def test_phases_have_equal_length_and_the_last_one_takes_what_is_left() -> None:
    assert [phase_of(step, 10, 4) for step in range(12)] == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 3]


def test_the_steps_of_an_epoch_share_the_images() -> None:
    recipe = find_recipe("imagenet").replace(batch=8, accumulate=2)
    assert steps_of_epoch(17, recipe, 1, 8) == 3
    assert steps_of_epoch(16, recipe, 1, 8) == 2
    assert steps_of_epoch(5, recipe.replace(batch=2), 1, 2) == 2, "each part of a step has an image"
    assert steps_of_epoch(4, recipe, 2, 8) == 1
    with pytest.raises(CompoundNetError, match="3 training images cannot be shared by 2 processes in 2 parts"):
        steps_of_epoch(3, recipe, 2, 8)
    with pytest.raises(CompoundNetError, match="a batch of 6 cannot be shared equally by 2 processes in 2 parts"):
        steps_of_epoch(100, recipe, 2, 6)


def test_the_cosine_stays_at_its_end() -> None:
    recipe = find_recipe("imagenet").replace(schedule=Cosine(), warmup_epochs=0, frozen_epochs=0)
    assert learning_rate(recipe, 100, 100, 10) == learning_rate(recipe, 150, 100, 10) == pytest.approx(0, abs=1e-12)
    frozen = recipe.replace(frozen_epochs=1)
    assert learning_rate(frozen, 10, 10, 10) == learning_rate(frozen, 9, 10, 10), "all steps are frozen"
    assert learning_rate(frozen, 11, 11, 10) == pytest.approx(0, abs=1e-12), "one step is left after the frozen ones"
