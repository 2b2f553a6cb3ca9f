"""What `compoundnet models tune` measures and writes into a model folder: the agreement and accuracy of precisions.

precision.toml   the record (`Tuning`)
int8.onnx        the int8 form of the model, calibrated on images of the same data
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from compoundnet.base import CompoundNetError, TomlStruct, check
from compoundnet.models.model import Model, ModelFolder

TUNING_FILE, INT8_FILE = "precision.toml", "int8.onnx"
# The fraction of images on which a precision must predict what float32 predicts.
LEAST_AGREEMENT = 0.99


class TunedWay(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A backend in a precision.

    Attributes:
        backend: The name of the backend.
        precision: The precision.
        agreement: The fraction of the images for which it predicts what float32 predicts, 0 to 1.
        accuracy: The fraction of the images that it predicts right: the class, or all labels; 0 to 1.
    """

    backend: str
    precision: str
    agreement: float
    accuracy: float

    def __post_init__(self) -> None:
        check(0 <= self.agreement <= 1, f"agreement must be from 0 to 1, got {self.agreement}")
        check(0 <= self.accuracy <= 1, f"accuracy must be from 0 to 1, got {self.accuracy}")


class Tuning(TomlStruct, frozen=True, forbid_unknown_fields=True):
    """The precisions of a model, measured on labelled images.

    Attributes:
        data: The name of the data set and of its split.
        images: The number of images.
        weights: The sha256 of the weights that were measured.
        least_agreement: The agreement from which a precision may be used by default.
        ways: What was measured; float32 first.
        int8: The sha256 of the file in int8; empty if there is none.
    """

    data: str
    images: int
    weights: str
    least_agreement: float
    ways: tuple[TunedWay, ...]
    int8: str = ""

    def __post_init__(self) -> None:
        check(self.images > 0, f"images must be at least 1, got {self.images}")
        check(0 < self.least_agreement <= 1, f"least_agreement must be above 0, at most 1, got {self.least_agreement}")


def is_tuned(model: Model) -> bool:
    """Return whether a model is a folder with a record, so that sessions without a precision choose one by timing."""
    return isinstance(model, ModelFolder) and (model.folder / TUNING_FILE).exists()


def read_tuning(model: ModelFolder, weights: str) -> Tuning | None:
    """Return the record of a model folder; None if it has none.

    Args:
        model: The model.
        weights: The sha256 of its weights.

    Raises:
        CompoundNetError: The record is damaged, or of other weights.
    """
    file = model.folder / TUNING_FILE
    if not file.exists():
        return None
    found = Tuning.load(file)
    if found.weights != weights:
        raise CompoundNetError(
            f"{file} was measured with other weights than {model.weights.name}: `compoundnet models tune` measures"
            f" these, or delete {TUNING_FILE} and {INT8_FILE}"
        )
    return found


def int8_file(model: ModelFolder) -> Path:
    """Return the file in int8 of a tuned model.

    Raises:
        CompoundNetError: There is none.
    """
    file = model.folder / INT8_FILE
    if not file.is_file():
        raise CompoundNetError(
            f"{model.name} has no int8 form: `compoundnet models tune MODEL DATA` calibrates one and keeps it in the"
            " model folder, and `compoundnet export MODEL -o FILE.onnx --precision int8 --calibrate IMAGES` writes a"
            " file, which is a model too"
        )
    return file
