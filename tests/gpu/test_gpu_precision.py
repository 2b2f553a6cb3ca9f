"""Precisions and throughput on a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_model import write_small_model

from compoundnet import runtime
from compoundnet.runtime.timing.throughput import throughput

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_narrow_session_is_near_the_wide_one(precision: str, tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "small")
    images = np.random.default_rng(0).standard_normal((4, 3, 32, 32), dtype=np.float32)
    wide = runtime.session(model, device="cuda")(images)
    session = runtime.session(model, device="cuda", precision=precision)
    assert (session.backend, session.precision) == ("torch", precision)
    assert 0 < np.abs(session(images) - wide).max() / np.abs(wide).max() < 0.05


def test_auto_compares_the_precisions_of_the_gpu(tmp_path: Path, empty_cache: Path) -> None:
    model = write_small_model(tmp_path / "small")
    images = np.random.default_rng(0).standard_normal((20, 3, 32, 32), dtype=np.float32)
    session = runtime.session(model, device="cuda", precision="auto", images=lambda: images)
    assert session.choice is not None
    tried = {(one.backend, one.precision) for one in session.choice.candidates}
    assert tried == {("torch", "float32"), ("torch", "bfloat16"), ("torch", "float16")}
    assert session.choice.images == 20


def test_throughput_eager_and_in_graphs() -> None:
    done = throughput(["efficientnet-lite0"], device="cuda", batch=8, runs=2)
    assert [(one.backend, one.precision) for one in done.measurements] == [
        ("torch", "bfloat16"),
        ("torch, CUDA graphs", "bfloat16"),
    ]
    assert done.left_out == ()
