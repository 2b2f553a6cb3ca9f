"""What a fit was asked for, in tests of its steps."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import msgspec
from grey_images import images

from compoundnet.base import Notify, ignore
from compoundnet.fit import Candidate
from compoundnet.fit.job import FitJob
from compoundnet.fit.state import Answer

# What a step has no use for in a test.
UNUSED: Any = None


def fit_job(notify: Notify = ignore, *, seconds: float | None = None, **changes: Any) -> FitJob:
    """Return a job of the grey images with so much time from now on; `changes` are its other fields."""
    deadline = math.inf if seconds is None else time.time() + seconds
    job = FitJob(
        dataset=images(), target=Path("best"), identity="", starts=UNUSED, began=time.monotonic(), seconds=seconds,
        deadline=deadline, workers=1, storage=None, seed=0, confirm=UNUSED, progress=ignore, notify=notify,
    )  # fmt: skip
    return job._replace(**changes)


def probe_answer(candidate: Candidate, **changes: Any) -> Answer:
    """Return the answer of a probe that was ready at once; `changes` are its other fields."""
    return msgspec.structs.replace(Answer(candidate, "best", "best.onnx", False, 0.5, 1.0, 1, None), **changes)
