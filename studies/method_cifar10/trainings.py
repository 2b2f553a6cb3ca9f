"""The file of finished trainings, which is all the state that the study has."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec

from compoundnet.arch import Network
from compoundnet.base import CompoundNetError, decode_toml
from compoundnet.search.study.lines import Multipliers
from compoundnet.train.recipe import Recipe

FILE = "trainings.jsonl"
# Fields of a recipe that decide a training with all images on the device.
FOLLOWED = frozenset({
    "batch", "lr", "optimizer", "schedule", "epochs", "lr_batch", "warmup_epochs", "weight_decay", "decay_bias",
    "clip_norm", "label_smoothing", "norm_momentum", "area", "flip", "precision", "minival",
})  # fmt: skip
# The network without its name, the seed, and the recipe.
TrainingKey = tuple[str, int, str]


class FinishedTraining(msgspec.Struct, frozen=True):
    """One finished training, a line of the file.

    Attributes:
        stage: "tune", "scale" or "figure4".
        multipliers: (depth, width, resolution) of the baseline.
        network: The trained network, as TOML.
        seed: The seed.
        held: Top-1 accuracy on held-out training images, a fraction; 0 if training diverged.
        test: Top-1 accuracy on the test images, likewise.
        loss: Mean training loss of the last epoch; None if training diverged.
        macs: Multiply-adds of one image.
        params: Parameters.
        seconds: Duration; several trainings ran at once.
        device: The device.
        recipe: The recipe, as TOML.
        held_images: The number of held-out images.
        test_images: The number of test images.
    """

    stage: str
    multipliers: Multipliers
    network: str
    seed: int
    held: float
    test: float
    loss: float | None
    macs: int
    params: int
    seconds: float
    device: str
    recipe: str
    held_images: int
    test_images: int

    @property
    def key(self) -> TrainingKey:
        """What makes two trainings the same."""
        return _key(self.network, self.seed, self.recipe)


def training_key(network: Network, seed: int, recipe: Recipe) -> TrainingKey:
    """Return what a training depends on; a field that a later version adds to recipes does not change it."""
    # Converted: a default of 0 and a 0.0 that was read are one value.
    fields = {name: value for name, value in recipe.replace().fields().items() if name in FOLLOWED}
    followed = msgspec.json.encode(fields, order="deterministic").decode()
    return network.replace(name="network", scaling=None).dumps(), seed, followed


@cache  # asked for with every network of every report
def _key(network: str, seed: int, recipe: str) -> TrainingKey:
    return training_key(Network.loads(network), seed, decode_toml(recipe, Recipe, FILE))


class TrainingsFile:
    """The finished trainings in a folder.

    Lines are written when a job ends: on a CPU a single training, on a GPU all seeds of one network, which end
    together. A killed run loses the jobs that had not ended, and no other.

    Args:
        folder: The folder, which must exist.

    Raises:
        CompoundNetError: A line cannot be read. A last line without an end is dropped: its writer was killed.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        text = self.path.read_text() if self.path.exists() else ""
        if text and not text.endswith("\n"):
            text = text[: text.rfind("\n") + 1]
            self.path.write_text(text)
        try:
            self.rows = [msgspec.json.decode(line, type=FinishedTraining) for line in text.splitlines()]
        except msgspec.MsgspecError as error:
            raise CompoundNetError(f"{self.path}: {error}") from error

    def add(self, row: FinishedTraining) -> None:
        """Append a finished training."""
        with self.path.open("ab") as file:
            file.write(msgspec.json.encode(row) + b"\n")
        self.rows.append(row)
