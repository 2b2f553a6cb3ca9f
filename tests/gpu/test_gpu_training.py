"""Training on a GPU: what the CPU's run gives, resumed to the bit, in every precision, and through NCCL."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from kill_at import KillAt, Killed
from safetensors.torch import load_file
from small_model import write_small_model
from small_train import CLASSES, small_dataset, small_network, small_recipe
from torch import Tensor, nn
from torch.nn import functional as F

from compoundnet.data.loader import loader, normalise
from compoundnet.models import load
from compoundnet.train import Hardware, Recipe, launch, plan_task, train
from compoundnet.train.checkpoints import Checkpoints

pytestmark = pytest.mark.gpu

SUPPORT = Path(__file__).parent.parent / "support"
EVERY_STEP = "save_minutes=0.000001"
# Past the first epoch, of six steps, and its evaluation.
SHORT = ("epochs=0", "steps=9")
PLAIN = ("survival=1", "dropout=0", "lr=0.04")


@pytest.fixture(autouse=True)
def same_arithmetic() -> Iterator[None]:
    """Deterministic algorithms of cuDNN, and float32 with all its digits."""
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = True, False
    yield
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = before


def run(output: Path, recipe: Recipe, kill_at: int = 0, *, resume: bool = False, accelerator: str = "gpu") -> None:
    task = plan_task(recipe, small_dataset(), network=small_network())
    fabric = launch(Hardware(devices=1, accelerator=accelerator), recipe)  # type: ignore[arg-type]  # one of its names
    try:
        train(task, output, fabric=fabric, resume=resume, watcher=KillAt(kill_at))
    except Killed:
        assert kill_at


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "weights.safetensors")


@pytest.mark.parametrize(
    "settings",
    [
        ["precision=fp32"],
        ["precision=bf16", "augment=none"],
        ["precision=fp16"],
        ["precision=fp16", "accumulate=2", "clip_norm=1", "ema_decay=0"],
        ["precision=bf16", "checkpointing=true", "optimizer.kind=sgd", "norm=frozen"],
        ["precision=bf16", "frozen_epochs=0.5", "optimizer.kind=adamw", "lr=0.01", "lr_batch=0"],
        ["channels_last=false", "minival=0", "select=last", "patience=0"],
    ],
)
def test_a_killed_run_resumes_to_the_bit(tmp_path: Path, settings: list[str]) -> None:
    run(tmp_path / "whole", small_recipe(*SHORT, *settings))
    for number, step in enumerate((3, 8)):
        run(tmp_path / "cut", small_recipe(*SHORT, EVERY_STEP, *settings), kill_at=step, resume=number > 0)
    run(tmp_path / "cut", small_recipe(*SHORT, EVERY_STEP, *settings), resume=True)
    one, two = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "cut"))
    assert one == two


def test_repeatable_algorithms_give_the_same_weights_twice(tmp_path: Path) -> None:
    torch.backends.cudnn.deterministic = False  # restored by the fixture
    for name in ("one", "two"):
        run(tmp_path / name, small_recipe("epochs=2", "deterministic=true"))
    assert (tmp_path / "one" / "weights.safetensors").read_bytes() == (
        tmp_path / "two" / "weights.safetensors"
    ).read_bytes()


def test_it_reaches_the_weights_of_the_cpu(tmp_path: Path) -> None:
    recipe = small_recipe("epochs=0", "steps=4", *PLAIN)
    run(tmp_path / "gpu", recipe)
    run(tmp_path / "cpu", recipe, accelerator="cpu")
    one, two = weights(tmp_path / "gpu"), weights(tmp_path / "cpu")
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=1e-3, atol=1e-4, msg=name)


def test_fp16_leaves_out_the_steps_whose_gradients_overflow(tmp_path: Path) -> None:
    def steep(logits: Tensor, labels: Tensor) -> Tensor:
        return 100 * F.cross_entropy(logits, labels)

    recipe = small_recipe("epochs=0", "steps=30", "precision=fp16", "label_smoothing=0", "lr=0.01", EVERY_STEP)
    task = plan_task(recipe, small_dataset(), network=small_network(), loss=steep)
    train(task, tmp_path / "model", fabric=launch(Hardware(devices=1, accelerator="gpu"), recipe))
    last = Checkpoints(tmp_path / "model.run" / "checkpoints", 1).load()
    assert last is not None
    assert last["precision"]["scale"] < 2**16  # where it starts: it is halved at each overflow
    assert all(tensor.isfinite().all() for tensor in last["net"].values())
    assert not torch.equal(last["net"]["stem.conv.weight"], task.make_net().get_parameter("stem.conv.weight"))


def test_compiled_it_reaches_the_weights_of_the_eager_network(tmp_path: Path) -> None:
    settings = ["epochs=0", "steps=4", *PLAIN]
    run(tmp_path / "eager", small_recipe(*settings))
    run(tmp_path / "compiled", small_recipe(*settings, "compile=true"))
    one, two = weights(tmp_path / "eager"), weights(tmp_path / "compiled")
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


def test_a_loss_with_constants_serves_several_runs(tmp_path: Path) -> None:
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
    recipe = small_recipe("epochs=0", "steps=2", "label_smoothing=0")
    for name in ("one", "two"):
        task = plan_task(recipe, small_dataset(), network=small_network(), loss=loss)
        train(task, tmp_path / name, fabric=launch(Hardware(devices=1, accelerator="gpu"), recipe))
    assert str(loss.get_buffer("weight").device) == "cpu"


@pytest.mark.parametrize("view", ["same", "whole"])
def test_a_student_with_mixed_and_erased_images_resumes_to_the_bit(tmp_path: Path, view: str) -> None:
    teacher = write_small_model(tmp_path / "teacher", labels=CLASSES)
    settings = [f"distillation.view={view}", "distillation.features=1", "mixup=0.2", "cutmix=1", "erase=0.5", *SHORT]
    for name, step in (("whole", 0), ("cut", 4), ("cut", 0)):
        recipe = small_recipe(EVERY_STEP, *settings)
        task = plan_task(recipe, small_dataset(), network=small_network(), teacher=teacher)
        fabric = launch(Hardware(devices=1, accelerator="gpu"), recipe)
        try:
            train(task, tmp_path / name, fabric=fabric, resume=name == "cut", watcher=KillAt(step))
        except Killed:
            assert step
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_pinned_batches_of_workers_are_those_of_this_process_and_normalised_alike() -> None:
    task = plan_task(small_recipe("augment=none"), small_dataset(), network=small_network())
    plain = list(loader(task.train, task.transform, batch=8))
    pinned = list(loader(task.train, task.transform, batch=8, workers=2, pin_memory=True))
    assert len(plain) == len(pinned) > 1
    for one, two in zip(plain, pinned, strict=True):
        assert two.images.is_pinned() and two.labels.is_pinned()
        assert two.images.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(one.images, two.images) and torch.equal(one.labels, two.labels)
        on_gpu = normalise(two.images.to("cuda", non_blocking=True), task.preprocess)
        assert on_gpu.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(on_gpu.cpu(), normalise(one.images, task.preprocess))


@pytest.mark.parametrize("strategy", ["--ddp", "--fsdp"])
def test_one_process_of_torchrun_trains_and_resumes(tmp_path: Path, strategy: str) -> None:
    """Through NCCL, as many processes do."""
    settings = ["epochs=0", "steps=4", "save_epochs=1", "precision=bf16", *PLAIN]
    for options in ([EVERY_STEP], ["--resume", EVERY_STEP]):
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1",
             str(SUPPORT / "train_once.py"), str(tmp_path / "model"), "--gpu", strategy, *options, *settings],
            capture_output=True, text=True, timeout=240, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    run(tmp_path / "alone", small_recipe(*settings))
    net, alone = load(tmp_path / "model").state_dict(), load(tmp_path / "alone").state_dict()
    for name, tensor in alone.items():
        torch.testing.assert_close(net[name], tensor, rtol=1e-2, atol=1e-2, msg=name)
