"""Stages that stay as they were loaded, and the processes that decode."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from small_train import small_dataset, small_network, small_recipe

from compoundnet import arch
from compoundnet.base import CompoundNetError
from compoundnet.base.machine import cores
from compoundnet.models import load, open_folder
from compoundnet.train import Watcher, decoding, find_recipe, override, plan_task, train
from compoundnet.train.frozen import early_stages, trained_share
from compoundnet.train.summary import RunSummary


class _Planned(Watcher):
    text = ""

    def planned(self, summary: RunSummary) -> None:
        self.text = "\n".join(summary.lines())


def test_frozen_stages_keep_weights_and_statistics(tmp_path: Path) -> None:
    dataset = small_dataset()
    train(plan_task(small_recipe("epochs=1"), dataset, network=small_network()), tmp_path / "base")
    start, watcher = open_folder(tmp_path / "base"), _Planned()
    settings = ["epochs=1", "batch=8", "frozen_epochs=0.5", "frozen_stages=1", "norm=train"]
    train(plan_task(override(find_recipe("finetune"), settings), dataset, start=start), tmp_path / "tuned",
          watcher=watcher)  # fmt: skip
    assert "the stem and the first stage are not trained" in watcher.text
    before, after = load(start).state_dict(), load(tmp_path / "tuned").state_dict()
    names = {name for name in before if not name.endswith("num_batches_tracked")}
    kept = {name for name in names if torch.equal(before[name], after[name])}
    assert kept == {name for name in names if name.startswith(("stem.", "stages.0."))}


def test_frozen_stages_are_those_of_a_pretrained_model(tmp_path: Path) -> None:
    recipe = override(find_recipe("finetune"), ["batch=8", "frozen_stages=1"])
    with pytest.raises(CompoundNetError, match="frozen_stages keeps the weights of a pretrained model: give --from"):
        plan_task(recipe, small_dataset(), network=small_network())
    train(plan_task(small_recipe("epochs=1"), small_dataset(), network=small_network()), tmp_path / "base")
    with pytest.raises(CompoundNetError, match="frozen_stages = 9, and small has 2 stages"):
        plan_task(recipe.replace(frozen_stages=9), small_dataset(), start=open_folder(tmp_path / "base"))
    with pytest.raises(CompoundNetError, match="frozen_stages must not be negative, got -1"):
        recipe.replace(frozen_stages=-1)


@pytest.mark.parametrize(
    ("name", "stages"),
    [("efficientnet-b0", 2), ("efficientnetv2-s", 2), ("mobilenet-v4-conv-medium", 1), ("resnet-50", 1)],
)
def test_early_stages_have_maps_of_a_quarter_of_the_side(name: str, stages: int) -> None:
    network = arch.network(name)
    assert early_stages(network) == stages
    convolutions = [layer for layer in arch.unroll(network) if layer.kind == "conv"]
    for number in range(len(network.stages)):
        last = [layer for layer in convolutions if layer.name.startswith(f"stages.{number}.")][-1]
        assert (4 * last.out_size >= network.resolution) == (number < stages)


def test_a_network_without_later_stages_keeps_one_to_train() -> None:
    network = small_network()
    flat = network.replace(stages=tuple(msgspec.structs.replace(stage, stride=1) for stage in network.stages))
    assert early_stages(flat) == len(flat.stages) - 1


def test_the_trained_share_is_that_of_the_layers_after_the_frozen_ones() -> None:
    network = arch.network("efficientnet-b0")
    macs = {layer.name: layer.macs for layer in arch.unroll(network)}
    frozen = sum(value for name, value in macs.items() if name.startswith(("stem.", "stages.0.", "stages.1.")))
    assert trained_share(network, 2) == pytest.approx(1 - frozen / sum(macs.values()))
    assert trained_share(network, 0) == 1


def test_images_that_take_long_are_decoded_by_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    task = plan_task(small_recipe("epochs=1"), small_dataset(), network=small_network())
    assert 0 < decoding.decoding_seconds(task) < 10
    monkeypatch.setattr(decoding, "decoding_seconds", lambda _: 0.001)
    assert decoding.decoding_processes(task) == 0
    monkeypatch.setattr(decoding, "decoding_seconds", lambda _: 0.2)
    assert decoding.decoding_processes(task) == max(1, min(16, cores() - 1))
    assert decoding.decoding_processes(task, 1) == 1
