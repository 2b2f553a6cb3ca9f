"""The classes of a model among those of labelled images, and whether the two can be compared."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError, did_you_mean, shortened
from compoundnet.data.dataset import UNKNOWN, Dataset, Split
from compoundnet.data.label_cells import LabelsPerImage
from compoundnet.data.names import class_name
from compoundnet.models import Model


def labels_of(model: Model) -> LabelsPerImage:
    """Return how a list of images is read for a model where the user does not say it: as what the model predicts."""
    return "several" if model.postprocess.multilabel else "one"


def check_labelled(model: Model, dataset: Dataset, split: Split) -> None:
    """Check that the predictions of a model can be judged by the labels of a split of a data set.

    Raises:
        CompoundNetError: the model does not take RGB images; the classes of the images are not published; or the images
            have several labels, and the model predicts one class.
    """
    channels = model.network.in_channels
    if channels != 3:
        raise CompoundNetError(
            f"{model.name} takes images of {channels} channel{'s' * (channels != 1)}, and all images are read as RGB,"
            " grey ones too: its accuracy cannot be measured here"
        )
    if (split.labels == UNKNOWN).any():
        raise CompoundNetError(
            f"the classes of {dataset.name}'s {split.name} images are not published, so accuracy cannot be computed;"
            " `compoundnet evaluate` writes the file that the ImageNet server scores with --submission FILE"
        )
    if split.multilabel and not model.postprocess.multilabel:
        raise CompoundNetError(
            f"{model.name} gives an image exactly one class, and these images have several labels each: train a model"
            " on such images, or take images of one class; --one-class reads each cell of a list as one"
        )


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
                f" ({shortened(split.classes, 10)}), so they cannot be matched. Write the names of the model's classes,"
                " one per line in the order of its outputs, into labels.txt in its folder; or name the class"
                f" folders by their numbers, 0 to {count - 1}"
            )
        return np.array(numbered, np.int64)
    numbers = {class_name(label): number for number, label in enumerate(model.labels)}
    unknown = [name for name in split.classes if name not in numbers]
    if unknown:
        raise CompoundNetError(
            f"{model.name} does not know {len(unknown)} of the {len(split.classes)} classes of these images: rename"
            f" these classes, or train it on these images first; one is {unknown[0]!r}"
            f"{did_you_mean(unknown[0], numbers)}"
        )
    return np.array([numbers[name] for name in split.classes], np.int64)
