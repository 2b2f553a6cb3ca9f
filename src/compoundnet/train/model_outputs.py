"""The outputs of a model of any kind: its logits on this process's device, and its classes among those of images."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.base.images import UnreadableImageError
from compoundnet.base.machine import cores
from compoundnet.data import Split
from compoundnet.data.dataset import shortened
from compoundnet.data.names import class_name
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
        # Launchers of several processes divide the cores among them.
        threads=threads or min(torch.get_num_threads(), cores()),
        batch=batch,
        device=str(fabric.device) if on_torch else "cpu",
        images=None if check_on is None else lambda: probe_images(model, check_on, MOST_IMAGES),
    )


def logits_function(run: Session) -> Predict:
    """Return a session as a function for `predict_images`."""
    return lambda images: torch.from_numpy(run(images.numpy()))


def probe_images(model: Model, split: Split, most: int) -> NDArray[np.float32]:
    """Return the pixels float32[N, 3, size, size] of images spread evenly over a split, those that can be read."""
    found = []
    for index in spread(range(len(split)), most):
        with suppress(UnreadableImageError):
            found.append(model.preprocess.pixels(split.image(index)))
    size = model.preprocess.size
    return np.stack(found) if found else np.empty((0, 3, size, size), np.float32)


def match_classes(model: Model, split: Split) -> NDArray[np.int64]:
    """Return int64[split's classes]: the model's number of each class, matched by name.

    The classes of a model without class names are numbers: they match classes that are named by these numbers, and no
    others. The order of the images' classes says nothing: it is not known in which order the model was trained.

    Raises:
        CompoundNetError: the classes cannot be matched.
    """
    if model.labels is None:
        count = model.network.num_classes
        numbered = [int(name) if re.fullmatch(r"[0-9]{1,9}", name) else count for name in split.classes]
        if max(numbered) >= count or len(set(numbered)) < len(numbered):
            raise CompoundNetError(
                f"{model.name} has {count} classes without names, and the images {len(split.classes)} classes"
                f" ({shortened(split.classes)}), so they cannot be matched. Write the names of the model's classes,"
                " one per line in the order of its outputs, into labels.txt in its folder; or name the class"
                f" folders by their numbers, 0 to {count - 1}"
            )
        return np.array(numbered, np.int64)
    numbers = {class_name(label): number for number, label in enumerate(model.labels)}
    unknown = [name for name in split.classes if name not in numbers]
    if unknown:
        raise CompoundNetError(
            f"{model.name} does not know {len(unknown)} of the {len(split.classes)} classes of these images, such as"
            f" {unknown[0]!r}{did_you_mean(unknown[0], numbers)}. Rename the class folders, or train on these images"
            " first"
        )
    return np.array([numbers[name] for name in split.classes], np.int64)
