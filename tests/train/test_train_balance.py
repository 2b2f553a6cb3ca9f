"""Classes of unequal size: what is chosen, what the loss and the sampler compute, and that they resume to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_train import CLASSES, small_dataset, small_network, small_recipe
from torch.nn import functional as F

from compoundnet.base import CompoundNetError
from compoundnet.data import Dataset
from compoundnet.data.classes import UNEQUAL
from compoundnet.data.dataset import Split
from compoundnet.data.sources import Arrays
from compoundnet.train import find_recipe, override, plan_task, train
from compoundnet.train.balance import AdjustedCrossEntropy, choose_balance
from compoundnet.train.task import Task

PLAIN = ["minival=0", "select=last", "patience=0"]


def unequal_dataset(counts: tuple[int, int, int] = (40, 10, 4)) -> Dataset:
    """The grey images, with so many of each class for training."""
    whole = small_dataset(train=3 * max(counts), test=30)
    split = whole.split("train")
    chosen = [np.flatnonzero(split.labels == label)[:count] for label, count in enumerate(counts)]
    return Dataset("unequal", whole.splits | {"train": split.subset(np.concatenate(chosen))})


def task_with(*settings: str, counts: tuple[int, int, int] = (40, 10, 4)) -> Task:
    return plan_task(small_recipe(*PLAIN, *settings), unequal_dataset(counts), network=small_network())


def test_the_fine_tuning_recipe_decides_by_the_counts_and_says_so() -> None:
    recipe = find_recipe("finetune")
    assert recipe.balance == "auto"
    few, equal = (unequal_dataset(counts).split("train") for counts in ((40, 10, 4), (10, 10, int(20 / UNEQUAL))))
    chosen, note = choose_balance(recipe, few)
    assert chosen.balance == "loss" and note is not None
    assert note.startswith("class 'dark' has 40 training images, class 'light' 4: balance = loss, ")
    assert note.endswith("; --set balance=none leaves it out")
    asked, told = choose_balance(recipe.replace(balance="loss"), few)
    assert asked.balance == "loss" and told is not None and "leaves it out" not in told
    just = unequal_dataset((int(4 * UNEQUAL), 6, 4)).split("train")
    assert choose_balance(recipe, just)[0].balance == "loss" and choose_balance(recipe, just)[1] is not None
    assert choose_balance(recipe, equal)[0].balance == "none" and choose_balance(recipe, equal)[1] is None
    assert choose_balance(recipe, few, own_loss=True)[0].balance == "sampler"
    kept, warning = choose_balance(recipe.replace(balance="none"), few)
    assert kept.balance == "none" and warning is not None and "--set balance=loss or balance=sampler" in warning


def test_repeats_leave_no_room_for_the_sampler() -> None:
    split, recipe = unequal_dataset().split("train"), find_recipe("finetune").replace(repeats=3)
    chosen, note = choose_balance(recipe, split, own_loss=True)
    assert chosen.balance == "none" and note is not None
    assert note.endswith("; balance = sampler would make up for it, but repeats = 3 excludes it")
    assert choose_balance(recipe, split)[0].balance == "loss"
    assert task_with("balance=auto", "loss=bce", "repeats=3").recipe.balance == "none"


def test_images_of_several_labels_are_not_balanced() -> None:
    recipe, labels = find_recipe("finetune"), np.array([[1, 0], [1, 1], [1, 0]], np.bool_)
    split = Split("train", ("cat", "dog"), labels, Arrays("train", np.zeros((3, 8, 8, 3), np.uint8)))
    assert choose_balance(recipe, split) == (recipe.replace(balance="none"), None)
    for balance in ("sampler", "loss"):
        with pytest.raises(CompoundNetError, match=f"balance = {balance} is for images of one class each"):
            choose_balance(recipe.replace(balance=balance), split)


def test_a_task_holds_what_was_chosen_and_says_it_once() -> None:
    task = task_with("balance=auto")
    assert task.recipe.balance == "loss" and len(task.notes) == 1
    assert isinstance(task.make_loss(torch.device("cpu")), AdjustedCrossEntropy)
    with pytest.raises(CompoundNetError, match="with a loss of your own"):
        plan_task(
            small_recipe(*PLAIN, "balance=loss"), unequal_dataset(), network=small_network(), loss=F.cross_entropy
        )


def test_the_adjusted_loss_is_that_of_the_paper() -> None:
    """Equation 10 of Menon et al.: the logits plus the logarithm of each class's share."""
    random = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(6, 3, generator=random), torch.tensor([0, 1, 2, 0, 0, 1])
    shares = torch.tensor([40, 10, 4]) / 54
    expected = -torch.log(
        shares[labels] * logits.gather(1, labels[:, None]).exp()[:, 0] / (shares * logits.exp()).sum(1)
    )
    loss = AdjustedCrossEntropy(np.array([40, 10, 4]), 0.0)(logits, labels)
    torch.testing.assert_close(loss, expected.mean())


def test_an_epoch_of_the_sampler_has_as_many_images_of_every_class() -> None:
    seen: list[torch.Tensor] = []

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        seen.append(labels)
        return F.cross_entropy(logits, labels)

    recipe = override(small_recipe(*PLAIN), ["balance=sampler", "label_smoothing=0", "epochs=2", "batch=9"])
    task = plan_task(recipe, unequal_dataset(), network=small_network(), loss=loss)
    seen.clear()
    engine_labels = _trained_labels(task, seen)
    assert torch.bincount(engine_labels).tolist() == [36, 36, 36]


def _trained_labels(task: Task, seen: list[torch.Tensor]) -> torch.Tensor:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        train(task, Path(folder) / "model")
    return torch.cat(seen)


@pytest.mark.parametrize("balance", [pytest.param("sampler", marks=pytest.mark.slow), "loss"])
def test_a_balanced_run_resumes_to_the_bit(tmp_path: Path, balance: str) -> None:
    settings = [f"balance={balance}", "epochs=2", "batch=7", "save_minutes=0.000001", "keep=99"]
    train(task_with(*settings), tmp_path / "whole")
    train(task_with(*settings), tmp_path / "cut")
    checkpoints = sorted((tmp_path / "cut.run" / "checkpoints").iterdir())
    for path in checkpoints[3:]:
        path.unlink()
    train(task_with(*settings), tmp_path / "cut", resume=True)
    one, two = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "cut"))
    assert one == two


def test_a_balanced_run_judges_epochs_by_the_mean_per_class(tmp_path: Path) -> None:
    task = plan_task(small_recipe("epochs=1", "balance=loss"), unequal_dataset(), network=small_network())
    last = train(task, tmp_path / "model").history[-1]
    assert last.held_top1 is not None and last.held_mean_per_class is not None
    assert (tmp_path / "model" / "log.csv").read_text().splitlines()[0].endswith("held_mean_per_class")
    assert task.train.classes == CLASSES
