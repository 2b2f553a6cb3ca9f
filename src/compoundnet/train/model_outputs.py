"""The outputs of a model of any kind: its logits on this process's device, and its classes among those of images."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from compoundnet.base.images import UnreadableImageError
from compoundnet.base.machine import default_threads
from compoundnet.data import Split
from compoundnet.models import Model
from compoundnet.runtime.backends.session import Session, backends_of
from compoundnet.runtime.sessions import session
from compoundnet.runtime.timing.agreement import MOST_IMAGES, spread
from compoundnet.train.counts import Predict

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def open_outputs(
    model: Model,
    fabric: Fabric,
    backend: str | None,
    threads: int | None,
    batch: int,
    precision: str | None = None,
    check_on: Split | None = None,
) -> Session:
    """Open a session of a model on the device of this process; `check_on` are the images for the precision auto."""
    # Backends other than torch run on the CPU, even if there is a GPU.
    on_torch = any(able.devices and backend in (None, able.name) for able in backends_of(model))
    return session(
        model,
        backend=backend,
        precision=precision,
        threads=threads or default_threads(),
        batch=batch,
        device=str(fabric.device) if on_torch else "cpu",
        images=None if check_on is None else lambda: probe_images(model, check_on, MOST_IMAGES),
    )


def logits_function(run: Session) -> Predict:
    """Return a session as a function for `predict_readable`."""
    return lambda images: torch.from_numpy(run(images.numpy()))


def probe_images(model: Model, split: Split, most: int) -> NDArray[np.float32]:
    """Return the pixels float32[N, 3, size, size] of images spread evenly over a split, those that can be read."""
    found = []
    for index in spread(range(len(split)), most):
        with suppress(UnreadableImageError):
            found.append(model.preprocess.pixels(split.image(index)))
    size = model.preprocess.size
    return np.stack(found) if found else np.empty((0, 3, size, size), np.float32)
