"""The models of the service: the names under which clients ask for them, and how they are opened."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from compoundnet.base import CompoundNetError
from compoundnet.base.machine import check_threads
from compoundnet.models import Model, open_model
from compoundnet.runtime import Predictor
from compoundnet.runtime.backends.registry import find_backend

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FILES = (".onnx", ".xml", ".pt2", ".tflite")


class ModelAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the service says about a model.

    Attributes:
        name: The name that requests give.
        classes: Number of classes.
        several_labels: Whether an image may have several labels, or none.
        input: What the model sees of an image, in words.
        backend: The backend that runs it; None while the models are opened.
        precision: The number type that it computes in; None while the models are opened.
        labels: The class names by index; None if the classes have no names, or in the list of all models.
    """

    name: str
    classes: int
    several_labels: bool
    input: str
    backend: str | None = None
    precision: str | None = None
    labels: tuple[str, ...] | None = None


def parse_models(given: Sequence[str]) -> dict[str, str]:
    """Return the models by name: `NAME=MODEL`, or `MODEL` alone, whose name is that of its file or folder.

    Raises:
        CompoundNetError: A name is taken twice or has other characters than letters, digits, dots, `_` and `-`.
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, model = text.partition("=")
        if not equals or Path(text).exists():
            name, model = _own_name(text), text
        if not _NAME.fullmatch(name):
            raise CompoundNetError(
                f"{name!r} cannot be the name of a model: letters, digits, dots, _ and - are for names;"
                f" --model NAME={model or 'MODEL'} gives another"
            )
        if not model:
            raise CompoundNetError(f"--model {text} names no model; write NAME=MODEL")
        if name in found:
            raise CompoundNetError(f"two models are named {name}; --model NAME={model} gives one another name")
        found[name] = model
    return found


def _own_name(model: str) -> str:
    path = Path(model)
    if path.exists():
        path = path.resolve()
        return path.stem if path.suffix.lower() in _FILES else path.name
    return model.removeprefix("hf-hub:").rpartition("/")[2]


class ServedModels:
    """Models by name, each found at once and opened by `open`.

    Args:
        models: A model for each name, in the form that commands accept; the first is the default.
        backend: The backend, as for `runtime.session`.
        precision: The precision, as for `runtime.session`.
        device: The device of torch, such as cuda.
        threads: Threads of the network; all cores by default.
        batch: The most images at a time.

    Attributes:
        threads: Threads of the network.

    Raises:
        CompoundNetError: There is no such model.
    """

    def __init__(
        self,
        models: Mapping[str, str],
        *,
        backend: str | None = None,
        precision: str | None = None,
        device: str = "cpu",
        threads: int | None = None,
        batch: int = 1,
    ) -> None:
        self._found: dict[str, Model] = {name: open_model(model) for name, model in models.items()}
        self.threads = check_threads(threads)
        self._backend, self._precision, self._device, self._batch = backend, precision, device, batch
        self._opened: dict[str, Predictor] = {}
        self._together: set[str] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """The names; the first is the default."""
        return tuple(self._found)

    def open(self) -> None:
        """Open all models, and run each once. The first start of a model on a machine compiles it, for some seconds.

        Raises:
            CompoundNetError: A model cannot be opened.
        """
        for name, model in self._found.items():
            predictor = self._predictor(model, 1, 1)
            if not find_backend(predictor.session.backend).shareable:
                self._together.add(name)
                predictor = self._predictor(model, self.threads, self._batch)
            grey = np.full((64, 64, 3), 127, np.uint8)
            predictor.probabilities(predictor.preprocess.pixels(grey)[None])
            self._opened[name] = predictor

    def _predictor(self, model: Model, threads: int, batch: int) -> Predictor:
        return Predictor(
            model,
            backend=self._backend,
            precision=self._precision,
            device=self._device,
            threads=threads,
            batch=batch,
        )

    def runs_together(self, name: str) -> bool:
        """Return whether a model runs the images of a batch together, on all threads, and not an image on each."""
        return name in self._together

    def __getitem__(self, name: str) -> Predictor:
        return self._opened[name]

    def ways(self) -> list[str]:
        """Return for each open model what runs it, in one line, and if that was chosen by measurement, why."""
        return [
            f"{name} runs on {one.session.backend} in {one.session.precision}"
            if one.session.choice is None
            else msgspec.structs.replace(one.session.choice, network=name).text()
            for name, one in self._opened.items()
        ]

    def describe(self, name: str, *, labels: bool = False) -> ModelAnswer:
        """Return what clients may know about a model."""
        model, opened = self._found[name], self._opened.get(name)
        return ModelAnswer(
            name=name,
            classes=model.network.num_classes,
            several_labels=model.postprocess.multilabel,
            input=model.preprocess.describe(),
            backend=None if opened is None else opened.session.backend,
            precision=None if opened is None else opened.session.precision,
            labels=model.labels if labels else None,
        )
