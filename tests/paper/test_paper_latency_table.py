"""Table 4, from given times: what is held against the paper, and how."""

from __future__ import annotations

import json

import msgspec
import pytest
from given_times import given_times

from compoundnet import base
from compoundnet.paper import latency_table
from compoundnet.paper.latency_table import tabulate, time_groups
from compoundnet.paper.results import Results

MEANS = {"resnet-152": 0.4, "efficientnet-b1": 0.05, "amoebanet-b": 16.0, "efficientnet-b7": 4.0}


def test_speedups_are_judged_and_seconds_are_another_machine_s() -> None:
    b1, b7 = tabulate("table4", Results(), given_times(MEANS)).rows[1::2]
    assert [row.cells["speedup"].measured for row in (b1, b7)] == pytest.approx([8.0, 4.0])
    assert [row.cells["speedup"].verdict for row in (b1, b7)] == ["surpasses", "differs"]
    assert (b1.cells["latency"].printed, b1.cells["latency"].verdict) == ("0.098s", "other machine")
    assert "mean of 20 runs on ONNX Runtime" in b1.cells["latency"].reason
    assert b7.resolution == 600


def test_what_was_left_out_needs_data() -> None:
    made = tabulate("table4", Results(), given_times({"resnet-152": 0.4, "efficientnet-b1": 0.07}))
    assert made.rows[1].cells["speedup"].verdict == "agrees"  # 5.7x
    assert [line.cells["latency"].verdict for line in made.rows[2:]] == ["needs data"] * 2
    left_out = [made.rows[2].cells["latency"], made.rows[3].cells["latency"], made.rows[3].cells["speedup"]]
    assert {cell.reason for cell in left_out} == {"Left out by --quick."}


def test_the_document_holds_every_figure_and_what_they_depend_on() -> None:
    document = json.loads(msgspec.json.encode(tabulate("table4", Results(), given_times(MEANS))))
    assert document["name"] == "table4" and len(document["rows"]) == 4
    done = document["benchmarks"]["EfficientNet-B1"]
    assert set(done["setting"]) >= {"processor", "pinned", "threads", "versions"}
    first = done["measurements"][0]
    assert (first["network"], first["precision"], first["latency"]["p95"]) == ("resnet-152", "float32", 400.0)


def test_too_little_memory_is_said_before_anything_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(latency_table.MEMORY, "EfficientNet-B7", 1e18)
    with pytest.raises(base.CompoundNetError, match="--quick leaves it out"):
        time_groups(("EfficientNet-B1", "EfficientNet-B7"))
