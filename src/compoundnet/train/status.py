"""The state of a run, and the events that it reports."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:  # imports torch, which a command that only passes events on does not need
    from compoundnet.train.summary import RunSummary


class Epoch(msgspec.Struct, frozen=True):
    """One epoch of the log. Losses are means over images; accuracies are fractions.

    Attributes:
        epoch: The number of the epoch, from 1.
        step: Number of steps completed at its end.
        lr: The learning rate of its last step.
        loss: On the training images, with label smoothing and augmentation.
        top1: Accuracy on the training images, with augmentation; of several labels an image the fraction of images with
            all labels right at a threshold of 0.5, as in `held_top1`.
        held_loss: On the held-out images; None if they were not evaluated.
        held_top1: Accuracy on the held-out images; None if they were not evaluated.
        images_per_second: Over all processes.
        held_map: Of several labels an image, the mean average precision (mAP) on the held-out images; else None.
        held_mean_per_class: Mean over the classes of the accuracy on their held-out images; None if they were not
            evaluated.
    """

    epoch: int
    step: int
    lr: float
    loss: float
    top1: float
    held_loss: float | None
    held_top1: float | None
    images_per_second: float
    held_map: float | None = None
    held_mean_per_class: float | None = None


class Watcher:
    """Receives the events of a run. Override the methods you need; only the first process calls them."""

    def planned(self, summary: RunSummary) -> None:
        """The run is about to start, or to resume; `summary` says what it does and needs."""

    def started(self, step: int, steps: int, batch: int) -> None:
        """Training starts, or resumes, after `step` of `steps` steps of about `batch` images."""

    def stepped(self, step: int, loss: float) -> None:
        """A step is done; `loss` is that step's."""

    def epoch_ended(self, epoch: Epoch) -> None:
        """An epoch is done."""

    def evaluation_started(self, what: str, images: int) -> None:
        """The evaluation of `images` images starts; `what` says of which ("the test images")."""

    def evaluated(self, images: int) -> None:
        """So many more of these images are evaluated."""

    def evaluation_ended(self) -> None:
        """The evaluation is done."""

    def notify(self, text: str) -> None:
        """A line of text is to be shown to the user."""


class Noted:
    """Shows lines to the user, each once, and keeps them.

    Args:
        watcher: Shows them.

    Attributes:
        lines: The lines so far.
    """

    def __init__(self, watcher: Watcher) -> None:
        self._watcher, self.lines = watcher, list[str]()

    def __call__(self, text: str) -> None:
        if text not in self.lines:
            self.lines.append(text)
            self._watcher.notify(text)


@dataclasses.dataclass
class RunState:
    """The part of a checkpoint that does not consist of tensors.

    Attributes:
        step: Steps done.
        history: The log so far, each `Epoch` as plain values.
        best_score: top-1 accuracy, or mean per class if training is balanced, of the best evaluation so far.
        evaluations_since_best: Evaluations after that one.
        best_step: Steps done before that one.
        loss: The sum of the losses of the current epoch's images.
        right: How many of the current epoch's images were classified correctly.
        seen: Images of the current epoch so far.
        seconds: Time spent on them.
        lr: The learning rate of the last step.
    """

    step: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best_score: float = -1.0
    evaluations_since_best: int = 0
    best_step: int = 0
    loss: float = 0.0
    right: int = 0
    seen: int = 0
    seconds: float = 0.0
    lr: float = 0.0

    def end_epoch(self, epoch: int, **held: float | None) -> Epoch:
        """Add an epoch to the log, and start to count the next one; `held` are the fields of its evaluation."""
        values: dict[str, Any] = {"held_loss": None, "held_top1": None} | held
        ended = Epoch(
            epoch=epoch, step=self.step, lr=self.lr, loss=self.loss / self.seen, top1=self.right / self.seen,
            images_per_second=self.seen / self.seconds, **values,
        )  # fmt: skip
        self.history.append(msgspec.to_builtins(ended))
        self.loss, self.right, self.seen, self.seconds = 0.0, 0, 0, 0.0
        return ended


def random_seed(seed: int, step: int, part: int, rank: int) -> int:
    """Return the seed of dropout and stochastic depth in one part of one step on one process."""
    digest = hashlib.blake2b(f"{seed}/{step}/{part}/{rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
