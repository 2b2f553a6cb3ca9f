"""A model that is to be explained, whatever it was given as."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from compoundnet import arch, zoo
from compoundnet.base import CompoundNetError
from compoundnet.models import Model, Preprocess
from compoundnet.models.convert import default_preprocess
from compoundnet.runtime import Exported, open_any

if TYPE_CHECKING:
    from torch import nn

    Explainable: TypeAlias = str | os.PathLike[str] | Model | Exported | nn.Module


class Subject(NamedTuple):
    """What is explained; `model` is opened, or a torch module, and `network` None for one that is not ours."""

    name: str
    network: arch.Network | None
    preprocess: Preprocess
    labels: tuple[str, ...] | None
    model: Model | Exported | nn.Module


def find_subject(
    model: Explainable, preprocess: Preprocess | None = None, labels: Sequence[str] | None = None
) -> Subject:
    """Open a model. `preprocess` and `labels` are of a torch module.

    Raises CompoundNetError where it has no weights, or does not classify RGB pictures.
    """
    if isinstance(model, str | os.PathLike | Model | Exported):
        found = _opened(model)
        subject = Subject(found.name, found.network, found.preprocess, found.labels, found)
    else:
        from compoundnet.nn import ConvNet

        network = model.spec if isinstance(model, ConvNet) else None
        name = type(model).__name__ if network is None else network.name
        how = preprocess or (None if network is None else default_preprocess(network))
        if how is None:
            raise CompoundNetError(f"a {name} does not say what its pictures go through first; give preprocess=")
        subject = Subject(name, network, how, None if labels is None else tuple(labels), model)
    network = subject.network
    if network is not None and (network.in_channels != 3 or network.num_classes < 1):
        raise CompoundNetError(
            f"{subject.name} reads {network.in_channels} channels and tells {network.num_classes} classes; a map needs"
            " a model that reads 3 (RGB) and tells at least 1"
        )
    return subject


def _opened(model: str | os.PathLike[str] | Model | Exported) -> Model | Exported:
    try:
        return open_any(model)
    except CompoundNetError as error:
        wanted = arch.canonical(model) if isinstance(model, str) else ""
        if wanted in zoo.entries():
            remedy = "in Python, cn.Explainer takes a torch module that has weights"
        elif any(wanted in members for members in arch.families().values()):
            remedy = f"`compoundnet train DATA --network {wanted} -o FOLDER` makes a model folder"
        else:
            raise
        raise CompoundNetError(f"{error}. Maps of random weights would mean nothing; {remedy}") from error
