"""A classifier on frozen features: an ordinary model folder, and a start for fine-tuning."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from small_model import write_small_model
from small_train import CLASSES, small_dataset, small_network
from torch.nn import functional as F

import compoundnet as cn
from compoundnet.base import CompoundNetError, ignore
from compoundnet.data import Dataset, Split
from compoundnet.data.sources import Arrays
from compoundnet.models import ModelFolder, open_folder
from compoundnet.train import (
    Hardware,
    LabelResult,
    Outcome,
    Watcher,
    evaluate,
    find_recipe,
    launch,
    override,
    plan_task,
    train,
)
from compoundnet.train.checkpoints import Checkpoints
from compoundnet.train.engine import Engine
from compoundnet.train.logs import Logs
from compoundnet.train.overrides import unused_note
from compoundnet.train.probe import probe_task


class Notes(Watcher):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def notify(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return write_small_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory, start: ModelFolder) -> tuple[Path, Outcome, list[str]]:
    folder, notes = tmp_path_factory.mktemp("probe") / "greys", Notes()
    task = plan_task(find_recipe("probe"), small_dataset(train=120), start=start)
    return folder, train(task, folder, watcher=notes), notes.lines


def test_it_is_an_ordinary_model_folder(probed: tuple[Path, Outcome, list[str]], start: ModelFolder) -> None:
    folder, outcome, notes = probed
    assert outcome.result is not None and outcome.result.top1 > 0.7
    assert evaluate(folder, small_dataset()).result.top1 == outcome.result.top1
    model = open_folder(folder)
    assert model.labels == CLASSES
    trained, before = cn.load(folder).state_dict(), cn.load(start).state_dict()
    assert all(torch.equal(trained[name], before[name]) for name in before if not name.startswith("classifier"))
    assert not list(folder.glob("log.csv")) and not list(folder.glob("curves.png"))
    assert (folder / "recipe.toml").read_text().startswith('name = "probe"')
    assert outcome.probe is not None and str(outcome.probe) in notes
    assert str(outcome.probe) in (folder / "README.md").read_text()
    assert json.loads((folder / "result.json").read_text())["count"] == 30


def test_it_is_calibrated_on_the_images_that_each_fold_leaves_out(probed: tuple[Path, Outcome, list[str]]) -> None:
    _, outcome, notes = probed
    assert outcome.calibration is not None and outcome.calibration.images == 120
    assert str(outcome.calibration) in notes


def test_few_images_calibrate_nothing(tmp_path: Path, start: ModelFolder) -> None:
    notes = Notes()
    outcome = train(plan_task(find_recipe("probe"), small_dataset(), start=start), tmp_path / "few", watcher=notes)
    assert outcome.calibration is None
    assert "probabilities are not calibrated: 60 images are too few to do it" in notes.lines


def test_classes_of_unequal_size_are_balanced_as_in_finetune(tmp_path: Path, start: ModelFolder) -> None:
    dataset = small_dataset(train=120)
    whole = dataset.split("train")
    few = np.concatenate([np.flatnonzero(whole.labels == label)[:many] for label, many in enumerate((40, 40, 5))])
    unequal = msgspec.structs.replace(dataset, splits={**dataset.splits, "train": whole.subset(few)})
    task = plan_task(find_recipe("probe"), unequal, start=start)
    assert task.recipe.balance == "loss"
    assert any("balance = loss" in note for note in task.notes)
    result = train(task, tmp_path / "balanced").result
    plain = train(plan_task(find_recipe("probe").replace(balance="none"), unequal, start=start), tmp_path / "plain")
    assert result is not None and plain.result is not None
    assert result.mean_per_class is not None and plain.result.mean_per_class is not None
    assert result.mean_per_class >= plain.result.mean_per_class


def test_several_labels(tmp_path: Path, start: ModelFolder) -> None:
    def split(name: str, count: int, seed: int) -> Split:
        random = np.random.default_rng(seed)
        labels = random.random((count, 2)) < 0.5
        pixels = random.normal(90, 30, (count, 24, 24, 3))
        pixels[..., 2] += 100 * labels[:, :1, None]
        pixels[..., 0] += 100 * labels[:, 1:, None]
        return Split(name, ("blue", "red"), labels, Arrays(name, pixels.clip(0, 255).astype(np.uint8)))

    dataset = Dataset("colours", {"train": split("train", 120, 1), "test": split("test", 60, 2)})
    outcome = train(plan_task(find_recipe("probe"), dataset, start=start), tmp_path / "colours")
    assert isinstance(outcome.result, LabelResult) and outcome.result.mean_average_precision > 0.9
    assert outcome.thresholds is not None and outcome.thresholds.images == 120
    assert open_folder(tmp_path / "colours").postprocess.multilabel
    again = evaluate(tmp_path / "colours", dataset).result
    assert isinstance(again, LabelResult)
    assert again.mean_average_precision == pytest.approx(outcome.result.mean_average_precision, abs=1e-6)


def test_fine_tuning_starts_from_the_probe_and_resumes(tmp_path: Path, start: ModelFolder) -> None:
    recipe = override(find_recipe("finetune"), ["classifier=probe", "epochs=2", "batch=16", "frozen_epochs=0"])
    task = plan_task(recipe, small_dataset(), start=start)
    fabric = launch(Hardware(), recipe)
    probe = probe_task(task, fabric, Watcher(), ignore)
    engine = Engine(task, fabric, Checkpoints(tmp_path / "checkpoints", 1), Logs(None))
    assert torch.equal(engine.evaluation_net().get_parameter("classifier.weight"), torch.from_numpy(probe.weight))
    assert torch.equal(engine.evaluation_net().get_parameter("classifier.bias"), torch.from_numpy(probe.bias))
    whole = train(task, tmp_path / "whole")
    train(plan_task(recipe.replace(epochs=1.0), small_dataset(), start=start), tmp_path / "half")
    assert whole.probe is None and whole.history[0].top1 > 0.5  # chance is a third
    longer = train(task, tmp_path / "half", resume=True)
    assert len(longer.history) == 2


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        ([], {"network": small_network()}, "a probe reads the features of a pretrained model: give --from MODEL"),
        (["minival=0.1"], {}, "judged and calibrated by cross-validation; use --set minival=0"),
        (["mixup=0.2"], {}, "mixup of the recipe needs steps"),
        (["augment.kind=trivialaugment", "erase=0.1"], {}, "augment, erase of the recipe need steps"),
        ([], {"loss": F.cross_entropy}, "a loss or augmentation of your own, and a teacher"),
    ],
)
def test_what_a_probe_cannot_do_is_one_line(
    start: ModelFolder, settings: list[str], arguments: dict[str, object], message: str
) -> None:
    given = arguments if "network" in arguments else {"start": start, **arguments}
    with pytest.raises(CompoundNetError, match=message):
        plan_task(override(find_recipe("probe"), settings), small_dataset(), **given)  # type: ignore[arg-type]


def test_a_class_with_one_image_is_refused_before_any_work(start: ModelFolder) -> None:
    dataset = small_dataset()
    few = dataset.split("train").subset(np.array([0, 1, 2, 3, 4]))
    alone = msgspec.structs.replace(dataset, splits={"train": few})
    with pytest.raises(CompoundNetError, match="'light' has 1 training image, and a probe needs at least 2"):
        plan_task(find_recipe("probe"), alone, start=start)


def test_settings_of_steps_that_a_probe_does_not_use_are_named() -> None:
    settings = ["lr=0.1", "resolution=64", "optimizer.eps=0.1", "lr=0.2", "area=[0.5,1]"]
    line = unused_note(override(find_recipe("probe"), settings), settings)
    assert line == "not used, because a probe takes no steps: lr, optimizer, area; --set epochs=... fine-tunes after it"
    assert unused_note(override(find_recipe("probe"), [*settings, "epochs=2"]), settings) is None
    assert unused_note(find_recipe("probe"), ["resolution=64", "balance=none", "max_bad=2"]) is None


@pytest.mark.parametrize("setting", ["patience=3", "select=best"])
def test_a_probe_has_no_epochs_to_compare(setting: str) -> None:
    for minival in ("0", "0.1", "auto"):
        with pytest.raises(CompoundNetError, match="select = 'best' and patience compare epochs, and a probe has none"):
            override(find_recipe("probe"), [setting, f"minival={minival}"])


def test_no_steps_without_a_probe() -> None:
    with pytest.raises(CompoundNetError, match="give either epochs or steps"):
        override(find_recipe("probe"), ["classifier=new"])
    assert override(find_recipe("probe"), ["epochs=2"]).has_steps
