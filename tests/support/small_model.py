"""A model folder that is made in a moment: a narrow network with the authors' initial weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compoundnet import arch, models
from compoundnet.models.tuning import TUNING_FILE, TunedWay, Tuning
from compoundnet.models.weights_files import sha256_of


def write_small_model(
    folder: Path,
    *,
    classes: int = 7,
    labelled: bool = True,
    labels: Sequence[str] | None = None,
    in_channels: int = 3,
    postprocess: models.Postprocess | None = None,
) -> models.ModelFolder:
    """Seven classes named `class 0` and so on, 32 px; or those of `labels`."""
    import torch

    from compoundnet.nn import build

    network = arch.scale(arch.network("efficientnet-b0"), width=0.1, depth=0.1, resolution=32)
    classes = classes if labels is None else len(labels)
    network = network.replace(num_classes=classes, in_channels=in_channels)
    torch.manual_seed(0)
    if labels is None and labelled:
        labels = [f"class {index}" for index in range(classes)]
    return models.write_folder(
        folder,
        network,
        build(network).state_dict(),
        models.Preprocess.authors(32),
        labels=labels,
        postprocess=postprocess,
        readme="For tests.\n",
    )


def write_tuning(model: models.ModelFolder) -> None:
    """Give a model folder the record of `models tune` of one that measured float32 alone."""
    ways = (TunedWay("onnxruntime", "float32", 1.0, 0.5),)
    Tuning("photos, test", 28, sha256_of(model.weights), 0.99, ways).save(model.folder / TUNING_FILE)
