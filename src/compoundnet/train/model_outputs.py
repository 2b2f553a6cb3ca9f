"""The outputs of a model of any kind: its logits on this process's device, and its classes among those of images."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.base.machine import cores
from compoundnet.data import Split
from compoundnet.data.dataset import shortened
from compoundnet.data.names import class_name
from compoundnet.models import Model
from compoundnet.runtime.backends.session import backends_of
from compoundnet.runtime.sessions import session
from compoundnet.train.counts import Predict

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def logits_function(model: Model, fabric: Fabric, backend: str | None, threads: int | None, batch: int) -> Predict:
    """Return the model as a function for `predict_images`, on the device of this process."""
    # Backends other than torch run on the CPU, even if there is a GPU.
    on_torch = any(able.devices and backend in (None, able.name) for able in backends_of(model))
    run = session(
        model,
        backend=backend,
        # Launchers of several processes divide the cores among them.
        threads=threads or min(torch.get_num_threads(), cores()),
        batch=batch,
        device=str(fabric.device) if on_torch else "cpu",
    )
    return lambda images: torch.from_numpy(run(images.numpy()))


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
