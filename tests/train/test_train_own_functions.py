"""A person's own loss, augmentation and logger in a real training: used, validated, resumed to the bit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from lightning_fabric.loggers.csv_logs import CSVLogger
from lightning_fabric.loggers.logger import Logger
from PIL import Image
from small_train import small_dataset, small_network, small_recipe
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from compoundnet.base import CompoundNetError
from compoundnet.base.machine import torch_threads
from compoundnet.data.own_augmentation import OwnAugmentation
from compoundnet.train import Recipe, Watcher, plan_task, train
from compoundnet.train.identity import described

OWN = ("label_smoothing=0", "augment=none")


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[None]:
    """As in the other tests of equal weights."""
    with torch_threads(1):
        yield


def focal(logits: Tensor, labels: Tensor) -> Tensor:
    """Lin et al. 2017 with gamma 2."""
    logarithms = F.log_softmax(logits, 1).gather(1, labels[:, None])
    return ((1 - logarithms.exp()).square() * -logarithms).mean()


def noise(image: Image.Image) -> Image.Image:
    """Draws from all three global generators."""
    pixels = np.asarray(image).astype(np.int64)
    pixels = pixels + np.random.randint(-9, 9, pixels.shape) + torch.randint(-9, 9, pixels.shape).numpy()
    return Image.fromarray((pixels + random.randint(-9, 9)).clip(0, 255).astype(np.uint8))


class Stopped(BaseException):
    pass


class StopAt(Watcher):
    def __init__(self, step: int) -> None:
        self._step = step

    def stepped(self, step: int, loss: float) -> None:
        if step == self._step:
            raise Stopped


def run(output: Path, recipe: Recipe, stop_at: int = 0, resume: bool = False, workers: int = 0, **own: Any) -> bytes:
    task = plan_task(recipe, small_dataset(), network=small_network(), **own)
    try:
        train(task, output, resume=resume, workers=workers, watcher=StopAt(stop_at))
    except Stopped:
        return b""
    return (output / "weights.safetensors").read_bytes()


def test_a_loss_trains_and_resumes_to_the_bit(tmp_path: Path) -> None:
    recipe = small_recipe("save_minutes=0.000001", *OWN)
    weights = run(tmp_path / "whole", recipe, loss=focal)
    assert weights != run(tmp_path / "usual", recipe)
    run(tmp_path / "cut", recipe, stop_at=8, loss=focal)
    with pytest.raises(CompoundNetError, match=r"another function: loss is \S+\.focal there and cross-entropy here"):
        run(tmp_path / "cut", recipe, resume=True)
    assert run(tmp_path / "cut", recipe, resume=True, loss=focal) == weights
    assert "focal`" in (tmp_path / "whole" / "README.md").read_text()


def test_cross_entropy_given_as_a_module_is_the_default_loss(tmp_path: Path) -> None:
    recipe = small_recipe("epochs=1", *OWN)
    assert run(tmp_path / "module", recipe, loss=nn.CrossEntropyLoss()) == run(tmp_path / "usual", recipe)


@pytest.mark.parametrize(
    "augment",
    [noise, pytest.param(v2.Compose([v2.RandomRotation(20), v2.ColorJitter(0.3)]), marks=pytest.mark.slow)],
)
def test_an_augmentation_is_the_same_in_workers_and_after_a_resume(tmp_path: Path, augment: Any) -> None:
    recipe = small_recipe("save_minutes=0.000001", *OWN)
    weights = run(tmp_path / "whole", recipe, augment=augment)
    assert weights != run(tmp_path / "usual", recipe)
    run(tmp_path / "cut", recipe, stop_at=8, augment=augment)
    with pytest.raises(CompoundNetError, match=r"another function: augmentation is .* there and the recipe's here"):
        run(tmp_path / "cut", recipe, resume=True)
    assert run(tmp_path / "cut", recipe, resume=True, workers=2, augment=augment) == weights


def test_an_augmentation_leaves_the_global_generators_alone() -> None:
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]
    OwnAugmentation(noise).apply(Image.new("RGB", (8, 8)), np.random.default_rng(1))
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # type: ignore[index]


def scaled(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def wrong(logits: Tensor, labels: Tensor) -> Tensor:
    return F.mse_loss(logits, labels)


def shrink(image: Image.Image) -> Image.Image:
    return image.resize((4, 4))


class Learned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))


@pytest.mark.parametrize(
    ("settings", "own", "message"),
    [
        ([], {"loss": focal}, r"label_smoothing .* recipe\.replace\(label_smoothing=0\)"),
        ([], {"augment": noise}, r"recipe\.replace\(augment=None\)"),
        (OWN, {"loss": scaled}, r"must return a scalar tensor .*, got torch\.float32\[2\]"),
        (OWN, {"loss": wrong}, r"the loss fails on logits float32\[2, 3\]"),
        (OWN, {"loss": Learned()}, "must not have parameters"),
        (OWN, {"augment": lambda image: image}, "cannot be sent to worker processes"),
        (OWN, {"augment": shrink}, "of the size it was given, 32 x 32 px, got mode RGB, 4 x 4 px"),
        (OWN, {"augment": v2.RandomCrop(50)}, "the augmentation fails on an image of 32 px"),
    ],
)
def test_what_cannot_work_is_said_before_training(settings: list[str], own: dict[str, Any], message: str) -> None:
    with pytest.raises(CompoundNetError, match=message):
        plan_task(small_recipe(*settings), small_dataset(), network=small_network(), **own)


def test_modules_are_compared_with_their_constants() -> None:
    one, other = (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, value])) for value in (3.0, 4.0))
    assert described(one) == described(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0])))
    assert described(one) != described(other)


class Remembering(Logger):
    """Fails after three reports."""

    name = version = None

    def __init__(self) -> None:
        self.points: list[tuple[int | None, dict[str, float]]] = []
        self.settings: dict[str, Any] = {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if len(self.points) == 3:
            raise ConnectionError("the network is gone")
        self.points.append((step, metrics))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.settings = params


class Counting:
    """A logger by its methods alone, as are those of the package `lightning`, whose class `Logger` is another one."""

    reports = 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.reports += 1

    def log_hyperparams(self, params: Any) -> None:
        raise NotImplementedError

    def save(self) -> None:
        pass

    def finalize(self, status: str) -> None:
        assert status == "success"


def test_loggers_of_ones_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = small_recipe(*OWN)
    own, counting, table = Remembering(), Counting(), CSVLogger(tmp_path, name="table", version="")
    task = plan_task(recipe, small_dataset(), network=small_network())
    outcome = train(task, tmp_path / "model", loggers=[own, counting, table])  # type: ignore[list-item]
    assert own.settings == recipe.fields()
    assert [step for step, _ in own.points] == [6, 10, 12]
    assert set(own.points[1][1]) == {"loss", "lr"}
    assert counting.reports == 4
    first = msgspec.structs.asdict(outcome.history[0])
    del first["epoch"], first["step"]
    assert own.points[0][1] == {f"epoch/{name}": value for name, value in first.items() if value is not None}
    assert "Remembering failed (the network is gone); training goes on without it" in caplog.text
    assert len((tmp_path / "table" / "metrics.csv").read_text().splitlines()) == 1 + 3 + 1
    assert not (tmp_path / "model.run" / "tensorboard").exists()
    with pytest.raises(CompoundNetError, match=r"loggers must be instances of lightning_fabric\.loggers\.Logger"):
        train(task, tmp_path / "other", loggers=["tensorboard"])  # type: ignore[list-item]


def test_a_recipe_is_replaced_field_by_field_and_checked() -> None:
    recipe = small_recipe()
    assert recipe.replace(lr=0.1) == small_recipe("lr=0.1")
    assert recipe.replace(augment=None).augment is None
    with pytest.raises(CompoundNetError, match="a recipe has no field 'learning_rate'"):
        recipe.replace(learning_rate=0.1)
    with pytest.raises(CompoundNetError, match="recipe: field lr: Expected `float`, got `str`"):
        recipe.replace(lr="high")
    with pytest.raises(CompoundNetError, match="recipe: lr must be above 0, got -1"):
        recipe.replace(lr=-1)
