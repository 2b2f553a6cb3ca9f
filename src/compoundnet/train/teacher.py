"""A teacher: what a trained model predicts for the training images, for distillation."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compoundnet.base import CompoundNetError, Progress, ignore, write_whole
from compoundnet.data import Split
from compoundnet.data.loader import normalise
from compoundnet.data.model_classes import match_classes
from compoundnet.models import ModelFolder, load
from compoundnet.models.weights_files import sha256_of
from compoundnet.train.counts import Tolerance, predict_readable
from compoundnet.train.model_outputs import logits_function, open_outputs
from compoundnet.train.processes import on_first

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_BATCH = 64
# The file in a run's folder in which `see_whole_images` keeps what it found.
KEPT = "teacher.safetensors"


class Taught(NamedTuple):
    """What a teacher says of a batch.

    Attributes:
        logits: float32[N, classes], of the student's classes, divided by the temperature to which the teacher was
            calibrated.
        features: float32[N, F], before its classifier; None if they were not asked for.
    """

    logits: Tensor
    features: Tensor | None


def check_teacher(teacher: ModelFolder, train: Split) -> NDArray[np.int64]:
    """Return int64[classes], the teacher's number of each class of the training images, matched by name.

    Raises:
        CompoundNetError: images or teacher have several labels, or the teacher does not know all of the classes.
    """
    if train.multilabel or teacher.postprocess.multilabel:
        whose = "the training images have" if train.multilabel else f"{teacher.name} gives an image"
        raise CompoundNetError(f"a teacher is for images of one class each, and {whose} several labels")
    if teacher.network.in_channels != 3:
        raise CompoundNetError(
            f"as a teacher, {teacher.name} takes images of {teacher.network.in_channels} channels, and training has 3"
        )
    try:
        return match_classes(teacher, train)
    except CompoundNetError as error:
        raise CompoundNetError(f"as a teacher, {error}") from error


class Teacher:
    """A trained model on the device of this process.

    Args:
        model: The model.
        train: The training images, of whose classes it predicts.
        fabric: The processes.
        features: Whether its features are asked for.

    Raises:
        CompoundNetError: as `check_teacher`.
    """

    def __init__(self, model: ModelFolder, train: Split, fabric: Fabric, *, features: bool) -> None:
        self.preprocess = model.preprocess
        self._model, self._train, self._fabric = model, train, fabric
        self._classes = torch.from_numpy(check_teacher(model, train)).to(fabric.device)
        self._features = features
        # On a CPU the fastest backend predicts, which gives no features; in float32, also for a tuned model.
        by_torch = features or fabric.device.type != "cpu"
        self._net = load(model).to(fabric.device, memory_format=torch.channels_last) if by_torch else None  # type: ignore[call-overload]
        self._logits = None if by_torch else logits_function(open_outputs(model, fabric, None, None, _BATCH, "float32"))
        self._whole: Taught | None = None
        self._unread = np.empty(0, np.int64)  # numbers of the images that it could not see

    def teach(self, images: Tensor) -> Taught:
        """Predict images float32[N, 3, S, S], normalised as `preprocess` says, on the device."""
        if self._logits is not None:
            return self._taught(self._logits(images.contiguous()), None)
        assert self._net is not None
        with torch.no_grad(), self._fabric.autocast(), inputs_of(self._net.classifier) as seen:
            logits = self._net(images.contiguous(memory_format=torch.channels_last))
        return self._taught(logits, seen[0].float() if self._features else None)

    def _taught(self, logits: Tensor, features: Tensor | None) -> Taught:
        return Taught(logits.float()[:, self._classes] / self._model.postprocess.temperature, features)

    @property
    def device(self) -> torch.device:
        """The device on which `teach` takes images."""
        return self._fabric.device

    def teach_pixels(self, pixels: Tensor) -> Tensor:
        """Normalise uint8[N, 3, S, S] on the device for `teach`."""
        return normalise(pixels.to(self._fabric.device, non_blocking=True), self.preprocess)

    def see_whole_images(
        self, kept: Path, *, workers: int, tolerance: Tolerance | None = None, progress: Progress = ignore
    ) -> None:
        """Predict every training image once, as in evaluation, or read it from the file `kept` if it is of the same
        model and images, by their names. All processes call it together.

        Raises:
            CompoundNetError: more images cannot be read than are tolerated.
        """
        digest = self._digest()
        found = _read(kept, digest)
        if found is None:
            found = self._predict_all(workers, tolerance, progress)
            if not len(self._unread):  # an image that is repaired has to be seen
                on_first(lambda: _write(kept, digest, found), self._fabric)
        self._whole = Taught(*(None if part is None else torch.from_numpy(part) for part in found))  # type: ignore[arg-type]

    def recall(self, indices: Tensor) -> Taught:
        """Return what it said of these training images, int64[N]. Raises CompoundNetError if it could not read one."""
        assert self._whole is not None
        logits, features = self._whole
        device = self._fabric.device
        unread = np.intersect1d(indices.numpy(), self._unread)
        if len(unread):
            raise CompoundNetError(
                f"{self._train.image_name(int(unread[0]))} can be read now, but could not be when the teacher looked at"
                " the images; --resume lets it look again"
            )
        return Taught(logits[indices].to(device), None if features is None else features[indices].to(device))

    def _predict_all(
        self, workers: int, tolerance: Tolerance | None, progress: Progress
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        classes = len(self._classes)
        width = self._model.network.classifier_features if self._features else 0

        def both(images: Tensor) -> Tensor:
            logits, features = self.teach(images.to(self._fabric.device))
            return logits if features is None else torch.cat([logits, features], 1)

        found = predict_readable(
            both, lambda found, *_: found, self._train, self.preprocess, self._fabric, columns=classes + width,
            batch=_BATCH, workers=workers, progress=progress, tolerance=tolerance,
        )  # fmt: skip
        self._unread = np.setdiff1d(np.arange(len(self._train)), found.numbers)
        rows = np.zeros((len(self._train), classes + width), np.float32)
        rows[found.numbers] = found.values
        return rows[:, :classes], rows[:, classes:] if width else None

    def _digest(self) -> str:
        digest = hashlib.sha256(sha256_of(self._model.weights).encode())
        how = f"{self.preprocess} {self._model.postprocess} {self._features} {self._train.reading}"
        digest.update(how.encode())
        for index in range(len(self._train)):
            digest.update(f"{self._train.image_name(index)}\n".encode(errors="replace"))
        return digest.hexdigest()


@contextlib.contextmanager
def inputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the inputs of a module: of a classifier they are the features."""
    seen: list[Tensor] = []

    def see(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])

    hook = module.register_forward_pre_hook(see)
    try:
        yield seen
    finally:
        hook.remove()


def _read(path: Path, digest: str) -> tuple[NDArray[np.float32], NDArray[np.float32] | None] | None:
    """Read a file of `_write`; None if there is none, or it is damaged or of another teacher or other images."""
    try:
        tensors = safetensors.numpy.load(path.read_bytes())
    except (OSError, safetensors.SafetensorError):
        return None
    if bytes(tensors["digest"]).decode() != digest:
        return None
    return tensors["logits"], tensors.get("features")


def _write(path: Path, digest: str, found: tuple[NDArray[np.float32], NDArray[np.float32] | None]) -> None:
    tensors: dict[str, NDArray[Any]] = {
        "digest": np.frombuffer(digest.encode(), np.uint8),
        "logits": np.ascontiguousarray(found[0]),
    }
    if found[1] is not None:
        tensors["features"] = np.ascontiguousarray(found[1])
    write_whole(path, safetensors.numpy.save(tensors))
