"""What a fit was asked for, in tests of its steps."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from grey_images import images

from compoundnet.base import Notify, ignore
from compoundnet.fit.job import FitJob

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
