"""The ImageNet server's format (Table 8): for each test image a line with the numbers of five classes, best first.

The numbers are ILSVRC2012_ID, 1 to 1,000, which do not follow the order of the names; they are in meta.mat of the
development kit.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError, Progress, ignore
from compoundnet.data import Split
from compoundnet.data.loader import loader
from compoundnet.models import Model
from compoundnet.models.labels import label_set
from compoundnet.train.model_outputs import logits_function, open_outputs
from compoundnet.train.processes import total

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_DEVKIT = "ILSVRC2012_devkit_t12"
_GUESSES = 5


def submission(
    model: Model,
    split: Split,
    fabric: Fabric,
    *,
    devkit: Path | None = None,
    backend: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    batch: int = 64,
    workers: int | None = None,
    progress: Progress = ignore,
) -> bytes:
    """Return the content of the file, one line per image in the order of the split. All processes call it together.

    Args:
        model: A model with ImageNet's 1,000 classes.
        split: The test images, from `imagenet-test`.
        fabric: The processes, from `launch`.
        devkit: Folder of ILSVRC 2012's development kit; by default its original folder inside that of the images.
        backend: As in `evaluate`, like the other arguments.

    Raises:
        CompoundNetError: the model has other classes, or the development kit is missing.
    """
    if model.labels != label_set("imagenet-1k"):
        raise CompoundNetError(
            f"{model.name} does not have ImageNet's 1,000 classes in their order, as a submission needs"
        )
    numbers = class_numbers(devkit or Path(getattr(split.source, "root", ".")) / _DEVKIT)
    logits = logits_function(open_outputs(model, fabric, backend, threads, batch, precision, split))
    guesses = torch.zeros(len(split), _GUESSES, dtype=torch.int64)
    with torch.inference_mode():
        for images, _, indices, _ in loader(
            split, model.preprocess, batch=batch, workers=workers, rank=fabric.global_rank, world=fabric.world_size
        ):
            guesses[indices] = logits(images).topk(_GUESSES).indices
            progress(len(indices))
    whole = total(fabric, guesses.to(fabric.device)).cpu().numpy()
    return "".join(f"{' '.join(map(str, row))}\n" for row in numbers[whole]).encode()


def class_numbers(devkit: Path) -> NDArray[np.int64]:
    """Return int64[1000]: the ILSVRC2012_ID of each class, classes in the order of their WordNet ids."""
    path = devkit / "data" / "meta.mat"
    if not path.is_file():
        raise CompoundNetError(
            f"a submission numbers classes as ILSVRC 2012's development kit does, and there is no {path}; unpack"
            f" {_DEVKIT}.tar.gz from image-net.org there, or say where it is with --devkit"
        )
    from scipy.io import loadmat  # noqa: PLC0415  takes half a second, and only a submission needs it

    try:
        synsets: Any = loadmat(path, squeeze_me=True)["synsets"]
        leaves = [row for row in synsets if int(row["num_children"]) == 0]
        by_name = sorted((str(row["WNID"]), int(row["ILSVRC2012_ID"])) for row in leaves)
    except Exception as error:  # a damaged file can make the reader raise anything
        raise CompoundNetError(f"{path}: is not the development kit's meta.mat: {error}") from error
    if sorted(number for _, number in by_name) != list(range(1, 1001)):
        raise CompoundNetError(f"{path}: expected the classes 1 to 1,000, found {len(by_name)}")
    return np.array([number for _, number in by_name], np.int64)
