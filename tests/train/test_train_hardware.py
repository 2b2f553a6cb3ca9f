"""The processes of a training, as Lightning starts them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from lightning_fabric.accelerators.mps import MPSAccelerator
from small_train import small_dataset, small_network

from compoundnet.base import CompoundNetError
from compoundnet.train import Hardware, Watcher, find_recipe, launch, override, plan_task, train
from compoundnet.train.hardware import precision_notes


def test_lightnings_advice_to_lower_the_precision_is_hidden_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    from lightning_utilities.core.rank_zero import rank_zero_info

    launch(Hardware(devices=1, accelerator="cpu"))
    packages = ("lightning_fabric", "pytorch_lightning", "lightning.fabric", "lightning.pytorch")
    loggers = [logging.getLogger(f"{package}.utilities.rank_zero") for package in packages]
    for logger in loggers:  # rank_zero_info uses that of the part which was imported last
        logger.addHandler(caplog.handler)
        logger.setLevel(logging.INFO)
    try:
        rank_zero_info("You should set `torch.set_float32_matmul_precision('high')`")
        rank_zero_info("something else")
    finally:
        for logger in loggers:
            logger.removeHandler(caplog.handler)
    assert {record.getMessage() for record in caplog.records} == {"something else"}


def test_what_runs_is_cuda_or_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never Apple's GPU, which has no float64; Lightning takes it where it can."""
    monkeypatch.setattr(MPSAccelerator, "is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert launch(Hardware()).device.type == "cpu"
    with pytest.raises(CompoundNetError, match=r"^this machine has no GPU for CUDA: leave out --accelerator gpu"):
        launch(Hardware(accelerator="gpu"))


def test_fp16_on_a_cpu_is_bf16_and_said(tmp_path: Path) -> None:
    said: list[str] = []

    class Heard(Watcher):
        def notify(self, text: str) -> None:
            said.append(text)

    recipe = override(find_recipe("quick"), ["steps=1", "precision=fp16"])
    task = plan_task(recipe, small_dataset(), network=small_network())
    fabric = launch(Hardware(devices=1, accelerator="cpu"), recipe)
    train(task, tmp_path / "model", fabric=fabric, watcher=Heard())
    assert any("precision bf16 instead of fp16" in text for text in said)


def test_bf16_on_a_processor_without_its_instructions_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("compoundnet.train.hardware.instruction_sets", lambda: "x86_64 avx2 avx512f")
    assert precision_notes("fp32") == []
    assert [text.split(":")[0] for text in precision_notes("bf16")] == ["this processor has no bfloat16 instructions"]
    monkeypatch.setattr("compoundnet.train.hardware.instruction_sets", lambda: "x86_64 avx512f avx512_bf16 amx_bf16")
    assert precision_notes("bf16") == []
    assert len(precision_notes("fp16")) == 1
