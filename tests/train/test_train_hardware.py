"""The processes of a training, as Lightning starts them."""

from __future__ import annotations

import logging

import pytest

from compoundnet.train import Hardware, launch


def test_lightnings_advice_to_lower_the_precision_is_hidden_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    from lightning_utilities.core.rank_zero import rank_zero_info

    launch(Hardware(devices=1, accelerator="cpu"))
    loggers = [logging.getLogger(f"lightning.{part}.utilities.rank_zero") for part in ("fabric", "pytorch")]
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
