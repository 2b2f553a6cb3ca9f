"""`evaluate`: how often a model is right on a data set, overall and class by class."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from compoundnet.base import CompoundNetError, did_you_mean
from compoundnet.base.machine import cores
from compoundnet.data import Split
from compoundnet.data.dataset import UNKNOWN
from compoundnet.models import ExportedModel, Model, open_model
from compoundnet.runtime.sessions import session, usable
from compoundnet.train.counts import Counts, count_answers
from compoundnet.train.hardware import Hardware, launch
from compoundnet.train.results import Result, make_result

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from torch import Tensor

# Classes beyond which a confusion picture names none: the names would overlap.
_NAMED = 40


class ClassScore(msgspec.Struct, frozen=True):
    """One class: how many pictures there are, how many are right, and what the others are most often taken for."""

    label: str
    count: int
    right: int
    most_confused: str | None
    times: int


class Evaluation(msgspec.Struct, frozen=True, eq=False):
    """`classes` in the model's order, those without pictures left out; `confusion` int64[true, predicted]."""

    result: Result
    classes: tuple[ClassScore, ...]
    confusion: NDArray[np.int64]
    labels: tuple[str, ...]


def evaluate(
    model: str | os.PathLike[str] | Model,
    split: Split,
    dataset: str,
    *,
    fabric: Fabric | None = None,
    backend: str | None = None,
    threads: int | None = None,
    batch: int = 64,
    workers: int = 0,
    done: Callable[[int], object] = lambda _: None,
) -> Evaluation:
    """Of every picture of a split, once. With several processes all of them call it and get the same.

    model             a name of `compoundnet models list`, a model folder, an exported file, or an opened one of them
    backend, threads  what runs the network, see `session`: ONNX Runtime on a CPU and torch on a GPU unless given
    batch, workers    pictures at a time, and the processes that decode them, of each process

    Raises CompoundNetError where the split's classes are not among the model's, or their names are not published.
    """
    model = open_model(model)
    if (split.labels == UNKNOWN).any():
        raise CompoundNetError(
            f"the classes of {dataset}'s {split.name} pictures are not published, so nothing can be counted; write what"
            " the ImageNet server scores with --submission FILE"
        )
    mapping = match_classes(model, split)
    fabric = fabric or launch(Hardware())
    counts = count_answers(
        answers(model, fabric, backend, threads, batch), model.network.num_classes, split, model.preprocess, fabric,
        batch=batch, workers=workers, labels=mapping, done=done,
    )  # fmt: skip
    labels = model.labels or split.classes
    result = make_result(model.network.name, dataset, counts, model.name)
    return Evaluation(result, _scores(counts, labels), counts.confusion, labels)


def answers(
    model: Model, fabric: Fabric, backend: str | None, threads: int | None, batch: int
) -> Callable[[Tensor], Tensor]:
    """A session of the model on a process's device, as `count_answers` calls it."""
    import torch

    # What does not run on torch runs on the CPU, also where there is a GPU.
    on_torch = backend in (None, "torch", "compile") and "torch" in usable(
        model if isinstance(model, ExportedModel) else None
    )
    run = session(
        model,
        backend=backend,
        # Launchers of several processes share the cores out among them.
        threads=threads or min(torch.get_num_threads(), cores()),
        batch=batch,
        device=str(fabric.device) if on_torch else "cpu",
    )
    return lambda images: torch.from_numpy(run(images.numpy()))


def match_classes(model: Model, split: Split) -> NDArray[np.int64]:
    """int64[split's classes]: the model's number of each, by name; by place where the model's classes have no names."""
    if model.labels is None:
        if len(split.classes) != model.network.num_classes:
            raise CompoundNetError(
                f"{model.name} has {model.network.num_classes} classes without names, and the pictures"
                f" {len(split.classes)} classes, so they cannot be matched"
            )
        return np.arange(len(split.classes))
    numbers = {label: number for number, label in enumerate(model.labels)}
    unknown = [name for name in split.classes if name not in numbers]
    if unknown:
        raise CompoundNetError(
            f"{model.name} does not know {len(unknown)} of the {len(split.classes)} classes of these pictures, such as"
            f" {unknown[0]!r}{did_you_mean(unknown[0], numbers)}. Rename the class folders, or train on these pictures"
            " first"
        )
    return np.array([numbers[name] for name in split.classes], np.int64)


def _scores(counts: Counts, labels: tuple[str, ...]) -> tuple[ClassScore, ...]:
    scores = []
    for number, row in enumerate(counts.confusion):
        if row.sum():
            wrong = row.copy()
            wrong[number] = 0
            worst = int(wrong.argmax())
            confused = labels[worst] if wrong[worst] else None
            scores.append(ClassScore(labels[number], int(row.sum()), int(row[number]), confused, int(wrong[worst])))
    return tuple(scores)


def draw_confusion(evaluation: Evaluation, title: str) -> bytes:
    """The confusion matrix as PNG: each row in shares of its true class. Classes without pictures are left out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    present = np.flatnonzero(evaluation.confusion.sum(1) + evaluation.confusion.sum(0))
    matrix = evaluation.confusion[np.ix_(present, present)]
    shares = matrix / np.maximum(1, matrix.sum(1, keepdims=True))
    side = min(14.0, 3.5 + 0.3 * min(len(present), _NAMED))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = FigureCanvasAgg(figure).figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class")
    axes.set(xlabel="predicted", ylabel="true", title=title)
    if len(present) <= _NAMED:
        names = [evaluation.labels[number] for number in present]
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()
