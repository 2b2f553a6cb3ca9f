"""A whole run: it learns, and writes a model folder that holds how."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from small_model import write_small_model
from small_train import CLASSES, small_dataset, small_network, small_recipe

from compoundnet.base import CompoundNetError, decode_toml
from compoundnet.data import Dataset, Split
from compoundnet.data.sources import Arrays
from compoundnet.models import load, open_folder, open_model
from compoundnet.train import Recipe, find_recipe, override, plan_task, train


def test_it_learns_and_writes_all_of_it(tmp_path: Path) -> None:
    recipe = override(find_recipe("quick"), ["epochs=6", "batch=10", "save_epochs=2", "lr=0.01"])
    task = plan_task(recipe, small_dataset(train=150), network=small_network(num_classes=1000))
    outcome = train(task, tmp_path / "model")
    assert outcome.result is not None and outcome.result.top1 >= 0.9
    opened = open_model(tmp_path / "model")
    assert opened.labels == CLASSES and opened.network.num_classes == 3
    assert opened.network.stages == small_network().stages
    assert decode_toml((tmp_path / "model" / "recipe.toml").read_bytes(), Recipe, "recipe.toml") == recipe.replace(
        fit="crop"
    )
    assert (tmp_path / "model" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "model" / "log.csv").read_text().splitlines()) == 1 + 6
    assert f"top-1 {outcome.result.top1:.2%}" in (tmp_path / "model" / "README.md").read_text()
    assert list((tmp_path / "model.run" / "tensorboard").iterdir())


def test_fine_tuning_starts_from_the_model(tmp_path: Path) -> None:
    base = plan_task(small_recipe("epochs=1"), small_dataset(), network=small_network())
    train(base, tmp_path / "base")
    start = open_folder(tmp_path / "base")
    other = small_dataset()
    two = Dataset("two", {name: Split(name, ("a", "b"), split.labels % 2, split.source)
                          for name, split in other.splits.items()})  # fmt: skip
    recipe = override(find_recipe("finetune"), ["epochs=1", "batch=8", "frozen_epochs=1"])
    task = plan_task(recipe, two, start=start)
    assert task.preprocess.mean == start.preprocess.mean and task.network.num_classes == 2
    train(task, tmp_path / "tuned")
    # One epoch, frozen: the classifier is new, the trunk is the old one.
    before, after = load(start).state_dict(), load(tmp_path / "tuned").state_dict()
    for name, tensor in before.items():
        if name.startswith("classifier."):
            assert after[name].shape != tensor.shape
        elif not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(after[name], tensor, rtol=1e-5, atol=1e-6)


def test_batch_norm_policies(tmp_path: Path) -> None:
    kornblith = plan_task(
        override(find_recipe("kornblith"), ["batch=10", "minival=0"]), small_dataset(train=200), network=small_network()
    )
    assert kornblith.make_net().stem.norm.momentum == 0.1  # 20 steps an epoch: min(10 / 20, 0.1)
    many = plan_task(override(find_recipe("kornblith"), ["batch=1"]), small_dataset(train=300), network=small_network())
    assert many.make_net().stem.norm.momentum == pytest.approx(10 / 300)


def test_accumulated_parts_are_one_batch(tmp_path: Path) -> None:
    """With batch norm's statistics fixed, and nothing random, two halves give the gradient of the whole."""
    settings = ["epochs=1", "norm=frozen", "survival=1", "dropout=0", "optimizer.kind=sgd", "ema_decay=0"]
    weights = []
    for parts in (1, 2):
        task = plan_task(small_recipe(f"accumulate={parts}", *settings), small_dataset(), network=small_network())
        train(task, tmp_path / str(parts))
        weights.append(load(tmp_path / str(parts)).state_dict())
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-3, atol=1e-5)


def test_checkpointing_changes_no_weight(tmp_path: Path) -> None:
    for name in ("false", "true"):
        task = plan_task(small_recipe("epochs=1", f"checkpointing={name}"), small_dataset(), network=small_network())
        train(task, tmp_path / name)
    one, two = (load(tmp_path / name).state_dict() for name in ("false", "true"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["accumulate=3"], r"a batch of 8 cannot be shared equally by 1 processes in 3 parts; give a multiple of 3"),
        (["minival=60"], "cannot hold 60"),
    ],
)
def test_what_cannot_be_trained_says_what_to_do(tmp_path: Path, settings: list[str], message: str) -> None:
    with pytest.raises(CompoundNetError, match=message):
        train(plan_task(small_recipe(*settings), small_dataset(), network=small_network()), tmp_path / "model")


def test_a_network_of_grey_images_is_refused(tmp_path: Path) -> None:
    grey = write_small_model(tmp_path / "grey", labels=CLASSES, in_channels=1)
    told = "grey takes images of 1 channel, and training reads all images as RGB, grey ones too: give a model of 3"
    with pytest.raises(CompoundNetError, match=told):
        plan_task(small_recipe(), small_dataset(), start=grey)
    with pytest.raises(CompoundNetError, match=r"small takes images of 4 channels, .*: give a network of 3 channels"):
        plan_task(small_recipe(), small_dataset(), network=small_network().replace(in_channels=4))


def test_one_class_or_none_is_refused() -> None:
    pixels = np.zeros((4, 8, 8, 3), np.uint8)
    one = Split("train", ("only",), np.zeros(4, np.int64), Arrays("x", pixels))
    recipe = small_recipe("minival=0", "select=last", "patience=0")
    with pytest.raises(CompoundNetError, match="only the class 'only'"):
        plan_task(recipe, Dataset("one", {"train": one}), network=small_network())
    empty = Split("train", ("a", "b"), np.zeros(4, np.int64), Arrays("x", pixels))
    with pytest.raises(CompoundNetError, match=r"no training images of 'b'; add some, or remove the class$"):
        plan_task(recipe, Dataset("two", {"train": empty}), network=small_network())
    single = Split("train", ("a", "b"), np.array([0, 0, 0, 1]), Arrays("x", pixels))
    with pytest.raises(CompoundNetError, match=r"images of 'b'; .*, or hold fewer out \(--set minival=0\)"):
        plan_task(small_recipe("minival=3"), Dataset("few", {"train": single}), network=small_network())
    with pytest.raises(CompoundNetError, match="either --network NAME"):
        plan_task(recipe, small_dataset())


def test_a_model_folder_is_not_overwritten(tmp_path: Path) -> None:
    task = plan_task(small_recipe("epochs=1"), small_dataset(), network=small_network())
    train(task, tmp_path / "model")
    with pytest.raises(CompoundNetError, match="exists already"):
        train(task, tmp_path / "model")
    train(task, tmp_path / "model", replace=True)


def test_one_output_is_trained_by_one_process_at_a_time(tmp_path: Path) -> None:
    from filelock import FileLock

    task = plan_task(small_recipe("epochs=1"), small_dataset(), network=small_network())
    (tmp_path / "model.run").mkdir()
    with (
        FileLock(tmp_path / "model.run" / "lock"),
        pytest.raises(CompoundNetError, match="another process is training"),
    ):
        train(task, tmp_path / "model")


def test_a_model_that_cannot_be_written_is_kept_and_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("No space left on device")

    task = plan_task(small_recipe("epochs=1"), small_dataset(), network=small_network())
    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", full)
        with pytest.raises(CompoundNetError, match=r"No space left on device\. .* --resume writes the model"):
            train(task, tmp_path / "model")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.run"]
    train(task, tmp_path / "model", resume=True)
    assert open_model(tmp_path / "model").network.name == "small"


@pytest.mark.slow
def test_a_disk_too_full_for_tensorboard_stops_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk. What the thread of TensorBoard's writer fails at is said."""
    script = (
        "import sys; from pathlib import Path; from compoundnet.train.logs import Logs\n"
        "logs = Logs(Path(sys.argv[1]))\n"
        "with logs.writing(0):\n"
        "    for step in range(2000): logs.step(step, 0.5, 0.1)\n"
        "print('went on')"
    )
    done = subprocess.run(
        ["bash", "-c", f'ulimit -f 2; exec "{sys.executable}" -c "$0" "{tmp_path}"', script],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr
    assert "TensorBoardLogger failed (File too large); training goes on without it\n" in done.stderr


def test_a_batch_larger_than_the_data_shrinks_and_says_so(tmp_path: Path) -> None:
    recipe = small_recipe("batch=64", "epochs=1")
    task = plan_task(recipe, small_dataset(), network=small_network())
    assert (task.recipe.batch, task.asked_batch) == (24, 64)
    assert task.notes == (
        "batch 24 instead of 64: there are only 48 training images, and an epoch should have at least two steps",
    )
    assert train(task, tmp_path / "model").history[-1].step == 2
    assert find_recipe(str(tmp_path / "model" / "recipe.toml")).batch == 24
    odd = plan_task(small_recipe("batch=64", "accumulate=4", "minival=50"), small_dataset(), network=small_network())
    assert (len(odd.train), odd.recipe.batch) == (10, 8)


@pytest.mark.parametrize(
    "settings",
    [
        ["batch=7"],
        ["batch=9", "accumulate=3"],
        pytest.param(["batch=1"], marks=pytest.mark.slow),
        pytest.param(["batch=2", "accumulate=2"], marks=pytest.mark.slow),
    ],
)
def test_an_epoch_takes_every_image_in_steps_of_equal_size(tmp_path: Path, settings: list[str]) -> None:
    """26 of 90 images were left out of every epoch."""
    seen: list[int] = []
    task = plan_task(
        small_recipe("epochs=2", "label_smoothing=0", *settings),
        small_dataset(),
        network=small_network(),
        loss=_counting(seen),
    )
    seen.clear()
    history = train(task, tmp_path / "model").history
    steps, parts = history[0].step, task.recipe.accumulate
    assert sum(seen) == 2 * 48 and len(seen) == 2 * steps * parts
    sizes = [sum(seen[start : start + parts]) for start in range(0, len(seen), parts)]
    assert max(sizes) - min(sizes) <= 1 and max(sizes) <= task.recipe.batch and steps == -(-48 // task.recipe.batch)


def _counting(seen: list[int]) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        seen.append(len(labels))
        return torch.nn.functional.cross_entropy(logits, labels)

    return loss


@pytest.mark.parametrize(
    ("images", "settings", "held"),
    [(60, [], 0), (990, [], 0), (1000, [], 100), (60, ["select=best"], 6), (60, ["patience=3"], 6)],
)
def test_images_are_held_out_only_if_they_decide_something(images: int, settings: list[str], held: int) -> None:
    recipe = small_recipe("minival=auto", "select=last", "patience=0", *settings)
    task = plan_task(recipe, small_dataset(train=images), network=small_network())
    assert (len(task.train), len(task.held) if task.held is not None else 0) == (images - held, held)
    assert task.recipe.minival == (0.1 if held else 0)
    assert any("no training images are held out" in text for text in task.notes) == (held == 0)
    uncalibrated = plan_task(recipe, small_dataset(train=images), network=small_network(), calibrated=False)
    assert (uncalibrated.held is not None) == bool(settings)
