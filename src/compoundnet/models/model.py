"""Models: the common part (network, preprocessing and labels), and the two forms on disk."""

from __future__ import annotations

from pathlib import Path

import msgspec

from compoundnet import __version__
from compoundnet.arch import Network
from compoundnet.models.postprocess import Postprocess
from compoundnet.models.preprocess import Preprocess

# Prefix of the metadata keys of an exported file.
PREFIX = "compoundnet."


class Model(msgspec.Struct, frozen=True):
    """A model that is ready to use. `open_model` returns one of its two forms.

    Attributes:
        name: The name used in messages.
        network: The network.
        preprocess: The preprocessing of an image.
        labels: The class names by index; None if the classes have no names.
        postprocess: How the logits become probabilities.
    """

    name: str
    network: Network
    preprocess: Preprocess
    labels: tuple[str, ...] | None
    postprocess: Postprocess


class ModelFolder(Model, frozen=True):
    """A model in a folder, with weights that torch can load.

    Attributes:
        weights: The safetensors file with the tensors of the network.
    """

    weights: Path

    @property
    def folder(self) -> Path:
        """The folder that holds the model."""
        return self.weights.parent

    def at_resolution(self, side: int) -> ModelFolder:
        """Return the same model for images of a side in pixels."""
        return msgspec.structs.replace(self, preprocess=msgspec.structs.replace(self.preprocess, size=side))


class ExportedModel(Model, frozen=True):
    """A model in a file that `compoundnet export` wrote.

    Attributes:
        precision: float32, float16 or int8.
        dynamic_batch: Whether it accepts any number of images at a time instead of one.
        dynamic_size: Whether it accepts images of any size of at least 32 px.
        file: The file itself.
        features: Whether it outputs the last feature map besides the logits, which class activation maps need.
        with_preprocessing: Whether it reads uint8[H, W, 3] of any size and gives probabilities; `preprocess` and
            `postprocess` are those inside.
    """

    precision: str
    dynamic_batch: bool
    dynamic_size: bool
    file: Path
    features: bool = False
    with_preprocessing: bool = False

    def properties(self) -> dict[str, str]:
        """Return the metadata that describes the model inside its file."""
        found = {
            "version": __version__,
            "name": self.name,
            "network": self.network.dumps(),
            "preprocess": self.preprocess.dumps(),
            "postprocess": self.postprocess.dumps(),
            "precision": self.precision,
            "dynamic_batch": str(self.dynamic_batch).lower(),
            "dynamic_size": str(self.dynamic_size).lower(),
            "features": str(self.features).lower(),
            "with_preprocessing": str(self.with_preprocessing).lower(),
        }
        if self.labels is not None:
            found["labels"] = "\n".join(self.labels)
        return {PREFIX + key: value for key, value in found.items()}
